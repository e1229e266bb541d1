"""Interim heads on their way through the agent, and a request's body in chunks."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from pico_twisted.core.rpc.capabilities import INTERIM_HEADS
from pico_twisted.net.socket.end_of_turn import EndOfTurn
from tests.net.agent.agent_fakes import OK, Bench


@pytest.mark.parametrize("ends", [False, True])
def test_the_frames_of_one_turn_are_one_chunk(bench: Bench, ends: bool) -> None:
    """A service gets about as many chunks as its client sent, and not one for each frame between; none is lost."""
    bench.local.end_of_turn = EndOfTurn(bench.clock)
    request = bench.post(b"one")
    bench.service.last.taken()
    for piece in (b"two", b"three", b"four"):
        request.send(piece, more=True)
    assert bench.service.last.taken() == b""
    if ends:
        request.send(b"!", more=False)
        assert bench.service.last.taken() == b"d\r\ntwothreefour!\r\n0\r\n\r\n"
        bench.service.last.answer(OK)
        assert request.ended
    else:
        bench.clock.advance(0)
        assert bench.service.last.taken() == b"c\r\ntwothreefour\r\n"
        request.send(b"more", more=True)
        request.cancel()
    bench.clock.advance(0)
    assert bench.nothing_is_left()


def test_interim_heads_come_each_in_a_frame_of_its_own(bench: Bench) -> None:
    """1xx heads pass, and restart the wait for the final one."""
    request = bench.get()
    bench.pass_time(29)
    bench.service.last.answer(
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\n"
    )
    assert [payload[:12] for payload, more in request.frames if more] == [b"HTTP/1.1 103", b"HTTP/1.1 102"]
    bench.pass_time(29)
    bench.service.last.answer(b"Content-Length: 0\r\n\r\n")
    assert request.frames[-1][0].startswith(b"HTTP/1.1 200 OK\r\n") and request.ended


@pytest.mark.parametrize(("capabilities", "passed"), [((INTERIM_HEADS,), range(100, 1000)), ((), [15])])
def test_a_thousand_interim_heads(bench: Bench, capabilities: Collection[bytes], passed: Collection[int]) -> None:
    """As many go on as the caller can take, an older node only so few, and the final answer goes its way."""
    bench.tunnel.capabilities = capabilities
    request = bench.get()
    bench.service.last.answer(b"HTTP/1.1 102 Processing\r\n\r\n" * 1000 + OK)
    assert len(request.frames) - 1 in passed
    assert request.frames[-1][0].startswith(b"HTTP/1.1 200 OK\r\n") and request.ended


def test_interim_heads_leave_room_for_the_final_one(bench: Bench) -> None:
    """Of many large 1xx heads only some pass on: the final head must fit the window whole, whatever was sent before."""
    request = bench.get(greedy=False)
    for _ in range(10):
        bench.service.last.answer(b"HTTP/1.1 103 Early Hints\r\nLink: " + b"x" * 7000 + b"\r\n\r\n")
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nX: " + b"y" * 30000 + b"\r\n\r\n"
    bench.service.last.answer(head + b"z")
    assert len(request.frames) == 3
    assert request.frames[-1][0].endswith(b"y\r\nContent-Length: 1\r\n\r\nz")
