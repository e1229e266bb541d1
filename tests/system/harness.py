"""Node and agent as real processes: start, watch, signal, stop. Nothing here sleeps; every wait has a deadline."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml

from tests.system.certificates import Authority, Pair

ROOT = Path(__file__).resolve().parents[2]
# Generous: a machine with two slow cores may be busy with something else.
PATIENCE_S = 30.0
_POLL_S = 0.02
# Below Linux's ephemeral range (32768 and up), so that no outgoing connection takes a port between pick and bind.
_PORTS = range(12000, 32000)
# twistd itself, but dying with the process that started it, so that a killed test run leaves nothing behind.
_LAUNCH = (
    "import ctypes, sys; ctypes.CDLL(None).prctl(1, 9); sys.argv[0] = 'twistd'; {prelude}"
    "from twisted.scripts.twistd import run; run()"
)
CLOCK_BACK = "import time; now = time.time; time.time = lambda: now() - 3600; "
"""A prelude: for this process the wall clock is an hour slow, from the start on."""

Json = Any
Settings = Mapping[str, Any]
Value = TypeVar("Value")


class StartFailed(AssertionError):
    """A process ended, or did not get ready, when it should have started."""


def wait_until(condition: Callable[[], Value | None], what: str, timeout: float = PATIENCE_S) -> Value:
    """Poll `condition` until it is true; its value."""
    deadline = time.monotonic() + timeout
    pause = threading.Event()
    while True:
        if value := condition():
            return value
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout} s for {what}")
        pause.wait(_POLL_S)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody uses now, TCP and UDP. Who starts a server on it retries if that has changed."""
    for _ in range(200):
        port = random.choice(_PORTS)
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                tcp.bind(("127.0.0.1", port))
                udp.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("no free port was found")


def runs(pid: int) -> bool:
    """Is it a process, and not one that has ended and is not yet looked at?"""
    return state(pid) not in ("", "Z")


def state(pid: int) -> str:
    """The letter that Linux has for what a process does (proc(5)); empty when there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def short(value: object) -> str:
    """A table's value as part of a test's name."""
    if isinstance(value, str):
        return value
    if callable(value):
        return "-"
    if isinstance(value, bytes):
        text = value.decode("latin-1").translate({13: None, 10: "|"})
        return "".join(letter if letter.isprintable() else "?" for letter in text)[:40] or "empty"
    return str(value)


def merged(base: Settings, extra: Settings) -> dict[str, Any]:
    """Settings with others laid over them, section by section."""
    result = dict(base)
    for key, value in extra.items():
        old = result.get(key)
        result[key] = merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return result


def environment() -> dict[str, str]:
    """What the processes inherit: the checkout's own code, and proxies in the environment that nobody may use."""
    env = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
    env["PYTHONPATH"] = str(ROOT)
    env["PYTHONUNBUFFERED"] = "1"
    env["http_proxy"] = env["https_proxy"] = env["HTTP_PROXY"] = env["all_proxy"] = "http://127.0.0.1:1"
    return env


class Process:
    """A twistd command that runs.

    Args:
        name: for messages and for the log file's name.
        arguments: behind `twistd -n --pidfile=`.
        directory: where it runs and where its output goes.
        env: more for its environment.
        terminal: a descriptor for its output, instead of the log file.
        prelude: Python that the process runs before anything else.
    """

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        directory: Path,
        env: Mapping[str, str] | None = None,
        terminal: int | None = None,
        prelude: str = "",
    ) -> None:
        self.name = name
        self.log_path = directory / f"{name}-{time.monotonic_ns()}.log"
        self._log = self.log_path.open("wb")
        self._popen = subprocess.Popen(
            [sys.executable, "-c", _LAUNCH.format(prelude=prelude), "-n", "--pidfile=", *arguments],
            cwd=directory,
            env=environment() | dict(env or {}),
            stdin=subprocess.DEVNULL,
            stdout=self._log if terminal is None else terminal,
            stderr=subprocess.STDOUT,
        )
        self.pid = self._popen.pid

    # -- its output

    @property
    def output(self) -> str:
        """All that it wrote so far."""
        return self.log_path.read_text("utf-8", "replace")

    @property
    def records(self) -> list[dict[str, Any]]:
        """Its log lines; one that is no JSON object stands as {"raw": line}."""
        records = []
        for line in self.output.splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                record = None
            records.append(record if isinstance(record, dict) else {"raw": line})
        return records

    def wait_output(self, wanted: str | Callable[[str], bool], timeout: float = PATIENCE_S) -> str:
        """Wait for a text in its output, or for output that pleases a function."""
        check = (lambda output: wanted in output) if isinstance(wanted, str) else wanted
        wait_until(lambda: check(self.output), f"{wanted!r} in the output of {self.name}", timeout)
        return self.output

    def wait_count(self, text: str, count: int, timeout: float = PATIENCE_S) -> None:
        """Wait until a text stands so many times in its output."""
        what = f"{text!r} {count} times in the output of {self.name}"
        wait_until(lambda: self.output.count(text) >= count, what, timeout)

    def faults(self) -> list[str]:
        """Lines of its output that speak of an exception which nobody handled."""
        signs = ("Traceback", "Unhandled", "unhandled", "Exception ignored", "most recent call last")
        return [line for line in self.output.splitlines() if any(sign in line for sign in signs)]

    # -- its life

    @property
    def running(self) -> bool:
        """Has it not ended?"""
        return self._popen.poll() is None

    def wait_exit(self, timeout: float = PATIENCE_S) -> int:
        """Wait for its end; the exit status."""
        try:
            return self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"{self.name} does not end; its output ends with\n{self.output[-3000:]}") from None

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self._popen.send_signal(number)

    def terminate(self) -> None:
        """SIGTERM: drain."""
        self.signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL, and wait until the kernel has cleaned up."""
        self._popen.kill()
        self._popen.wait(PATIENCE_S)

    def close(self) -> None:
        """End it whatever it does. Idempotent."""
        if self.running:
            self._popen.kill()
            self._popen.wait(PATIENCE_S)
        self._log.close()

    # -- what the kernel knows

    def memory_mib(self, field: str = "VmRSS") -> float:
        """A memory figure of /proc/PID/status in MiB; `VmHWM` is the peak of `VmRSS`."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1]) / 1024
        raise KeyError(field)

    def reset_peak(self) -> None:
        """Start the peak of the memory (VmHWM) again from what is used now."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")


class Admin:
    """Asks an admin port.

    Args:
        port: of 127.0.0.1.
        tls: a client context, or None for plain HTTP.
    """

    def __init__(self, port: int, tls: ssl.SSLContext | None) -> None:
        self.port = port
        self._tls = tls

    def get(self, path: str, timeout: float = PATIENCE_S) -> tuple[int, dict[str, str], bytes]:
        """Status, headers (lower-case names) and body."""
        connection: http.client.HTTPConnection
        if self._tls is None:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        else:
            connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=timeout, context=self._tls)
        with contextlib.closing(connection):
            connection.request("GET", path)
            response = connection.getresponse()
            body = response.read()
            return response.status, {key.lower(): value for key, value in response.getheaders()}, body

    def json(self, path: str) -> Json:
        """The JSON of a 200."""
        status, _, body = self.get(path)
        assert status == 200, (path, status, body)
        return json.loads(body)

    def status(self, path: str) -> int:
        """Only the status; 0 when nobody answers."""
        try:
            return self.get(path)[0]
        except (OSError, http.client.HTTPException):
            return 0

    def endpoints(self) -> dict[str, int]:
        """The node's local registrations; empty while it does not answer."""
        try:
            endpoints = self.json("/status/upstream/endpoints")
        except (OSError, http.client.HTTPException):
            return {}
        assert isinstance(endpoints, dict)
        return endpoints

    def metric(self, name: str, labels: str = "") -> float:
        """The sum of a metric's samples whose labels contain `labels`."""
        _, _, body = self.get("/metrics")
        total = 0.0
        for line in body.decode().splitlines():
            if line.startswith("#") or not line.startswith(name):
                continue
            rest = line[len(name) :]
            if rest[:1] in (" ", "{") and labels in rest:
                total += float(rest.rpartition(" ")[2])
        return total


@dataclass(frozen=True)
class Ports:
    """The four ports of a node."""

    proxy: int
    admin: int
    upstream: int
    gossip: int

    @classmethod
    def pick(cls) -> Ports:
        """Four free ones."""
        found: set[int] = set()
        while len(found) < 4:
            found.add(free_port())
        return cls(*found)

    def flags(self) -> list[str]:
        """The flags that give a node these ports on 127.0.0.1; 0 stands for any free one."""
        return [
            f"--proxy.bind-addr=127.0.0.1:{self.proxy}",
            f"--admin.bind-addr=127.0.0.1:{self.admin}",
            f"--upstream.bind-addr=127.0.0.1:{self.upstream}",
            f"--cluster.gossip.bind-addr=127.0.0.1:{self.gossip}",
        ]


@dataclass(frozen=True)
class Tls:
    """What the tests need for TLS on every port."""

    authority: Authority
    pair: Pair
    context: ssl.SSLContext

    @classmethod
    def make(cls, directory: Path) -> Tls:
        """An authority and one certificate for all three ports."""
        authority = Authority(directory)
        return cls(authority, authority.issue("server"), authority.client_context())

    @property
    def section(self) -> dict[str, str]:
        """A `tls` section of a node's configuration."""
        return {"cert": str(self.pair.cert), "key": str(self.pair.key)}


class Node(Process):
    """A running node."""

    def __init__(
        self, ports: Ports, tls: Tls | None, settings: Settings, directory: Path, name: str, prelude: str = ""
    ) -> None:
        self.ports = ports
        self.tls = tls
        self.config_path = directory / f"{name}-{time.monotonic_ns()}.yaml"
        self.settings = merged(self._defaults(name), settings)
        self.write_settings()
        super().__init__(name, ["pico", "--config", str(self.config_path)], directory, prelude=prelude)
        self.admin = Admin(ports.admin, tls.context if tls else None)

    def _defaults(self, name: str) -> Settings:
        settings: dict[str, Any] = {
            section: {"bind_addr": f"127.0.0.1:{port}"}
            for section, port in (
                ("proxy", self.ports.proxy),
                ("admin", self.ports.admin),
                ("upstream", self.ports.upstream),
            )
        }
        if self.tls is not None:
            for section in settings.values():
                section["tls"] = self.tls.section
        settings["cluster"] = {"node_id": name, "gossip": {"bind_addr": f"127.0.0.1:{self.ports.gossip}"}}
        return settings

    def write_settings(self, extra: Settings | None = None) -> None:
        """Write its file, with some settings laid over the old ones."""
        self.settings = merged(self.settings, extra or {})
        self.config_path.write_text(yaml.safe_dump(self.settings))

    @property
    def proxy(self) -> tuple[str, int]:
        """The proxy port's address."""
        return ("127.0.0.1", self.ports.proxy)

    @property
    def upstream(self) -> tuple[str, int]:
        """The upstream port's address."""
        return ("127.0.0.1", self.ports.upstream)

    @property
    def upstream_url(self) -> str:
        """What an agent connects to."""
        return f"{'https' if self.tls else 'http'}://localhost:{self.ports.upstream}"

    def url(self, path: str = "/", host: str = "127.0.0.1") -> str:
        """A URL of the proxy port."""
        return f"{'https' if self.tls else 'http'}://{host}:{self.ports.proxy}{path}"

    def wait_ready(self) -> None:
        """Wait until it serves. Raises StartFailed when it ends instead."""

        def ready() -> bool:
            if not self.running:
                raise StartFailed(f"{self.name} ended with {self.wait_exit()}:\n{self.output[-3000:]}")
            return self.admin.status("/ready") == 200

        try:
            wait_until(ready, f"{self.name} to be ready")
        except TimeoutError as error:
            raise StartFailed(f"{error}:\n{self.output[-3000:]}") from None

    def wait_endpoint(self, endpoint: str, count: int = 1, timeout: float = PATIENCE_S) -> None:
        """Wait until an endpoint has exactly so many registrations."""
        wait_until(
            lambda: self.admin.endpoints().get(endpoint, 0) == count, f"{count} registrations of {endpoint}", timeout
        )

    def wait_endpoints(self, endpoints: Sequence[str]) -> None:
        """Wait until each of these is registered at least once."""
        wait_until(lambda: set(endpoints) <= set(self.admin.endpoints()), f"registrations of {endpoints}")


class Agent(Process):
    """A running agent."""

    def __init__(self, settings: Settings, directory: Path, name: str, env: Mapping[str, str] | None = None) -> None:
        self.config_path = directory / f"{name}-{time.monotonic_ns()}.yaml"
        self.settings = dict(settings)
        self.config_path.write_text(yaml.safe_dump(self.settings))
        super().__init__(name, ["pico-agent", "--config", str(self.config_path)], directory, env)


class Bench:
    """Starts processes, and at the end stops all of them and shows their output if something failed.

    Args:
        directory: for configuration and output.
        tls: TLS on all ports of every node and for every agent, or None.
    """

    def __init__(self, directory: Path, tls: Tls | None = None) -> None:
        self.directory = directory
        self.tls = tls
        self.processes: list[Process] = []
        self._seen: dict[Path, int] = {}

    def node(
        self, name: str = "node-1", settings: Settings | None = None, *, ports: Ports | None = None, wait: bool = True
    ) -> Node:
        """Start a node and wait until it is ready. With no ports given, others are tried when they are taken."""
        attempts = 1 if ports is not None else 5
        while True:
            attempts -= 1
            node = Node(ports or Ports.pick(), self.tls, settings or {}, self.directory, name)
            self.processes.append(node)
            try:
                if wait:
                    node.wait_ready()
                return node
            except StartFailed:
                taken = not node.running and "in use" in node.output.lower()
                if not taken or not attempts:
                    raise
                self.processes.remove(node)
                node.close()

    def agent(
        self,
        nodes: Node | Sequence[Node] | str,
        listeners: Mapping[str, str | int | Settings],
        settings: Settings | None = None,
        *,
        name: str = "agent-1",
        wait: bool = True,
        env: Mapping[str, str] | None = None,
    ) -> Agent:
        """Start an agent and wait until its endpoints are registered at one node of those given.

        Args:
            nodes: where to connect to; a string is a URL and not waited for.
            listeners: endpoint to address of the service, or to a listener's further settings.
            settings: laid over the whole configuration.
            env: more for its environment.
        """
        some = [nodes] if isinstance(nodes, Node | str) else list(nodes)
        urls = [node if isinstance(node, str) else node.upstream_url for node in some]
        # One session each, so that it is known where requests go; test_spread.py is about more.
        connect: dict[str, Any] = {"url": urls[0] if len(urls) == 1 else urls, "connections": "1"}
        if self.tls is not None:
            connect["tls"] = {"root_cas": str(self.tls.authority.ca)}
        rows = [
            {"endpoint": endpoint, **(spec if isinstance(spec, Mapping) else {"addr": str(spec)})}
            for endpoint, spec in listeners.items()
        ]
        base = {"connect": connect, "agent_id": name, "listeners": rows}
        before = [node.admin.endpoints() for node in some if isinstance(node, Node)]
        agent = Agent(merged(base, settings or {}), self.directory, name, env)
        self.processes.append(agent)
        watched = [node for node in some if isinstance(node, Node)]
        if wait and watched:

            def registered() -> bool:
                if not agent.running:
                    raise StartFailed(f"{name} ended with {agent.wait_exit()}:\n{agent.output[-3000:]}")
                now = [node.admin.endpoints() for node in watched]
                return all(
                    sum(item.get(endpoint, 0) for item in now) > sum(item.get(endpoint, 0) for item in before)
                    for endpoint in listeners
                )

            wait_until(registered, f"the registrations of {name}; its output: {agent.output[-3000:]}")
        return agent

    def command(
        self, name: str, *arguments: str, terminal: int | None = None, env: Mapping[str, str] | None = None
    ) -> Process:
        """Start twistd with any arguments, its output in a file or on a terminal."""
        process = Process(name, arguments, self.directory, env, terminal)
        self.processes.append(process)
        return process

    def new_faults(self) -> list[str]:
        """Lines about unhandled exceptions since the last time this was asked, of all processes."""
        found = []
        for process in self.processes:
            faults = process.faults()
            seen = self._seen.get(process.log_path, 0)
            found += [f"{process.name}: {line}" for line in faults[seen:]]
            self._seen[process.log_path] = len(faults)
        return found

    def tail(self, lines: int = 15) -> str:
        """The end of every process's output, for a failure's report."""
        parts = []
        for process in self.processes:
            state = "running" if process.running else f"exit status {process.wait_exit()}"
            parts.append(f"--- {process.name} ({state})")
            parts += [line[:500] for line in process.output.splitlines()[-lines:]]
        return "\n".join(parts)

    def close(self) -> None:
        """End every process."""
        for process in reversed(self.processes):
            process.close()


@contextlib.contextmanager
def bench(directory: Path, tls: Tls | None = None) -> Iterator[Bench]:
    """A Bench for a `with` statement."""
    result = Bench(directory, tls)
    try:
        yield result
    finally:
        result.close()
