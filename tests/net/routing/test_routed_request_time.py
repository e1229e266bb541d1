"""One request on its way: what it waits for, and for how long."""

from __future__ import annotations

from pico_twisted.core.rpc import frames
from pico_twisted.net.routing.routed_request import HOP_MARGIN_S
from tests.doubles.node import pass_time
from tests.net.doubles import CONTINUE, OK, OK2, Case, request_head
from tests.net.routing.routed_case import IDLE_S, TIMEOUT_S, head_and_body


class TestTimers:
    """Timeouts bound waiting, never a transfer."""

    def test_no_head(self, here: Case) -> None:
        """No head in time is 504, a second after the hop behind us would have said so; the call is reset."""
        here.start(request_head())
        call = here.call
        pass_time(here.parts.clock, TIMEOUT_S + HOP_MARGIN_S - 0.2)
        assert here.down.status is None
        pass_time(here.parts.clock, 0.5)
        assert here.down.failure == (504, "upstream timeout", "upstream-timeout")
        assert call.reset_code == frames.TIMEOUT

    def test_agent_timed_out(self, here: Case) -> None:
        """A call that the agent reset because of its timeout is 504 too."""
        here.start(request_head(b"POST", length=0))
        here.call.refuse(frames.TIMEOUT)
        assert here.down.failure == (504, "upstream timeout", "upstream-timeout")

    def test_counts_from_the_end_of_the_request(self, here: Case) -> None:
        """The wait starts over with each piece of the request, and with its end."""
        routed = here.start(request_head(b"POST", chunked=True), b"", False)
        for _ in range(3):
            pass_time(here.parts.clock, TIMEOUT_S)
            routed.body(b"x")
        routed.body_ended()
        pass_time(here.parts.clock, TIMEOUT_S)
        assert here.down.status is None
        pass_time(here.parts.clock, HOP_MARGIN_S + 0.5)
        assert here.down.status == 504

    def test_pauses_while_we_wait_for_the_client(self, here: Case) -> None:
        """A client that sends its body slowly is no fault of the service: the idle limit holds, and then 408."""
        here.start(request_head(b"POST", length=100), b"x", False)
        call = here.call
        pass_time(here.parts.clock, TIMEOUT_S + HOP_MARGIN_S + 1)
        assert here.down.status is None
        pass_time(here.parts.clock, 1.5)
        assert here.down.failure == (408, "request timeout", "request-timeout")
        assert call.reset_code == frames.CANCELLED

    def test_interim_heads_restart_it(self, here: Case) -> None:
        """A 1xx shows that somebody works on it."""
        here.start(request_head())
        for _ in range(4):
            pass_time(here.parts.clock, TIMEOUT_S)
            here.respond(b"HTTP/1.1 102 Processing\r\n\r\n", True)
        assert here.down.interims == [102] * 4 and here.down.status is None
        here.respond(OK2 + b"hi", False)
        assert here.down.status == 200

    def test_slow_service_that_takes_its_request(self, here: Case) -> None:
        """While a service takes its request, however slowly, it is not timed out."""
        (tunnel,) = here.tunnels
        tunnel.takes = False
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

    def test_rest_of_the_request_on_its_way(self, here: Case) -> None:
        """The same when the client has sent all, and the service has not taken it yet."""
        (tunnel,) = here.tunnels
        tunnel.takes = False
        here.start(request_head(b"POST", length=100_000), bytes(60_000), False)
        here.routed.body(bytes(40_000))
        here.routed.body_ended()
        for _ in range(10):
            pass_time(here.parts.clock, TIMEOUT_S)
            here.call.queued -= 5_000
        assert here.down.status is None

    def test_service_that_takes_nothing(self, here: Case) -> None:
        """A service that takes no more of its request is timed out like one that does not answer."""
        (tunnel,) = here.tunnels
        tunnel.takes = False
        routed = here.start(request_head(b"POST", chunked=True), b"", False)
        while "pause" not in here.down.told:
            routed.body(bytes(60_000))
        pass_time(here.parts.clock, TIMEOUT_S + HOP_MARGIN_S + 0.5)
        assert here.down.status == 504

    def test_idle_response(self, here: Case) -> None:
        """A response in which nothing moves is cut after the idle limit; every byte restarts it."""
        here.start(request_head())
        here.respond(OK, True)
        call = here.call
        for _ in range(3):
            pass_time(here.parts.clock, IDLE_S - 0.5)
            here.respond(b"x", True)
        pass_time(here.parts.clock, IDLE_S + 0.5)
        assert here.down.told[-2:] == ["cut", "done"]
        assert call.reset_code == frames.TIMEOUT and here.routed.error == "idle-timeout"

    def test_long_transfers(self, here: Case) -> None:
        """A transfer may last for as long as it moves, far beyond every timeout."""
        routed = here.start(request_head(b"POST", chunked=True), b"", False)
        for _ in range(20):
            pass_time(here.parts.clock, TIMEOUT_S)
            routed.body(b"x")
        here.respond(OK, True)
        for _ in range(20):
            pass_time(here.parts.clock, TIMEOUT_S)
            here.respond(b"x", True)
        assert here.down.status == 200 and "cut" not in here.down.told

    def test_nothing_is_left(self, here: Case) -> None:
        """What is over is looked at no more."""
        here.start(request_head())
        here.respond(OK2 + b"hi", False)
        pass_time(here.parts.clock, 30)
        assert here.down.told[-1] == "done"
        here.parts.stop()
        assert here.parts.clock.getDelayedCalls() == []


def test_expect_over_v2(here: Case) -> None:
    """Over v2 the Expect goes on, and the service's 100 comes back."""
    routed = here.start(request_head(b"POST", b"Expect: 100-continue", length=4), b"", False)
    assert head_and_body(here.call)[0].expect_continue
    assert here.down.interims == []
    here.respond(CONTINUE, True)
    assert here.down.interims == [100]
    routed.body(b"body")
    routed.body_ended()
    here.respond(OK2 + b"hi", False)
    assert here.down.status == 200
