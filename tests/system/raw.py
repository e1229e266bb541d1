"""What the tests with a raw v2 peer at the upstream port have in common."""

from __future__ import annotations

from tests.peers import v2
from tests.system.service import answer
from tests.system.stack import Stack
from tests.system.wire import Stream
from tools.stage.waiting import wait_until

OK = answer(b"ok")


def ask(stack: Stack, endpoint: str, line: str = "GET / HTTP/1.1", *fields: str, body: bytes = b"") -> Stream:
    """Send a request for a peer's endpoint; the client."""
    client = stack.connect()
    client.send(stack.head(line, *fields, endpoint=endpoint) + body)
    return client


def serves(stack: Stack, peer: v2.Agent, endpoint: str) -> None:
    """Prove that the peer's own session still carries calls."""
    client = ask(stack, endpoint, "GET /serves HTTP/1.1")
    peer.answer_call(peer.next_call().call, OK)
    assert client.read_response().body == b"ok"


def calls_of(one: v2.Peer, other: v2.Peer, count: int) -> None:
    """Wait until two peers together got so many calls."""
    wait_until(lambda: len(one.opened()) + len(other.opened()) == count, f"{count} calls")


def gone(stack: Stack, endpoint: str) -> None:
    """Wait until nobody holds the endpoint."""
    stack.wait_gone(endpoint)
