"""Requests for the endpoint `web` of a node, each on a connection of its own or on one that stays."""

from __future__ import annotations

from tests.system import wire
from tests.system.wire import connect
from tools.stage.nodes import Node
from tools.stage.stage import Stage

GET = b"GET / HTTP/1.1\r\nHost: web.example\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: web.example\r\nContent-Length: 0\r\n\r\n"


def client_of(stage: Stage, node: Node) -> wire.Stream:
    """A raw client of a node's proxy port."""
    return connect(node.proxy, tls=stage.tls.context if stage.tls else None)


def ask(stage: Stage, node: Node, request: bytes = GET) -> wire.Response:
    """One request on a connection of its own."""
    client = client_of(stage, node)
    try:
        client.send(request)
        return client.read_response()
    finally:
        client.close()
