"""TCP calls of a raw node: our agent answers as the page of the protocol says, whatever the node sends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers import v2
from tests.peers.frames import HTTP, MORE, NOT_SUPPORTED, RESET, RESPONSE, TCP
from tests.peers.pipe import Ended
from tests.system.service import Connection, Service
from tools.stage.stage import Stage, open_stage
from tools.stage.waiting import wait_until

HEAD = b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
PLAIN = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """For an agent."""
    with open_stage(tmp_path) as result:
        yield result
        assert result.new_faults() == []


@pytest.fixture
def node(stage: Stage, service: Service) -> Iterator[v2.Peer]:
    """A raw node, with an agent that has a listener of TCP; its service says what it hears."""

    def echo(connection: Connection) -> None:
        while True:
            try:
                connection.send(connection.pipe.recv(3600))
            except Ended:
                return

    service.script = echo
    server = v2.Server()
    stage.agent(f"ws://localhost:{server.port}", {"db": {"addr": service.address, "protocol": "tcp"}})
    yield server.wait_peer(0)
    server.close()


def opened(node: v2.Peer, kind: int, payload: bytes, flags: int = MORE) -> int:
    """A call with its first frame."""
    call = node.take_id()
    node.send(kind, call, flags, payload)
    return call


def test_a_call(node: v2.Peer) -> None:
    """A 101, bytes both ways, and both ends; meanwhile another call is another connection."""
    first, second = opened(node, TCP, HEAD), opened(node, TCP, HEAD)
    for call in (first, second):
        frame = node.wait_response(call)
        assert frame.payload.startswith(b"HTTP/1.1 101 ") and b"\r\nUpgrade: tcp\r\n" in frame.payload
        assert frame.flags == RESPONSE | MORE and frame.kind == TCP
    node.send(TCP, first, MORE, b"one")
    node.send(TCP, second, 0, b"two")
    assert node.wait_stream(second, response=True).endswith(b"\r\n\r\ntwo")
    node.send(TCP, first, 0)
    assert node.wait_stream(first, response=True).endswith(b"\r\n\r\none")
    node.alive()


@pytest.mark.parametrize(
    ("payloads", "flags"),
    [([PLAIN], MORE), ([HEAD], 0), ([HEAD + b"ahead"], MORE), ([HEAD, b"ahead"], MORE), ([b"nonsense\r\n\r\n"], MORE)],
    ids=["no-offer", "ended", "bytes-in-the-frame", "bytes-behind", "nonsense"],
)
def test_what_is_no_call(node: v2.Peer, payloads: list[bytes], flags: int) -> None:
    """A call that begins with anything but an offer, or goes on before the answer, is reset, and the session stays."""
    call = node.take_id()
    for payload in payloads:
        node.send(TCP, call, flags, payload)
    assert node.wait_reset(call).startswith("protocol")
    node.alive()


def test_the_wrong_type(node: v2.Peer) -> None:
    """An http call for a listener of TCP is answered 0xC000, as often as it comes."""
    for _ in range(3):
        call = opened(node, HTTP, PLAIN, 0)
        frame = node.wait_response(call)
        assert (frame.flags, frame.payload) == (RESPONSE | NOT_SUPPORTED, b"")
    node.alive()


def test_a_caller_that_breaks_off(node: v2.Peer, service: Service) -> None:
    """A reset of the call is a reset of the service's connection."""
    ends: list[Ended] = []

    def script(connection: Connection) -> None:
        connection.send(b"hello")
        try:
            connection.pipe.recv(3600)
        except Ended as ended:
            ends.append(ended)

    service.script = script
    call = opened(node, TCP, HEAD)
    node.wait_frame(lambda frame: frame.call == call and frame.payload.endswith(b"hello"))
    node.send(TCP, call, RESET, b"cancelled")
    wait_until(lambda: bool(ends), "the end at the service")
    assert ends[0].broken
