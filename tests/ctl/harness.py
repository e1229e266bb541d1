"""picoctl, in this process or as one of its own, and servers for it to ask."""

from __future__ import annotations

import contextlib
import io
import os
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from unittest import mock

from pico_twisted.ctl.main import run
from tests.peers.pipe import Ended, Listener, Pipe
from tools.stage.processes import environment as stage_environment

PROGRAM = [sys.executable, "-c", "from pico_twisted.ctl.main import main; main()"]
PATIENCE_S = 60.0

Done = subprocess.CompletedProcess[str]


def environment(**variables: str) -> dict[str, str]:
    """What picoctl inherits: no address to ask and no token, 80 columns, and proxies that must not be used."""
    kept = stage_environment(**{"COLUMNS": "80", **variables})
    return {name: value for name, value in kept.items() if not name.startswith("PICO_") or name in variables}


def picoctl(*arguments: str, cwd: Path | None = None, own_process: bool = False, **variables: str) -> Done:
    """Run picoctl to its end. It never shows a traceback.

    A bench, which brings a reactor, is a process of its own, and so is what Python itself has to be told at its start,
    and what changes its process. All else runs here: a start costs more than what is tested.
    """
    if own_process or arguments[:1] == ("bench",) or any(name.startswith("PYTHON") for name in variables):
        done = _as_process(arguments, cwd, variables)
    else:
        done = _in_this_process(arguments, cwd, variables)
    assert "Traceback" not in done.stderr, done.stderr
    assert "Exception" not in done.stderr, done.stderr
    return done


def _as_process(arguments: Sequence[str], cwd: Path | None, variables: dict[str, str]) -> Done:
    return subprocess.run(
        [*PROGRAM, *arguments],
        env=environment(**variables),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=PATIENCE_S,
        check=False,
        encoding="utf-8",
    )


def _in_this_process(arguments: Sequence[str], cwd: Path | None, variables: dict[str, str]) -> Done:
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    with (
        mock.patch.dict(os.environ, environment(**variables), clear=True),
        contextlib.chdir(cwd or Path.cwd()),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        status = run(arguments)
    said = [stream.buffer.getvalue().decode() for stream in (out, err)]
    return Done(list(arguments), status, *said)


Handle = Callable[[Pipe, bytes], None]
"""Is given a connection and the head of its request; the connection is closed afterwards."""


@contextlib.contextmanager
def serving(handle: Handle, context: ssl.SSLContext | None = None, *, head_ends: bytes = b"\r\n\r\n") -> Iterator[str]:
    """A server on 127.0.0.1.

    Args:
        handle: for each connection, once what it waits for has come.
        context: for TLS.
        head_ends: what it waits for.

    Yields:
        The server's URL.
    """

    def serve(connection: Pipe) -> None:
        head = b""
        with contextlib.suppress(Ended, TimeoutError):
            while head_ends not in head:
                head += connection.recv(PATIENCE_S)
            handle(connection, head)

    with contextlib.closing(Listener(serve, tls=context)) as listener:
        yield f"http{'s' if context else ''}://127.0.0.1:{listener.port}"


def saying(answer: bytes) -> Handle:
    """For `serving`: these bytes, then the end of the connection."""

    def handle(connection: Pipe, head: bytes) -> None:
        connection.send(answer)

    return handle


def http_answer(body: bytes, status: str = "200 OK", content_type: str = "application/json") -> bytes:
    """A whole HTTP answer."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body
