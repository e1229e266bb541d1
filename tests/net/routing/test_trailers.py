"""Trailers of requests on their way, and of the responses to them."""

from __future__ import annotations

import pytest

from pico_twisted.core.rpc import frames
from pico_twisted.core.rpc.capabilities import BODY_UPGRADE, TRAILERS
from tests.doubles.tunnel import FakeTunnel
from tests.net.doubles import OK, UPGRADE_FIELDS, Case, request_head
from tests.net.routing.routed_case import case, head_and_body

BLOCK = b"x-t: 1\r\n"


def agents(count: int, **kwargs: object) -> list[FakeTunnel]:
    """Sessions of different agents that take trailers."""
    tunnels = [FakeTunnel(agent_id=f"agent-{number}") for number in range(1, count + 1)]
    for tunnel in tunnels:
        tunnel.capabilities = frozenset((TRAILERS, BODY_UPGRADE))
    return tunnels


@pytest.fixture
def here() -> Case:
    """A node with an agent that takes trailers."""
    return case(*agents(1))


def test_a_request(here: Case) -> None:
    """They end the request, once: in place of its end, not beside it."""
    here.start(request_head(b"POST", chunked=True), b"body", ended=False)
    here.routed.trailers(BLOCK)
    here.routed.body_ended()
    here.routed.trailers(b"other: 1\r\n")
    assert head_and_body(here.call)[1] == b"body" and here.call.trailers == BLOCK and here.call.send_ended


def test_a_response(here: Case) -> None:
    """They come behind the last byte and before the end; then the request is over."""
    here.start(request_head())
    here.respond(OK.replace(b"Content-Length: 2\r\n", b"") + b"hi", True)
    here.call.respond_with_trailers(BLOCK)
    assert (bytes(here.down.data), here.down.trailers) == (b"hi", BLOCK)
    assert here.down.told == ["begin 200", "write", "finish", "done"]
    assert not here.parts.cluster.pending


def test_a_response_before_its_request_has_ended(here: Case) -> None:
    """The call lives on until the request has ended, with trailers too."""
    here.start(request_head(b"POST", chunked=True), b"body", ended=False)
    call = here.call
    here.respond(b"HTTP/1.1 200 OK\r\n\r\n", True)
    call.respond_with_trailers(BLOCK)
    assert here.down.told[-1] == "finish" and here.parts.cluster.pending
    here.routed.trailers(BLOCK)
    assert here.down.told[-1] == "done" and call.trailers == BLOCK and not here.parts.cluster.pending


@pytest.mark.parametrize("begun", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhi"])
def test_where_they_have_no_place(here: Case, begun: bytes) -> None:
    """Before a head, or behind a body that is too short, they break the rules."""
    here.start(request_head(b"POST", length=4), b"bo", ended=False)
    call = here.call
    if begun:
        here.respond(begun, True)
    call.respond_with_trailers(BLOCK)
    assert call.reset_code == frames.PROTOCOL
    assert here.down.told[-2:] == (["cut", "done"] if begun else ["fail 502", "done"])


def test_a_request_that_is_made_again() -> None:
    """A body that is sent again ends with the trailers that it had."""
    first, second = agents(2)
    here = case(first, second)
    here.start(request_head(b"PUT", chunked=True), b"body", ended=False)
    here.routed.trailers(BLOCK)
    here.call.refuse(frames.FAILED)
    assert len(first.opened) == len(second.opened) == 1
    for call in (first.opened[0], second.opened[0]):
        assert head_and_body(call)[1] == b"body" and call.trailers == BLOCK and call.send_ended


def test_a_request_that_is_whole_when_it_is_made_again() -> None:
    """So does one whose trailers came while nobody had it."""
    here = case(*agents(2))
    here.start(request_head(b"PUT", chunked=True), b"body", ended=False)
    here.call.refuse(frames.REFUSED_DRAINING)
    here.routed.trailers(BLOCK)
    assert here.call.trailers == BLOCK and head_and_body(here.call)[1] == b"body"


def test_an_agent_that_takes_none() -> None:
    """It does not hear that the client takes some, and gets none."""
    here = case(FakeTunnel())
    here.start(request_head(b"POST", b"TE: trailers", chunked=True), b"body", ended=False)
    here.routed.trailers(BLOCK)
    assert head_and_body(here.call)[0].get(b"te") is None
    assert here.call.send_ended and not here.call.trailers
    here = case(*agents(1))
    here.start(request_head(b"POST", b"TE: trailers"))
    assert head_and_body(here.call)[0].get(b"te") == b"trailers"


def test_an_agent_of_version_1() -> None:
    """It gets the whole body, and nothing of trailers."""
    here = case(FakeTunnel(version=1))
    here.start(request_head(b"POST", b"TE: trailers", chunked=True), b"body", ended=False)
    here.routed.trailers(BLOCK)
    head, body = head_and_body(here.call)
    assert (head.length, head.get(b"te"), body) == (4, None, b"body") and here.call.send_ended


@pytest.mark.parametrize("length", [None, 4])
def test_an_offer_to_upgrade(here: Case, length: int | None) -> None:
    """Behind its body is its end, or the upgraded protocol: its trailers are left out."""
    head = request_head(b"POST", *UPGRADE_FIELDS, length=length, chunked=length is None)
    here.start(head, b"body", ended=False)
    here.routed.trailers(BLOCK)
    call = here.call
    assert head_and_body(call)[1] == b"body" and not call.send_ended
    here.respond(OK + b"hi", False)
    assert here.down.told[-1] == "done" and call.send_ended and not call.trailers
