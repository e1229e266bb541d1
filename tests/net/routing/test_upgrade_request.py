"""Requests that offer an upgrade and have a body: the body goes first, and never becomes anything else."""

from __future__ import annotations

import pytest

from pico_twisted.core.rpc import frames
from pico_twisted.core.rpc.capabilities import BODY_UPGRADE
from pico_twisted.net.routing.routed_request import HOP_MARGIN_S
from pico_twisted.net.routing.upgrade_request import GATHER_S, MAX_GATHERED_BYTES, WEBSOCKET_END_S
from tests.doubles.node import pass_time
from tests.doubles.tunnel import FakeTunnel
from tests.net.doubles import OK2, SWITCH, UPGRADE_FIELDS, Case, request_head
from tests.net.routing.routed_case import TIMEOUT_S, case, head_and_body


def agent(*, understands: bool = True, agent_id: str = "agent-1") -> FakeTunnel:
    tunnel = FakeTunnel(agent_id=agent_id)
    tunnel.capabilities = frozenset((BODY_UPGRADE,) if understands else ())
    return tunnel


@pytest.fixture
def here() -> Case:
    """A node with an agent that takes bodies with upgrades."""
    return case(agent())


def test_granted(here: Case) -> None:
    """The body goes in front, the end of the client's body ends nothing, and behind the 101 bytes go both ways."""
    here.start(request_head(b"POST", *UPGRADE_FIELDS, length=5), b"he", ended=False)
    here.routed.body(b"llo")
    here.routed.body_ended()
    head, body = head_and_body(here.call)
    assert (head.upgrade, head.length, body) == (b"x", 5, b"hello") and not here.call.send_ended
    here.respond(SWITCH + b"first", True)
    here.routed.body(b"raw")
    assert head_and_body(here.call)[1] == b"helloraw"
    here.routed.body_ended()
    assert here.call.send_ended
    here.respond(b"", False)
    assert here.down.told == ["begin 101", "write", "finish", "done"]


def test_granted_before_the_body_has_ended(here: Case) -> None:
    """What is left of the body is in front of the upgraded protocol, in one stream."""
    here.start(request_head(b"POST", *UPGRADE_FIELDS, length=5), b"he", ended=False)
    here.respond(SWITCH, True)
    here.routed.body(b"llo raw")
    assert head_and_body(here.call)[1] == b"hello raw" and not here.call.send_ended


@pytest.mark.parametrize("early", [False, True])
def test_declined(here: Case, early: bool) -> None:
    """The request's stream ends behind its body, whether that was whole before the answer or not."""
    here.start(request_head(b"POST", *UPGRADE_FIELDS, length=5), b"he", ended=False)
    call = here.call
    if not early:
        here.routed.body(b"llo")
        here.routed.body_ended()
    here.respond(OK2 + b"h", True)
    assert call.send_ended is not early
    if early:
        here.routed.body(b"llo")
    assert call.send_ended and head_and_body(call)[1] == b"hello"
    here.respond(b"i", False)
    assert here.down.told == ["begin 200", "write", "finish", "done"]


@pytest.mark.parametrize("size", [0, 10, MAX_GATHERED_BYTES])
def test_chunks_are_gathered(here: Case, size: int) -> None:
    """A body whose length is not known goes when it is."""
    here.start(request_head(b"POST", *UPGRADE_FIELDS, chunked=True), b"", ended=False)
    here.routed.body(b"a" * size)
    assert not here.opened()
    here.routed.body_ended()
    head, body = head_and_body(here.call)
    assert (head.upgrade, head.length, len(body)) == (b"x", size, size) and not here.call.send_ended
    here.respond(SWITCH, True)
    assert here.down.status == 101


def test_too_many_chunks(here: Case) -> None:
    """A body that is too large to be gathered is that of a plain request."""
    here.start(request_head(b"POST", *UPGRADE_FIELDS, chunked=True), b"a" * MAX_GATHERED_BYTES, ended=False)
    here.routed.body(b"a")
    head, body = head_and_body(here.call)
    assert (head.upgrade, head.length, len(body)) == (None, None, MAX_GATHERED_BYTES + 1)
    here.routed.body(b"a")
    here.routed.body_ended()
    assert here.call.send_ended


def test_slow_chunks(here: Case) -> None:
    """So is one that takes too long."""
    here.start(request_head(b"POST", *UPGRADE_FIELDS, chunked=True), b"a", ended=False)
    pass_time(here.parts.clock, GATHER_S + 0.5)
    assert head_and_body(here.call)[0].upgrade is None
    here.routed.body(b"b")
    here.routed.body_ended()
    assert here.call.send_ended and head_and_body(here.call)[1] == b"ab"


def test_chunks_that_wait_for_a_100(here: Case) -> None:
    """A client that sends its body only when it is told to cannot be waited for."""
    here.start(request_head(b"POST", *UPGRADE_FIELDS, b"Expect: 100-continue", chunked=True), b"", ended=False)
    head, _ = head_and_body(here.call)
    assert head.upgrade is None and head.expect_continue


def test_a_client_that_leaves_while_its_body_is_gathered(here: Case) -> None:
    """Nothing of its request was sent anywhere."""
    here.start(request_head(b"POST", *UPGRADE_FIELDS, chunked=True), b"a", ended=False)
    here.routed.gone()
    assert here.down.told == ["done"] and not here.opened()


def test_a_peer_that_does_not_take_it() -> None:
    """It gets a plain request, with the same body."""
    here = case(agent(understands=False))
    here.start(request_head(b"POST", *UPGRADE_FIELDS, length=5), b"he", ended=False)
    here.routed.body(b"llo")
    head, body = head_and_body(here.call)
    assert (head.upgrade, head.length, body) == (None, 5, b"hello") and here.call.send_ended
    here.routed.body_ended()
    here.respond(OK2 + b"hi", False)
    assert here.down.told == ["begin 200", "write", "finish", "done"]


def test_without_a_body_everybody_takes_it() -> None:
    """An offer alone is what all peers know."""
    here = case(agent(understands=False))
    here.start(request_head(b"GET", *UPGRADE_FIELDS, length=0))
    assert head_and_body(here.call)[0].upgrade == b"x"


def test_another_peer_is_tried() -> None:
    """The body is sent again, and what the second peer takes decides."""
    here = case(agent(agent_id="agent-1"), agent(understands=False, agent_id="agent-2"))
    here.start(request_head(b"POST", *UPGRADE_FIELDS, length=5), b"hello", ended=True)
    offered = 0
    for _ in range(2):
        head, body = head_and_body(here.call)
        offered += head.upgrade is not None
        assert body == b"hello" and here.call.send_ended is (head.upgrade is None)
        if _ == 0:
            here.call.refuse(frames.REFUSED_DRAINING)
    assert offered <= 1


def test_a_service_that_does_not_answer(here: Case) -> None:
    """Once the body is whole the service is waited for, and before that the client."""
    here.start(request_head(b"POST", *UPGRADE_FIELDS, length=5), b"he", ended=False)
    pass_time(here.parts.clock, TIMEOUT_S + HOP_MARGIN_S + 0.5)
    assert here.down.status is None
    here.routed.body(b"llo")
    pass_time(here.parts.clock, TIMEOUT_S + HOP_MARGIN_S + 0.5)
    assert here.down.status == 504


WEBSOCKET = (b"Connection: Upgrade", b"Upgrade: WebSocket")
OPENED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


@pytest.mark.parametrize("protocol", ["WebSocket", "another"])
def test_a_client_that_does_not_end_what_its_service_has_ended(here: Case, protocol: str) -> None:
    """A WebSocket that its service has ended does not stay for ever with a client that says no more: its connection, or
    its stream, is ended. Another protocol may be closed half, and is."""
    here.start(request_head(b"GET", *(WEBSOCKET if protocol == "WebSocket" else UPGRADE_FIELDS)), b"", ended=True)
    call = here.call
    here.respond(OPENED if protocol == "WebSocket" else SWITCH, True)
    here.respond(b"bye", False)
    here.routed.body(b"goodbye")
    pass_time(here.parts.clock, WEBSOCKET_END_S + 1)
    if protocol == "WebSocket":
        assert here.down.told[-3:] == ["finish", "stop", "done"] and call.closed
    else:
        assert here.down.told[-1] == "finish" and not call.send_ended
