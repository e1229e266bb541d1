"""One request on its way: time out, and agents of version 1."""

from __future__ import annotations

import pytest

from pico_twisted.core.rpc import frames
from pico_twisted.core.rpc.frames import MAX_BODY_V1
from pico_twisted.net.routing.routed_request import HOP_MARGIN_S
from tests.doubles.node import pass_time
from tests.doubles.tunnel import FakeTunnel
from tests.net.doubles import CONTINUE, OK, OK2, UPGRADE_FIELDS, Case, request_head
from tests.net.routing.routed_case import IDLE_S, TIMEOUT_S, case, head_and_body


class TestVersion1:
    """Agents of the first generation get whole messages."""

    def v1(self, body_bytes: int = MAX_BODY_V1) -> Case:
        """A node with one v1 agent."""
        return case(FakeTunnel(version=1, v1_body_bytes=body_bytes))

    def test_body_is_gathered(self) -> None:
        """The request goes on when its body is whole, with the length that it has."""
        here = self.v1()
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
    def test_a_body_that_its_head_does_not_speak_of(self, first: bytes, rest: bytes | None) -> None:
        """Over a node link a head says nothing of an unknown length; to a v1 agent it has to, or the body would be
        taken for the next request."""
        here = self.v1()
        routed = here.start(request_head(b"POST"), first, rest is None)
        if rest is not None:
            routed.body(rest)
            routed.body_ended()
        head, body = head_and_body(here.call)
        assert body == first + (rest or b"") and head.length == len(body)

    def test_without_a_body(self) -> None:
        """A request without a body goes at once."""
        here = self.v1()
        here.start(request_head())
        assert head_and_body(here.call)[0].length is None

    def test_body_of_length_zero(self) -> None:
        """A length of zero stays."""
        here = self.v1()
        here.start(request_head(b"POST", length=0))
        assert head_and_body(here.call)[0].length == 0

    def test_larger_than_the_replay(self) -> None:
        """Bodies over 64 KiB are gathered too, up to the limit of v1."""
        here = self.v1(1_000_000)
        routed = here.start(request_head(b"POST", chunked=True), b"", False)
        for _ in range(10):
            routed.body(bytes(60_000))
        routed.body_ended()
        assert len(head_and_body(here.call)[1]) == 600_000

    def test_too_large(self) -> None:
        """A body over the limit is 413, at its head when it tells its length, else when it gets too long."""
        here = self.v1(1000)
        here.start(request_head(b"POST", length=1001), b"", False)
        assert here.down.failure is not None and here.down.failure[0] == 413
        here = self.v1(1000)
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
        here = self.v1(10)
        here.start(request_head(b"POST", length=11), bytes(11), True)
        assert here.down.status == 413

    def test_expect(self) -> None:
        """The node itself answers an Expect: nobody behind it can."""
        here = self.v1()
        routed = here.start(request_head(b"POST", b"Expect: 100-continue", length=4), b"", False)
        assert here.down.interims == [100]
        routed.body(b"body")
        routed.body_ended()
        here.respond(OK2 + b"hi", False)
        assert here.down.interims == [100] and here.down.status == 200

    def test_upgrade(self) -> None:
        """An upgrade goes on as a plain request."""
        here = self.v1()
        here.start(request_head(b"GET", *UPGRADE_FIELDS))
        assert b"upgrade" not in bytes(here.call.sent).lower() and here.call.send_ended
        here.respond(OK2 + b"hi", False)
        assert here.down.told == ["begin 200", "write", "finish", "done"]

    def test_v2_takes_over(self) -> None:
        """When the v1 agent has gone until the body is whole, whoever is there gets it."""
        here = self.v1()
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

    def test_slow_body(self) -> None:
        """While the body is gathered it is the client that is waited for: 408 when it stops."""
        here = self.v1()
        routed = here.start(request_head(b"POST", length=100), b"", False)
        for _ in range(4):
            pass_time(here.parts.clock, IDLE_S - 1)
            routed.body(b"x")
        assert here.down.status is None
        pass_time(here.parts.clock, IDLE_S + 0.5)
        assert here.down.failure is not None and here.down.failure[0] == 408


class TestTimers:
    """Timeouts bound waiting, never a transfer."""

    def test_no_head(self) -> None:
        """No head in time is 504, a second after the hop behind us would have said so; the call is reset."""
        here = case(FakeTunnel())
        here.start(request_head())
        call = here.call
        pass_time(here.parts.clock, TIMEOUT_S + HOP_MARGIN_S - 0.2)
        assert here.down.status is None
        pass_time(here.parts.clock, 0.5)
        assert here.down.failure == (504, "upstream timeout", "upstream-timeout")
        assert call.reset_code == frames.TIMEOUT

    def test_agent_timed_out(self) -> None:
        """A call that the agent reset because of its timeout is 504 too."""
        here = case(FakeTunnel())
        here.start(request_head(b"POST", length=0))
        here.call.refuse(frames.TIMEOUT)
        assert here.down.failure == (504, "upstream timeout", "upstream-timeout")

    def test_counts_from_the_end_of_the_request(self) -> None:
        """The wait begins anew with each piece of the request, and with its end."""
        here = case(FakeTunnel())
        routed = here.start(request_head(b"POST", chunked=True), b"", False)
        for _ in range(3):
            pass_time(here.parts.clock, TIMEOUT_S)
            routed.body(b"x")
        routed.body_ended()
        pass_time(here.parts.clock, TIMEOUT_S)
        assert here.down.status is None
        pass_time(here.parts.clock, HOP_MARGIN_S + 0.5)
        assert here.down.status == 504

    def test_pauses_while_we_wait_for_the_client(self) -> None:
        """A client that sends its body slowly is no fault of the service: the idle limit holds, and then 408."""
        here = case(FakeTunnel())
        here.start(request_head(b"POST", length=100), b"x", False)
        call = here.call
        pass_time(here.parts.clock, TIMEOUT_S + HOP_MARGIN_S + 1)
        assert here.down.status is None
        pass_time(here.parts.clock, 1.5)
        assert here.down.failure == (408, "request timeout", "request-timeout")
        assert call.reset_code == frames.CANCELLED

    def test_interim_heads_restart_it(self) -> None:
        """A 1xx shows that somebody works on it."""
        here = case(FakeTunnel())
        here.start(request_head())
        for _ in range(4):
            pass_time(here.parts.clock, TIMEOUT_S)
            here.respond(b"HTTP/1.1 102 Processing\r\n\r\n", True)
        assert here.down.interims == [102] * 4 and here.down.status is None
        here.respond(OK2 + b"hi", False)
        assert here.down.status == 200

    def test_slow_service_that_takes_its_request(self) -> None:
        """While a service takes its request, however slowly, it is not timed out."""
        tunnel = FakeTunnel()
        tunnel.takes = False
        here = case(tunnel)
        routed = here.start(request_head(b"POST", length=1_000_000), b"", False)
        while "pause" not in here.down.told:
            routed.body(bytes(60_000))
        call = here.call
        for _ in range(10):
            pass_time(here.parts.clock, TIMEOUT_S)
            call.queued -= 5_000
        assert here.down.status is None
        pass_time(here.parts.clock, 2 * TIMEOUT_S + 2 * HOP_MARGIN_S + 1)
        assert here.down.status == 504

    def test_rest_of_the_request_on_its_way(self) -> None:
        """The same when the client has sent all, and the service has not taken it yet."""
        tunnel = FakeTunnel()
        tunnel.takes = False
        here = case(tunnel)
        here.start(request_head(b"POST", length=100_000), bytes(60_000), False)
        here.routed.body(bytes(40_000))
        here.routed.body_ended()
        for _ in range(10):
            pass_time(here.parts.clock, TIMEOUT_S)
            here.call.queued -= 5_000
        assert here.down.status is None

    def test_service_that_takes_nothing(self) -> None:
        """A service that takes no more of its request is timed out like one that does not answer."""
        tunnel = FakeTunnel()
        tunnel.takes = False
        here = case(tunnel)
        routed = here.start(request_head(b"POST", chunked=True), b"", False)
        while "pause" not in here.down.told:
            routed.body(bytes(60_000))
        pass_time(here.parts.clock, TIMEOUT_S + HOP_MARGIN_S + 0.5)
        assert here.down.status == 504

    def test_idle_response(self) -> None:
        """A response in which nothing moves is cut after the idle limit; every byte restarts it."""
        here = case(FakeTunnel())
        here.start(request_head())
        here.respond(OK, True)
        call = here.call
        for _ in range(3):
            pass_time(here.parts.clock, IDLE_S - 0.5)
            here.respond(b"x", True)
        pass_time(here.parts.clock, IDLE_S + 0.5)
        assert here.down.told[-2:] == ["cut", "done"]
        assert call.reset_code == frames.TIMEOUT and here.routed.error == "idle-timeout"

    def test_long_transfers(self) -> None:
        """A transfer may last for as long as it moves, far beyond every timeout."""
        here = case(FakeTunnel())
        routed = here.start(request_head(b"POST", chunked=True), b"", False)
        for _ in range(20):
            pass_time(here.parts.clock, TIMEOUT_S)
            routed.body(b"x")
        here.respond(OK, True)
        for _ in range(20):
            pass_time(here.parts.clock, TIMEOUT_S)
            here.respond(b"x", True)
        assert here.down.status == 200 and "cut" not in here.down.told

    def test_nothing_is_left(self) -> None:
        """What is over is looked at no more."""
        here = case(FakeTunnel())
        here.start(request_head())
        here.respond(OK2 + b"hi", False)
        pass_time(here.parts.clock, 30)
        assert here.down.told[-1] == "done"
        here.parts.stop()
        assert here.parts.clock.getDelayedCalls() == []


def test_expect_over_v2() -> None:
    """Over v2 the Expect goes on, and the service's 100 comes back."""
    here = case(FakeTunnel())
    routed = here.start(request_head(b"POST", b"Expect: 100-continue", length=4), b"", False)
    assert head_and_body(here.call)[0].expect_continue
    assert here.down.interims == []
    here.respond(CONTINUE, True)
    assert here.down.interims == [100]
    routed.body(b"body")
    routed.body_ended()
    here.respond(OK2 + b"hi", False)
    assert here.down.status == 200
