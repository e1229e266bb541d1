"""A service that takes the body of one request for the next request, behind an agent that keeps connections."""

from __future__ import annotations

import pytest

from tests.system.service import Connection, Service, answer
from tests.system.wire import connect
from tools.stage.nodes import Node
from tools.stage.stage import Stage
from tools.stage.waiting import wait_until

STOLEN = b"GET /stolen HTTP/1.1\r\nHost: x\r\n\r\n"


def overlooks_bodies(connection: Connection) -> None:
    """A service that looks for no body, and is slow with what it takes for a request: until another one comes."""
    while True:
        lines = [connection.read_head(3600).partition(b"\r\n")[0]]
        while b"/stolen" in lines[-1]:
            lines.append(connection.read_head(3600).partition(b"\r\n")[0])
        for line in lines:
            connection.send(answer(line))


def ask(node: Node, method: bytes, target: bytes, body: bytes = b"") -> bytes:
    """The answer that a client of its own gets."""
    client = connect(node.proxy)
    length = b"Content-Length: %d\r\n" % len(body) if body else b""
    client.send(method + b" " + target + b" HTTP/1.1\r\nHost: web.example\r\n" + length + b"\r\n" + body)
    response = client.read_response()
    client.close()
    return response.body


@pytest.mark.parametrize("stage", ["plain"], indirect=True)
@pytest.mark.parametrize("reuse", ["safe", "never", "always"])
def test_nobody_gets_the_answer_to_a_body(stage: Stage, reuse: str) -> None:
    """What a service makes of a body that it does not look for is answered to nobody, at one node and across two. With
    `reuse: always` the next client would get it, which shows that this service does what the test is about."""
    service = Service(overlooks_bodies)
    near = stage.node("near")
    away = stage.node("away", {"cluster": {"join": [f"127.0.0.1:{near.ports.gossip}"]}})
    stage.agent(near, {"web": {"addr": service.address, "reuse": reuse}})
    wait_until(lambda: "web" in away.admin.json("/status/cluster/endpoints"), "news of the endpoint")
    for node in (near, away):
        for method in (b"GET", b"DELETE", b"OPTIONS"):
            assert ask(node, method, b"/attack", STOLEN) == method + b" /attack HTTP/1.1"
            victim = ask(node, b"GET", b"/victim")
            assert victim == b"GET /%s HTTP/1.1" % (b"stolen" if reuse == "always" else b"victim")
            if reuse == "always":
                break  # from here on every answer is the one before's
        if reuse == "always":
            break
    if reuse == "never":
        assert len(service.connections) == 12
    service.close()
