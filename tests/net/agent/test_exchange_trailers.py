"""Trailers at the agent: those of requests go to the service, those of the service to the caller."""

from __future__ import annotations

from typing import Any

import pytest

from pico_twisted.config import HeaderEditsConfig
from pico_twisted.core.rpc.capabilities import TRAILERS
from tests.net.agent.agent_fakes import Bench

BLOCK = b"x-t: 1\r\nhost: evil\r\nauthorization: evil\r\nx-pico-endpoint: evil\r\ncontent-length: 7\r\nx-u: \r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n%b\r\n"
UPGRADE = b"Connection: Upgrade\r\nUpgrade: echo\r\n"


def bench_that_takes(**options: Any) -> Bench:
    """An agent and a node that takes trailers."""
    bench = Bench(**options)
    bench.tunnel.capabilities = frozenset((TRAILERS,))
    return bench


@pytest.fixture
def taking() -> Bench:
    return bench_that_takes()


@pytest.mark.parametrize("method", [b"POST", b"PUT"])
def test_of_a_request(taking: Bench, method: bytes) -> None:
    """They end a body in chunks; what may not be in them is dropped here too, whatever the node let pass."""
    request = taking.get(method=method, extra=b"Trailer: X-T, Host\r\n", more=True)
    request.send(b"hello")
    request.end_with(BLOCK)
    head, _, body = taking.service.last.taken().partition(b"\r\n\r\n")
    assert b"\r\nTransfer-Encoding: chunked\r\nTrailer: X-T" in head
    assert body == b"5\r\nhello\r\n0\r\nx-t: 1\r\nx-u: \r\n\r\n"
    taking.service.last.answer(ANSWER % b"")
    assert request.ended and taking.nothing_is_left()


def test_all_of_which_are_dropped(taking: Bench) -> None:
    """The body just ends."""
    request = taking.get(method=b"POST", more=True)
    request.end_with(b"transfer-encoding: chunked\r\n")
    assert taking.service.last.taken().endswith(b"\r\n\r\n0\r\n\r\n")


def test_of_a_request_with_a_length(taking: Bench) -> None:
    """There is no place for them behind a body with a length; the request is complete all the same."""
    request = taking.get(method=b"POST", extra=b"Content-Length: 5\r\n", more=True)
    request.send(b"hello")
    request.end_with(BLOCK)
    assert taking.service.last.taken().endswith(b"\r\nContent-Length: 5\r\n\r\nhello")
    taking.service.last.answer(ANSWER % b"")
    assert request.ended and taking.nothing_is_left()


def test_of_a_request_that_is_too_short(taking: Bench) -> None:
    """It breaks the protocol, and the service sees a body that is cut."""
    request = taking.get(method=b"POST", extra=b"Content-Length: 5\r\n", more=True)
    request.send(b"hell")
    request.end_with(BLOCK)
    assert request.reset_code == "protocol" and taking.service.last.aborted


def test_that_are_sent_again(taking: Bench) -> None:
    """A request on a connection that turns out dead goes again on a fresh one, with the trailers that it had."""
    taking.warm_up()
    request = taking.get(method=b"PUT", extra=b"X: 1\r\n", more=True)
    request.send(b"hello")
    request.end_with(BLOCK)
    taking.service.last.lose()
    assert len(taking.service.transports) >= 2
    assert taking.service.last.taken().endswith(b"5\r\nhello\r\n0\r\nx-t: 1\r\nx-u: \r\n\r\n")


def test_what_an_operator_edits() -> None:
    """A field that is set or removed cannot be brought back as a trailer, either way."""
    edits = HeaderEditsConfig(set=("X-T: ours",), remove=("X-U",))
    bench = bench_that_takes(request_headers=edits, response_headers=edits)
    request = bench.get(method=b"POST", more=True)
    request.end_with(b"x-t: 1\r\nx-u: 2\r\nx-v: 3\r\n")
    assert bench.service.last.taken().endswith(b"\r\n\r\n0\r\nx-v: 3\r\n\r\n")
    bench.service.last.answer(ANSWER % b"X-T: 1\r\nX-U: 2\r\nX-V: 3\r\n")
    assert request.trailers == b"x-v: 3\r\n"


def test_of_a_response(taking: Bench) -> None:
    """They end its stream, without what the service may not say there; the connection is used again."""
    request = taking.get()
    service = taking.service.last
    service.answer(ANSWER % b"X-T:1\r\nSet-Cookie: evil\r\nContent-Length: 7\r\nX-Pico-Error: evil\r\nX-U: 2\r\n")
    assert request.body == b"hi" and request.trailers == b"x-t: 1\r\nx-u: 2\r\n"
    assert [more for _, more in request.frames] == [True]
    assert taking.get() and taking.service.last is service


def test_of_a_response_in_pieces(taking: Bench) -> None:
    """They may come alone, byte for byte, long behind the body."""
    request = taking.get()
    whole = ANSWER % b"X-T: 1\r\n"
    for at in range(len(whole)):
        assert not request.ended
        taking.service.last.answer(whole[at : at + 1])
    assert request.body == b"hi" and request.trailers == b"x-t: 1\r\n"


def test_for_a_node_that_takes_none() -> None:
    """Its stream ends without."""
    bench = Bench()
    request = bench.get(extra=b"TE: trailers\r\n")
    assert b"TE" not in bench.service.last.taken()
    bench.service.last.answer(ANSWER % b"X-T: 1\r\n")
    assert request.body == b"hi" and request.ended and not request.trailers


def test_whether_the_service_hears_that_they_are_taken(taking: Bench) -> None:
    """It does, as RFC 9110 10.1.4 wants it, when the client said so."""
    taking.get(extra=b"TE: trailers\r\n")
    assert taking.service.last.taken().endswith(b"\r\nConnection: TE\r\nTE: trailers\r\n\r\n")
    taking.service.last.answer(ANSWER % b"")
    taking.get()
    assert b"TE" not in taking.service.last.taken()


@pytest.mark.parametrize(
    "trailer", [b"X : 1", b"X: 1\r\n y", b" X: 1", b"X: \x01", b": 1", b"X", b"X: " + b"y" * 40_000, b"X: 1\nY: 2"]
)
def test_that_break_the_rules(taking: Bench, trailer: bytes) -> None:
    """A response is broken by trailers that are none; what of it was not sent on becomes an error of ours."""
    request = taking.get()
    taking.service.last.answer(ANSWER % (trailer + b"\r\n"))
    assert request.status == 502 and request.error == "agent-1; bad-response" and not request.trailers
    request = taking.get()
    taking.service.last.answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n")
    taking.service.last.answer(b"0\r\n" + trailer + b"\r\n\r\n")
    assert request.reset_code == "failed"


def test_behind_a_101(taking: Bench) -> None:
    """An upgraded protocol has no trailers: the node breaks the rules, and the service is cut."""
    request = taking.get(extra=UPGRADE, more=True)
    taking.service.last.answer(b"HTTP/1.1 101 Switching Protocols\r\n" + UPGRADE + b"\r\n")
    request.end_with(BLOCK)
    assert request.reset_code == "protocol" and taking.service.last.aborted


def test_when_the_response_has_ended(taking: Bench) -> None:
    """The caller's end is an end with trailers too: nothing is left of the call."""
    request = taking.get(method=b"POST", more=True)
    taking.service.last.answer(ANSWER % b"")
    request.end_with(BLOCK)
    assert request.ended and taking.nothing_is_left()
