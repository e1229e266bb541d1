"""twistd commands that start quickly: forked from a process that has imported what they need.

A daemon spends half a second of CPU on its imports, and the tests start hundreds. So a process of its own, the parent
of them all, imports what can be shared once: everything but the modules that install the reactor, whose descriptors
must not be shared. What a test sees is a twistd of its own: its environment, directory, process group and output, and
its death when the test run dies.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import pkgutil
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

_PACKAGES: Final = (
    "pico_twisted.config",
    "pico_twisted.core",
    "pico_twisted.net",
    "pico_twisted.app.cli",
    "pico_twisted.app.process",
    "pico_twisted.app.workers",
)
"""Whose modules are imported ahead."""
_INSTALLS_THE_REACTOR: Final = ("pico_twisted.net.admin.app",)
_ALSO: Final = (
    "pico_twisted.app.joining",
    "twisted.application.app",
    "twisted.scripts.twistd",
    "twisted.web.server",
    "twisted.web.template",  # as what follows: for klein, which installs the reactor
    "werkzeug.exceptions",
    "werkzeug.routing",
    "werkzeug.utils",
)
_MESSAGE_BYTES: Final = 1 << 20
_POLL_S: Final = 0.01
_PARENT: Final = (
    "from tools.stage.forking import serve; serve({descriptor}); from twisted.scripts.twistd import run; run()"
)


class Forked:
    """A process that was forked, with the methods of subprocess.Popen that the stage uses."""

    def __init__(self, pid: int, server: ForkServer) -> None:
        self.pid = pid
        self._server = server

    def poll(self) -> int | None:
        """How it ended, as subprocess tells it; None while it runs."""
        return self._server.status(self.pid)

    def wait(self, timeout: float) -> int:
        """Wait for its end. Raises subprocess.TimeoutExpired."""
        deadline = time.monotonic() + timeout
        while (status := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("twistd", timeout)
            time.sleep(_POLL_S)
        return status

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL, unless it has ended."""
        self.send_signal(signal.SIGKILL)


class ForkServer:
    """The parent of the processes, and what it tells of them. It is started when the first process is.

    Args:
        environment: its own; that of each process is told with its order.
        directory: where the code is imported from.
    """

    def __init__(self, environment: Mapping[str, str], directory: Path) -> None:
        self._environment = environment
        self._directory = directory
        self._socket, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._popen: subprocess.Popen[bytes] | None = None
        self._ended: dict[int, int] = {}
        self._lock = threading.Lock()

    def start(self, arguments: Sequence[str], directory: Path, env: Mapping[str, str], output: int) -> Forked:
        """Fork a twistd.

        Args:
            arguments: behind `twistd`.
            directory: where it runs.
            env: its whole environment.
            output: a descriptor for its output.
        """
        order = {"arguments": list(arguments), "directory": str(directory), "env": dict(env)}
        with self._lock:
            if self._popen is None:
                self._popen = self._begin()
            socket.send_fds(self._socket, [json.dumps(order).encode()], [output])
            while True:
                answer = self._receive()
                if "started" in answer:
                    return Forked(answer["started"], self)

    def status(self, pid: int) -> int | None:
        """How a process of this server ended; None while it runs."""
        with self._lock:
            self._socket.setblocking(False)
            try:
                while pid not in self._ended:
                    self._receive()
            except BlockingIOError:
                return None
            finally:
                self._socket.setblocking(True)
            return self._ended[pid]

    def close(self) -> None:
        """End the parent, and with it all that still run."""
        self._socket.close()
        self._theirs.close()
        if self._popen is not None:
            self._popen.wait()

    def _begin(self) -> subprocess.Popen[bytes]:
        with self._theirs as theirs:
            return subprocess.Popen(
                [sys.executable, "-c", _PARENT.format(descriptor=theirs.fileno())],
                cwd=self._directory,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                process_group=0,
            )

    def _receive(self) -> dict[str, int]:
        data = self._socket.recv(_MESSAGE_BYTES)
        if not data:
            raise OSError("the process that forks twistd has ended")
        answer: dict[str, int] = json.loads(data)
        if "ended" in answer:
            self._ended[answer["ended"]] = answer["status"]
        else:
            self._ended.pop(answer["started"], None)  # the kernel uses numbers again
        return answer


def serve(descriptor: int) -> None:
    """Be the parent: fork for each order that comes, and tell when a process has ended.

    Returns only in the processes that were forked, which are ready to be twistd.
    """
    _die_with_parent()
    _import_ahead()
    ours = socket.socket(fileno=descriptor)
    selector = selectors.DefaultSelector()
    selector.register(ours, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.data is not None:
                selector.unregister(key.fileobj)
                os.close(key.fd)
                status = os.waitstatus_to_exitcode(os.waitpid(key.data, 0)[1])
                ours.send(json.dumps({"ended": key.data, "status": status}).encode())
                continue
            message, descriptors, _, _ = socket.recv_fds(ours, _MESSAGE_BYTES, 1)
            if not message:
                sys.exit()
            pid = os.fork()
            if pid == 0:
                selector.close()
                ours.close()
                _become(json.loads(message), descriptors[0])
                return
            os.close(descriptors[0])
            selector.register(os.pidfd_open(pid), selectors.EVENT_READ, pid)
            ours.send(json.dumps({"started": pid}).encode())


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def _import_ahead() -> None:
    for name in _ALSO:
        importlib.import_module(name)
    for package in _PACKAGES:
        path = importlib.import_module(package).__path__
        for module in pkgutil.walk_packages(path, f"{package}."):
            if module.name not in _INSTALLS_THE_REACTOR:
                importlib.import_module(module.name)
    if "twisted.internet.reactor" in sys.modules:
        raise RuntimeError("one of the modules that are imported ahead installs the reactor")
    gc.collect()
    gc.freeze()


def _become(order: dict[str, Any], output: int) -> None:
    _die_with_parent()
    os.setpgid(0, 0)
    os.chdir(order["directory"])
    os.environ.clear()
    os.environ.update(order["env"])
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    sys.argv = ["twistd", *order["arguments"]]
