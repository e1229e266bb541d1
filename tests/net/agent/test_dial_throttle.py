"""When the dials of one process begin: one of a herd tries for all, and comes back in a stream."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from pico_twisted.core.agent.dial_plan import CLOSED_PORT_MAX_S
from pico_twisted.net.agent.connector import Connector, DialParts
from pico_twisted.net.agent.dial_throttle import (
    FAILED_AT_ONCE,
    FIRST_DIALS,
    HUNG_S,
    MAX_DIALS,
    OPEN_S,
    QUICK_S,
    TRY_ONE_S,
    DialThrottle,
)
from pico_twisted.net.observe.metrics import Metrics
from pico_twisted.net.tunnel import HandshakeTimeout
from tests.net.agent.sessions import Session

A, B = "http://a", "http://b"
STEP_S = 1 / 128  # such sums are exact


class Herd:
    """Many who dial through one throttle.

    Attributes:
        dials: who began, in order, and the Deferred that says how it goes; those that ended are gone.
        began: who began, in order.
        began_at: and when.
        came: who has a session.
        failed: who has none, and why.
    """

    def __init__(self, *urls: str) -> None:
        self.clock = Clock()
        self.throttle: DialThrottle[Any] = DialThrottle(urls or (A,), self.clock)
        self.dials: dict[str, Deferred[Any]] = {}
        self.began: list[str] = []
        self.began_at: dict[str, float] = {}
        self.came: list[str] = []
        self.failed: dict[str, BaseException | None] = {}
        self._results: list[Deferred[Any]] = []

    def join(self, count: int, url: str = A, name: str = "") -> list[Deferred[Any]]:
        """So many want to dial."""
        return [self.want(f"{name or url}-{number}", url) for number in range(count)]

    def want(self, who: str, url: str = A) -> Deferred[Any]:
        """One wants to dial."""
        result = self.throttle.run(url, who, lambda: self._dial(who))
        result.addCallbacks(lambda _: self.came.append(who), lambda failure: self._fail(who, failure))
        self._results.append(result)
        return result

    @property
    def waiting(self) -> int:
        """How many are in a line."""
        return sum(not result.called for result in self._results) - len(self.dials)

    def _dial(self, who: str) -> Deferred[Any]:
        self.began.append(who)
        self.began_at[who] = self.clock.seconds()
        self.dials[who] = Deferred(lambda _: self._cancelled(who))
        return self.dials[who]

    def _cancelled(self, who: str) -> None:
        del self.dials[who]

    def _fail(self, who: str, failure: Failure) -> None:
        self.failed[who] = failure.value

    def refuse(self, who: str = "", error: Exception | None = None) -> None:
        """The first dial, or one's dial, comes to nothing."""
        self.dials.pop(who or next(iter(self.dials))).errback(error or ConnectionRefusedError())

    def accept(self, who: str = "") -> None:
        """The first dial, or one's dial, opens a session."""
        self.dials.pop(who or next(iter(self.dials))).callback("session")

    def refuse_all(self) -> None:
        """The port is closed for those who are dialling now."""
        for who in list(self.dials):
            self.refuse(who)

    def pass_time(self, seconds: float, each: Callable[[], None] = lambda: None) -> None:
        """Let time pass in small steps, and do something after each."""
        for _ in range(round(seconds / STEP_S)):
            self.clock.advance(STEP_S)
            each()

    def serve(self, takes_s: float, until_s: float) -> int:
        """Accept each dial when it is so old, and say how many were under way at most."""
        most = 0

        def look() -> None:
            nonlocal most
            most = max(most, len(self.dials))
            while self.dials and self.began_at[next(iter(self.dials))] + takes_s <= self.clock.seconds():
                self.accept()

        self.pass_time(until_s, look)
        return most


def connector_to(
    connect: Callable[..., Deferred[Any]], clock: Clock, throttle: DialThrottle[Any] | None, seed: int = 1
) -> Connector:
    """The connector of one listener."""
    return Connector(
        DialParts(urls=(A,), clock=clock, rng=random.Random(seed), metrics=Metrics("agent"), throttle=throttle),
        endpoint="web",
        slot="0",
        connect=connect,
        changed=lambda: None,
    )


@pytest.fixture
def herd() -> Herd:
    """Many who dial one address."""
    return Herd()


class TestClosed:
    """Nothing listens there."""

    def test_one_tries_for_all(self, herd: Herd) -> None:
        """However many wait: after the first few, one dial every tenth of a second, and the others only wait."""
        herd.join(2000)
        assert len(herd.began) == FIRST_DIALS
        herd.refuse_all()
        assert len(herd.began) == FIRST_DIALS
        herd.pass_time(10.0, herd.refuse_all)
        assert 0.9 * 10.0 / TRY_ONE_S <= len(herd.began) - FIRST_DIALS <= 10.0 / TRY_ONE_S
        assert len(herd.failed) == len(herd.began)
        assert herd.waiting == 2000 - len(herd.began)

    def test_each_tries_in_turn(self, herd: Herd) -> None:
        """Those whose dial was refused and who come back stand behind the others."""
        herd.join(FIRST_DIALS + 3)
        herd.refuse_all()
        herd.want("again")
        herd.pass_time(6 * TRY_ONE_S, herd.refuse_all)
        assert herd.began[FIRST_DIALS:] == [*(f"{A}-{FIRST_DIALS + number}" for number in range(3)), "again"]

    def test_open_again(self, herd: Herd) -> None:
        """The dial that is answered lets all others begin, in their order, a few at a time."""
        herd.join(500)
        herd.refuse_all()
        herd.pass_time(1.0, herd.refuse_all)
        herd.pass_time(TRY_ONE_S + STEP_S)
        assert len(herd.dials) == 1
        herd.accept()
        assert len(herd.dials) == FIRST_DIALS + 1
        assert herd.serve(0.05, 10.0) <= MAX_DIALS
        assert herd.waiting == len(herd.dials) == 0
        assert herd.came == [f"{A}-{number}" for number in range(500 - len(herd.came), 500)]
        assert len(herd.came) + len(herd.failed) == 500

    @pytest.mark.parametrize("seed", range(5))
    def test_alone(self, seed: int) -> None:
        """A listener that has its process to itself dials when its back-off says so, with a throttle as without."""

        def times(throttled: bool) -> list[float]:
            clock = Clock()
            found: list[float] = []

            def refused(url: str, slot: str, elsewhere: object) -> Deferred[Any]:
                found.append(clock.seconds())
                return fail(ConnectionRefusedError())

            connector = connector_to(refused, clock, DialThrottle((A,), clock) if throttled else None, seed)
            connector.start()
            for _ in range(2000):
                clock.advance(0.005)
            connector.abort()
            return found

        assert times(True) == times(False)
        gaps = [after - before for before, after in zip(times(True), times(True)[1:], strict=False)]
        assert len(gaps) > 20 and min(gaps) < TRY_ONE_S < max(gaps) <= CLOSED_PORT_MAX_S + 0.01

    def test_waiting_is_no_part_of_the_handshake(self, herd: Herd) -> None:
        """What a session says of its handshake begins with its dial."""
        herd.want("other")
        herd.refuse()
        connector = connector_to(lambda url, slot, elsewhere: herd._dial(slot), herd.clock, herd.throttle)
        connector.start()
        herd.clock.advance(0)
        assert not herd.dials
        herd.pass_time(TRY_ONE_S + STEP_S)
        herd.pass_time(2 * STEP_S)
        herd.dials.pop("0.0").callback(Session())
        (session,) = connector.sessions
        assert 2 * STEP_S <= session.handshake_s <= 3 * STEP_S

    def test_a_dial_that_hangs_stops_nobody(self, herd: Herd) -> None:
        """The next tries in its time all the same."""
        herd.join(100)
        herd.refuse_all()
        before = len(herd.began)
        herd.pass_time(9.5 * TRY_ONE_S)
        assert 7 <= len(herd.began) - before <= 9

    def test_what_is_no_closed_port_is_no_reason_to_wait(self, herd: Herd) -> None:
        """A node that answers with trouble is left to the back-off of each."""
        herd.join(100)
        for _ in range(100):
            herd.refuse(error=HandshakeTimeout("late"))
        assert len(herd.failed) == 100

    def test_one_of_several_nodes_behind_the_address(self, herd: Herd) -> None:
        """A refusal means nothing while others get through, and means it again when nobody did for a while."""
        herd.join(200)
        for _ in range(50):
            herd.accept()
            herd.refuse()
        assert len(herd.dials) >= FIRST_DIALS
        herd.pass_time(OPEN_S)
        herd.refuse_all()
        assert len(herd.dials) <= 1


class TestElsewhere:
    """There are two addresses."""

    def test_nobody_waits_for_a_closed_one(self) -> None:
        """Those whose turn it is not fail, not all in one turn of the reactor, and dials stay as rare as ever."""
        herd = Herd(A, B)
        herd.join(1000)
        herd.refuse()
        assert len(herd.failed) == 1 + FAILED_AT_ONCE
        herd.clock.advance(0)
        assert herd.waiting == 0
        assert len(herd.failed) + len(herd.dials) == 1000
        assert all(isinstance(error, ConnectionRefusedError) for error in herd.failed.values())
        herd.refuse_all()
        before = len(herd.began)
        for number in range(100):
            herd.want(f"late-{number}")
            herd.pass_time(STEP_S, herd.refuse_all)
        assert len(herd.began) - before <= 1.0 / TRY_ONE_S + 1
        assert herd.waiting == 0

    def test_both_are_closed(self) -> None:
        """All wait at one or the other; when one opens, those at the other are sent on."""
        herd = Herd(A, B)
        herd.join(100, B)
        herd.refuse_all()
        herd.pass_time(STEP_S)
        assert herd.waiting == 0
        herd.failed.clear()
        herd.want("first")
        herd.refuse("first")
        herd.failed.clear()
        herd.join(40, A)
        herd.join(40, B)
        herd.pass_time(1.0, herd.refuse_all)
        assert herd.waiting > 50
        herd.failed.clear()
        herd.pass_time(TRY_ONE_S + STEP_S)
        trying = next(who for who in herd.dials if who.startswith(A))
        herd.accept(trying)
        herd.pass_time(STEP_S)
        assert all(who.startswith(B) for who in herd.failed)
        assert len(herd.failed) > 20
        assert sum(who.startswith(B) for who in herd.dials) <= 2
        herd.serve(0.05, 5.0)
        assert herd.waiting == len(herd.dials) == 0

    def test_a_host_that_is_gone_does_not_hold_up_another(self) -> None:
        """Dials that hang at one address take nothing from those at the other."""
        herd = Herd(A, B)
        herd.join(1000, A)
        herd.join(10, B)
        assert sum(who.startswith(B) for who in herd.dials) == 10


class TestOpen:
    """How many dial at once."""

    def test_a_near_node(self, herd: Herd) -> None:
        """As long as sessions are opened quickly there are more at once, up to the limit."""
        herd.join(3000)
        assert len(herd.dials) == FIRST_DIALS
        most = herd.serve(0.02, 5.0)
        assert FIRST_DIALS < most <= MAX_DIALS
        assert len(herd.came) == 3000

    def test_a_far_node(self, herd: Herd) -> None:
        """A long way is no trouble: the dials fill it."""
        herd.join(3000)
        assert herd.serve(0.8, 20.0) == MAX_DIALS
        assert len(herd.came) == 3000

    def test_a_busy_node(self, herd: Herd) -> None:
        """One that opens 200 a second, whoever comes, is not given a queue of seconds."""
        herd.join(3000)
        most = 0
        for _ in range(500):
            herd.pass_time(STEP_S)
            for _ in range(2):
                if herd.dials:
                    herd.accept()
            most = max(most, len(herd.dials))
        assert len(herd.came) == 1000
        assert most <= FIRST_DIALS + 200 * 4 * QUICK_S

    def test_slower_than_before(self, herd: Herd) -> None:
        """When sessions take much longer there are fewer at once, never fewer than at the beginning."""
        herd.join(10_000)
        herd.serve(0.02, 0.5)
        wide = len(herd.dials)
        herd.serve(0.6, 6.0)
        assert len(herd.dials) == FIRST_DIALS < wide
        assert herd.waiting

    def test_each_burst_learns_anew(self, herd: Herd) -> None:
        """What one burst met says nothing about the next."""
        herd.join(1000)
        assert herd.serve(0.02, 5.0) > FIRST_DIALS
        herd.dials.clear()
        herd.join(1000, name="again")
        assert len(herd.dials) == FIRST_DIALS

    def test_a_host_that_is_gone(self, herd: Herd) -> None:
        """Dials that bring nothing do not count for long, but there is a limit."""
        herd.join(1000)
        herd.pass_time(HUNG_S - STEP_S)
        assert len(herd.dials) == FIRST_DIALS
        herd.pass_time(2 * STEP_S)
        assert len(herd.dials) == 2 * FIRST_DIALS
        herd.pass_time(60.0)
        assert len(herd.dials) == MAX_DIALS
        herd.refuse(error=HandshakeTimeout("late"))
        assert len(herd.dials) == MAX_DIALS

    def test_dials_that_end_at_once(self) -> None:
        """However many, one after the other."""
        clock = Clock()
        throttle: DialThrottle[Any] = DialThrottle((A,), clock)
        outcomes: list[Any] = []
        for number in range(FIRST_DIALS):
            throttle.run(A, f"slow-{number}", Deferred).addBoth(outcomes.append)
        for number in range(5000):
            throttle.run(A, str(number), lambda: succeed("session")).addBoth(outcomes.append)
        clock.advance(HUNG_S)
        assert outcomes == ["session"] * 5000

    def test_a_dial_that_raises(self) -> None:
        """It failed, and holds no place."""
        throttle: DialThrottle[Any] = DialThrottle((A,), Clock())

        def raises() -> Deferred[Any]:
            raise RuntimeError("broken")

        failures: list[Any] = []
        for number in range(100):
            throttle.run(A, str(number), raises).addErrback(failures.append)
        assert [failure.type for failure in failures] == [RuntimeError] * 100
        throttle.run(A, "next", lambda: succeed("session")).addCallback(failures.append)
        assert failures[100:] == ["session"]


class TestCancel:
    """Whoever waits may leave."""

    def test_in_the_line(self, herd: Herd) -> None:
        """It is out of it, and never dials."""
        results = herd.join(FIRST_DIALS + 2)
        results[-2].cancel()
        assert isinstance(herd.failed[f"{A}-{FIRST_DIALS}"], CancelledError)
        herd.accept()
        assert herd.began[-1] == f"{A}-{FIRST_DIALS + 1}"

    def test_under_way(self, herd: Herd) -> None:
        """The attempt is given up. That says nothing about the port."""
        results = herd.join(100)
        herd.refuse_all()
        herd.pass_time(TRY_ONE_S + STEP_S)
        (trying,) = herd.dials
        results[FIRST_DIALS].cancel()
        assert isinstance(herd.failed[trying], CancelledError) and not herd.dials
        before = len(herd.began)
        herd.pass_time(1.0, herd.refuse_all)
        assert len(herd.began) - before <= 1.0 / TRY_ONE_S + 1

    def test_the_end(self) -> None:
        """When all are given up, none begins meanwhile, and no timer is left."""
        for closed in (True, False):
            herd = Herd()
            results = herd.join(300)
            if closed:
                herd.refuse_all()
                herd.pass_time(TRY_ONE_S + STEP_S)
            began = len(herd.began)
            for result in results:
                result.cancel()
            assert len(herd.began) == began
            assert herd.waiting == len(herd.dials) == 0
            assert not herd.clock.getDelayedCalls()


_EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["join", "accept", "refuse", "trouble", "cancel", "pass"]),
        st.integers(0, 60),
        st.sampled_from([A, B]),
    ),
    max_size=80,
)


@given(st.sampled_from([(A,), (A, B)]), _EVENTS)
def test_whatever_happens_everyone_gets_a_turn(urls: tuple[str, ...], events: list[tuple[str, int, str]]) -> None:
    """Whoever did not leave dials in the end, or is sent on; at no time are there too many, and no timer is left."""
    herd = Herd(*urls)
    results: list[Deferred[Any]] = []
    for what, count, url in events:
        if what == "join":
            results += herd.join(count, url if url in urls else A, f"{len(results)}")
        elif what == "cancel" and results:
            results[count % len(results)].cancel()
        elif what == "pass":
            herd.clock.advance(count / 20)
        for _ in range(min(count, len(herd.dials))):
            if what == "accept":
                herd.accept()
            elif what == "refuse":
                herd.refuse()
            elif what == "trouble":
                herd.refuse(error=HandshakeTimeout("late"))
        assert len(herd.dials) <= len(urls) * MAX_DIALS
    for _ in range(10):
        herd.clock.advance(TRY_ONE_S)
        while herd.dials:
            herd.accept()
    assert herd.waiting == len(herd.dials) == 0
    assert len(herd.came) + len(herd.failed) == len(results)
    assert not herd.clock.getDelayedCalls()
