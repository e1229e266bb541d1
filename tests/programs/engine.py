"""As much of Docker's engine as `docker exec` and `docker attach` ask for: one container, which echoes its input."""

from __future__ import annotations

import json
import re
from typing import Final

from tests.system.service import Connection, answer
from tests.system.wire import Request

CONTAINER: Final = "c1"
_EXEC: Final = "e1"
_VERSION: Final = {"ApiVersion": "1.41", "MinAPIVersion": "1.24", "Version": "20.10.0", "Os": "linux", "Arch": "amd64"}
_STATE: Final = {"Status": "running", "Running": True, "Paused": False, "Restarting": False, "ExitCode": 0}
_TTY: Final = {"Tty": False, "OpenStdin": True, "StdinOnce": True, "AttachStdin": True}
_JSON: Final = (("Content-Type", "application/json"), ("Api-Version", "1.41"), ("Ostype", "linux"))
_UPGRADED: Final = (
    b"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\n"
    b"Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
)
_STDOUT: Final = 1


def engine(connection: Connection) -> None:
    """Serve a connection; `exec` and `attach` send a body and ask for an upgrade in the same request."""
    while True:
        request = connection.read_request()
        path = re.sub(r"^/v[0-9.]+", "", request.target.decode()).partition("?")[0]
        if path in (f"/exec/{_EXEC}/start", f"/containers/{CONTAINER}/attach"):
            if (request.get("upgrade") or b"").lower() != b"tcp":
                connection.send(answer(b'{"message": "no upgrade"}', status=400, headers=_JSON))
                continue
            body = request.body.decode() or "nothing"
            connection.send(_UPGRADED + _multiplexed(f"asked with {body.strip()}\n".encode()))
            _echo(connection)
            return
        connection.send(_answer(request, path))


def _echo(connection: Connection) -> None:
    line = b""
    while not line.endswith(b"\n"):
        line += connection.read(1)
    connection.send(_multiplexed(b"echo: " + line))
    connection.close()


def _multiplexed(data: bytes) -> bytes:
    """A piece of a container's output, as the engine's streams have it: its source, three zeros, its length."""
    return bytes((_STDOUT, 0, 0, 0)) + len(data).to_bytes(4, "big") + data


def _answer(request: Request, path: str) -> bytes:
    known: dict[str, tuple[int, object]] = {
        "/_ping": (200, "OK"),
        "/version": (200, _VERSION),
        f"/containers/{CONTAINER}/json": (200, {"Id": CONTAINER, "Name": "/c1", "State": _STATE, "Config": _TTY}),
        f"/containers/{CONTAINER}/exec": (201, {"Id": _EXEC}),
        f"/containers/{CONTAINER}/wait": (200, {"StatusCode": 0}),
        f"/exec/{_EXEC}/json": (200, {"ID": _EXEC, "Running": False, "ExitCode": 0, "Pid": 1}),
    }
    status, said = known.get(path, (404, {"message": f"no such path: {path}"}))
    body = b"" if request.method == b"HEAD" else json.dumps(said).encode()
    return answer(body, status=status, headers=_JSON)
