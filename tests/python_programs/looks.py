"""How each program of docs/python.md is looked at, through the proxy port of its node."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import pwd
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import attrs
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from tools.stage.nodes import Node
from tools.stage.processes import environment
from tools.stage.waiting import wait_until

PASSWORD: Final = "a-password"
"""Of this user, at the SSH server."""
_PATIENCE_S: Final = 60.0
_BIG: Final = 3_000_000
_HELLO, _WELCOME, _REGISTER, _REGISTERED = 1, 2, 64, 65
"""Codes of messages of WAMP's basic profile."""

Look = Callable[[Node, Path, Path], None]
"""Given the node, where the program runs, and its virtual environment."""


@attrs.frozen
class Looked:
    """A program, as it is looked at.

    Attributes:
        endpoints: those that it registers.
        look: looks.
    """

    endpoints: tuple[str, ...]
    look: Look


def ask(
    node: Node, endpoint: str, path: str = "/", method: str = "GET", body: Any = None, fields: Mapping[str, str] = {}
) -> bytes:
    """The body of an answer that has to be a good one.

    Args:
        node: asked at its proxy port.
        endpoint: by its host name.
        path: with its query.
        method: of the request.
        body: sent as JSON; None for none.
        fields: more for its head.
    """
    connection = http.client.HTTPConnection("127.0.0.1", node.ports.proxy, timeout=_PATIENCE_S)
    with contextlib.closing(connection):
        sent = {"Host": f"{endpoint}.localhost:{node.ports.proxy}", "Content-Type": "application/json", **fields}
        connection.request(method, path, None if body is None else json.dumps(body), sent)
        answer = connection.getresponse()
        data = answer.read()
        assert answer.status < 300, f"{method} {path}: {answer.status} {data[:300]!r}"
        return data


@contextlib.contextmanager
def websocket(
    node: Node, endpoint: str, path: str, fields: Mapping[str, str] = {}, subprotocols: Sequence[Subprotocol] = ()
) -> Iterator[ClientConnection]:
    """A WebSocket to an endpoint."""
    sock = socket.create_connection(("127.0.0.1", node.ports.proxy), timeout=_PATIENCE_S)
    url = f"ws://{endpoint}.localhost:{node.ports.proxy}{path}"
    with connect(url, sock=sock, additional_headers=dict(fields), subprotocols=subprotocols or None) as opened:
        yield opened


def twistd_web(node: Node, directory: Path, venv: Path) -> None:
    """A directory, and a file in it."""
    assert b"Directory listing" in ask(node, "doc")


def django(node: Node, directory: Path, venv: Path) -> None:
    """The view, and who asks."""
    assert ask(node, "hello") == b"hello 127.0.0.1"


def asgi(node: Node, directory: Path, venv: Path) -> None:
    """A WebSocket."""
    with websocket(node, "chat", "/shout") as chat:
        for text in ("hello", "x" * 100_000):
            chat.send(text)
            assert chat.recv(_PATIENCE_S) == text.upper()


def buildbot(node: Node, directory: Path, venv: Path) -> None:
    """Its pages, its events by a WebSocket, and a build on a worker that has come by an endpoint, too."""
    assert b"<html" in ask(node, "ci").lower()

    def asked(what: str) -> list[Any]:
        found: list[Any] = json.loads(ask(node, "ci", f"/api/v2/{what}"))[what]
        return found

    wait_until(lambda: any(one["connected_to"] for one in asked("workers")), "the worker to be connected", _PATIENCE_S)
    with websocket(node, "ci", "/ws") as events:
        events.send(json.dumps({"cmd": "ping", "_id": 1}))
        assert json.loads(events.recv(_PATIENCE_S))["_id"] == 1
    force = {"jsonrpc": "2.0", "id": 1, "method": "force", "params": {"builderNames": ["hello"]}}
    ask(node, "ci", "/api/v2/forceschedulers/force", "POST", force)
    wait_until(lambda: [build["results"] for build in asked("builds")] == [0], "a build to succeed", _PATIENCE_S)


def tahoe(node: Node, directory: Path, venv: Path) -> None:
    """The page of the node, and its statistics as JSON."""
    assert b"Tahoe-LAFS" in ask(node, "storage")
    assert "introducers" in json.loads(ask(node, "storage", "/?t=json"))


def wormhole(node: Node, directory: Path, venv: Path) -> None:
    """Two clients in one mailbox."""
    with websocket(node, "mailbox", "/v1") as one, websocket(node, "mailbox", "/v1") as other:
        for side, client in (("a", one), ("b", other)):
            for message in (
                {"type": "bind", "appid": "test", "side": side},
                {"type": "claim", "nameplate": "7"},
            ):
                client.send(json.dumps(message))
        opened = [_told(client, "claimed")["mailbox"] for client in (one, other)]
        assert opened[0] == opened[1]
        for client in (one, other):
            client.send(json.dumps({"type": "open", "mailbox": opened[0]}))
        one.send(json.dumps({"type": "add", "phase": "p", "body": "6162"}))
        assert _told(other, "message")["body"] == "6162"


def _told(client: ClientConnection, kind: str) -> dict[str, Any]:
    """The next message of a kind."""
    while True:
        message: dict[str, Any] = json.loads(client.recv(_PATIENCE_S))
        if message["type"] == kind:
            return message


def ssh(node: Node, directory: Path, venv: Path) -> None:
    """OpenSSH's client, a command and some megabytes."""
    asks = directory / "asks"
    asks.write_text(f"#!/bin/sh\necho {PASSWORD}\n")
    asks.chmod(0o700)
    url = f"http://127.0.0.1:{node.ports.proxy}"
    options = {
        "ProxyCommand": f"{venv / 'bin' / 'picoctl'} forward - ssh --url {url}",
        "StrictHostKeyChecking": "no",
        "UserKnownHostsFile": "/dev/null",
        "PubkeyAuthentication": "no",
    }
    flags = [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
    user = pwd.getpwuid(os.getuid()).pw_name
    done = subprocess.run(
        ["ssh", *flags, f"{user}@anywhere", f"echo here; head -c {_BIG} /dev/zero | wc -c"],
        env=environment(SSH_ASKPASS=str(asks), SSH_ASKPASS_REQUIRE="force", DISPLAY="none"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_PATIENCE_S,
        check=False,
    )
    # Conch says something of its own in front of it when it runs as root.
    assert done.stdout.split()[-2:] == ["here", str(_BIG)], done.stdout + done.stderr


def jupyter(node: Node, directory: Path, venv: Path) -> None:
    """A terminal, by its WebSocket."""
    fields = {"Authorization": "token secret"}
    wait_until((directory / "jupyter.sock").exists, "Jupyter to listen", _PATIENCE_S)
    name = json.loads(ask(node, "notebook", "/api/terminals", "POST", fields=fields))["name"]
    with websocket(node, "notebook", f"/terminals/websocket/{name}", fields) as terminal:
        terminal.send(json.dumps(["stdin", "echo $((6 * 7))\r\n"]))
        seen = ""
        while "42" not in seen:
            seen += str(json.loads(terminal.recv(_PATIENCE_S))[1:])
    ask(node, "notebook", f"/api/terminals/{name}", "DELETE", fields=fields)


def crossbar(node: Node, directory: Path, venv: Path) -> None:
    """A client of WAMP joins a realm, and calls a procedure of the router."""
    with websocket(node, "wamp", "/", subprotocols=(Subprotocol("wamp.2.json"),)) as client:
        client.send(json.dumps([_HELLO, "realm1", {"roles": {"caller": {}, "callee": {}}}]))
        assert json.loads(client.recv(_PATIENCE_S))[0] == _WELCOME
        client.send(json.dumps([_REGISTER, 1, {}, "com.example.answer"]))
        assert json.loads(client.recv(_PATIENCE_S))[:2] == [_REGISTERED, 1]


LOOKS: Final[Mapping[str, Looked]] = {
    "twistd web": Looked(("doc",), twistd_web),
    "Django with daphne": Looked(("hello",), django),
    "An ASGI application in a program of asyncio": Looked(("chat",), asgi),
    "Buildbot": Looked(("ci", "ci-workers"), buildbot),
    "Tahoe-LAFS": Looked(("storage",), tahoe),
    "magic-wormhole's mailbox server": Looked(("mailbox",), wormhole),
    "SSH with conch": Looked(("ssh",), ssh),
    "Jupyter": Looked(("notebook",), jupyter),
    "Crossbar": Looked(("wamp",), crossbar),
}
"""By the headings of the page."""
