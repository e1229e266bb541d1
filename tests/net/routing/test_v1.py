"""Requests that go to agents of version 1."""

from __future__ import annotations

import pytest

from pico_twisted.core.http1.client_connection import CLIENT_CONNECTION
from pico_twisted.core.rpc import frames
from tests.doubles.node import pass_time
from tests.doubles.tunnel import FakeTunnel
from tests.net.doubles import OK2, UPGRADE_FIELDS, Case, FakeDownstream, request_head
from tests.net.routing.routed_case import IDLE_S, case, head_and_body


class TestVersion1:
    """Agents of the first generation get whole messages."""

    @pytest.fixture
    def here(self) -> Case:
        """A node with one v1 agent."""
        return case(FakeTunnel(version=1))

    def test_body_is_gathered(self, here: Case) -> None:
        """The request goes on when its body is whole, with the length that it has."""
        routed = here.start(request_head(b"POST", chunked=True), b"one ", False)
        routed.body(b"two ")
        assert here.opened() == []
        routed.body(b"three")
        routed.body_ended()
        head, body = head_and_body(here.call)
        assert head.length == 13 and not head.chunked and body == b"one two three"
        assert here.call.send_ended
        here.respond(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", False)
        assert here.down.answer is not None and here.down.answer.length == 2
        assert here.down.told == ["begin 200", "write", "finish", "done"]

    @pytest.mark.parametrize(("first", "rest"), [(b"", b"abc"), (b"abc", b"def"), (b"abc", None), (b"", b"")])
    def test_a_body_that_its_head_does_not_speak_of(self, here: Case, first: bytes, rest: bytes | None) -> None:
        """Over a node link a head says nothing of an unknown length; to a v1 agent it has to, or the body would be
        taken for the next request."""
        routed = here.start(request_head(b"POST"), first, rest is None)
        if rest is not None:
            routed.body(rest)
            routed.body_ended()
        head, body = head_and_body(here.call)
        assert body == first + (rest or b"") and head.length == len(body)

    def test_without_a_body(self, here: Case) -> None:
        """A request without a body goes at once."""
        here.start(request_head())
        assert head_and_body(here.call)[0].length is None

    def test_no_name_of_a_client(self, here: Case, monkeypatch: pytest.MonkeyPatch) -> None:
        """What a node says of a client's connection is not for such an agent, which would pass it on."""
        head = b"GET / HTTP/1.1\r\n" + CLIENT_CONNECTION + b": %032x\r\nHost: a\r\nX: 1\r\n\r\n" % 7
        monkeypatch.setattr(FakeDownstream, "write_head", lambda *_: head)
        here.start(request_head())
        assert bytes(here.call.sent) == b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n\r\n"

    def test_body_of_length_zero(self, here: Case) -> None:
        """A length of zero stays."""
        here.start(request_head(b"POST", length=0))
        assert head_and_body(here.call)[0].length == 0

    def test_larger_than_the_replay(self) -> None:
        """Bodies over 64 KiB are gathered too, up to the limit of v1."""
        here = case(FakeTunnel(version=1, v1_body_bytes=1_000_000))
        routed = here.start(request_head(b"POST", chunked=True), b"", False)
        for _ in range(10):
            routed.body(bytes(60_000))
        routed.body_ended()
        assert len(head_and_body(here.call)[1]) == 600_000

    def test_too_large(self) -> None:
        """A body over the limit is 413, at its head when it tells its length, else when it gets too long."""
        here = case(FakeTunnel(version=1, v1_body_bytes=1000))
        here.start(request_head(b"POST", length=1001), b"", False)
        assert here.down.failure is not None and here.down.failure[0] == 413
        here = case(FakeTunnel(version=1, v1_body_bytes=1000))
        routed = here.start(request_head(b"POST", chunked=True), b"", False)
        routed.body(bytes(1000))
        assert here.down.status is None
        routed.body(b"x")
        assert here.down.failure is not None and here.down.failure[0] == 413
        routed.body(b"y")
        routed.body_ended()
        assert here.down.told == ["fail 413", "done"] and here.opened() == []

    def test_too_large_in_one_read(self) -> None:
        """The limit holds as well for a body that came whole with its head."""
        here = case(FakeTunnel(version=1, v1_body_bytes=10))
        here.start(request_head(b"POST", length=11), bytes(11), True)
        assert here.down.status == 413

    def test_expect(self, here: Case) -> None:
        """The node itself answers an Expect: nobody behind it can."""
        routed = here.start(request_head(b"POST", b"Expect: 100-continue", length=4), b"", False)
        assert here.down.interims == [100]
        routed.body(b"body")
        routed.body_ended()
        here.respond(OK2 + b"hi", False)
        assert here.down.interims == [100] and here.down.status == 200

    def test_upgrade(self, here: Case) -> None:
        """An upgrade goes on as a plain request."""
        here.start(request_head(b"GET", *UPGRADE_FIELDS))
        assert b"upgrade" not in bytes(here.call.sent).lower() and here.call.send_ended
        here.respond(OK2 + b"hi", False)
        assert here.down.told == ["begin 200", "write", "finish", "done"]

    def test_v2_takes_over(self, here: Case) -> None:
        """When the v1 agent has gone until the body is whole, the one that is there gets it."""
        routed = here.start(request_head(b"POST", chunked=True), bytes(50_000), False)
        routed.body(bytes(50_000))
        here.tunnels[0].lose()
        new = FakeTunnel(agent_id="new")
        here.parts.cluster.register(new)
        routed.body_ended()
        (call,) = new.calls
        assert head_and_body(call)[1] == bytes(100_000) and call.send_ended

    def test_from_v2_to_v1(self) -> None:
        """A request that was refused by a v2 agent and comes to a v1 agent waits for its whole body then."""
        new, old = FakeTunnel(agent_id="new"), FakeTunnel(agent_id="old", version=1)
        here = case(new, old)
        routed = here.start(request_head(b"POST", length=8), b"one ", False)
        if old.calls or not new.calls:
            pytest.fail("the v2 agent was to be first")
        new.calls[0].refuse(frames.REFUSED_BUSY)
        assert old.calls == []
        routed.body(b"two!")
        routed.body_ended()
        assert head_and_body(old.calls[0])[1] == b"one two!"

    def test_busy(self) -> None:
        """0xC000 of a v1 agent is a refusal: the request is made again elsewhere."""
        here = case(FakeTunnel(version=1, agent_id="a"), FakeTunnel(version=1, agent_id="b"))
        here.start(request_head(b"POST", length=2), b"hi")
        here.call.refuse(frames.UNSUPPORTED)
        here.respond(OK2 + b"hi", False)
        assert here.down.status == 200

    def test_slow_body(self, here: Case) -> None:
        """While the body is gathered it is the client that is waited for: 408 when it stops."""
        routed = here.start(request_head(b"POST", length=100), b"", False)
        for _ in range(4):
            pass_time(here.parts.clock, IDLE_S - 1)
            routed.body(b"x")
        assert here.down.status is None
        pass_time(here.parts.clock, IDLE_S + 0.5)
        assert here.down.failure is not None and here.down.failure[0] == 408

    def test_client_leaves_while_the_body_is_gathered(self, here: Case) -> None:
        """Nothing of the request reaches the agent, and the call is counted no more."""
        routed = here.start(request_head(b"POST", length=8), b"one ", False)
        assert len(here.parts.cluster.pending) == 1
        routed.gone()
        assert here.opened() == [] and not here.parts.cluster.pending
        assert here.down.told == ["done"]

    def test_slow_client(self, here: Case) -> None:
        """A pause that came while the body was gathered holds for the call."""
        routed = here.start(request_head(b"POST", length=4), b"", False)
        routed.pause()
        routed.body(b"body")
        routed.body_ended()
        call = here.call
        call.respond(OK2 + b"hi", False)
        assert here.down.told == ["begin 200", "write", "finish", "done"] and call.consumed == 0

    def test_nobody_takes_over(self, here: Case) -> None:
        """When the v1 agent has gone until the body is whole, and nobody is there, nothing of it is sent: 502."""
        routed = here.start(request_head(b"POST", length=4), b"", False)
        here.tunnels[0].lose()
        routed.body(b"body")
        routed.body_ended()
        assert here.down.status == 502 and here.opened() == [] and not here.parts.cluster.pending

    def test_loop(self, here: Case) -> None:
        """A request that goes in circles is 508, also when that is found once its body is whole."""
        via = b"Via: " + b", ".join([b"1.1 pico-x"] * 10)
        routed = here.start(request_head(b"POST", via, length=4), b"", False)
        routed.body(b"body")
        routed.body_ended()
        assert here.down.failure is not None and here.down.failure[0] == 508
        assert here.opened() == [] and not here.parts.cluster.pending
