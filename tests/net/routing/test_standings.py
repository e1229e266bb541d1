"""Who is told to be unwell: slow in the mean, short of CPU by its own word, stalled or silent; and who is not."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from zope.interface import implementer

from pico_twisted.core.rpc.capabilities import OWN_HEALTH
from pico_twisted.core.rpc.frames import CANCELLED, HEALTH, PROTOCOL
from tests.doubles.node import pass_time
from tests.doubles.tunnel import FakeCall, FakeTunnel
from tests.net.doubles import Case, request_head
from tests.net.routing.routed_case import LIVES, case
from tests.net.routing.test_route_watch import answered, quick

NAMED = "{name} is {standing} for {endpoint}: it gets few requests until it is well"
WELL_AGAIN = "{name} is well again for {endpoint}"


@pytest.fixture
def logged() -> Iterator[list[LogEvent]]:
    """What is logged of an endpoint in the meantime, but that somebody registered there."""
    events: list[LogEvent] = []

    @implementer(ILogObserver)
    def observe(event: LogEvent) -> None:
        if "endpoint" in event and "slot" not in event:
            events.append(event)

    globalLogPublisher.addObserver(observe)
    yield events
    globalLogPublisher.removeObserver(observe)


@pytest.fixture
def two() -> Case:
    """Two agents, which can say how they are; the first gets the first call."""
    here = case(FakeTunnel(agent_id="a"), FakeTunnel(agent_id="b"), timeout=60.0)
    for tunnel in here.tunnels:
        tunnel.capabilities = frozenset((OWN_HEALTH,))
    return here


def named(here: Case) -> dict[str, str]:
    """Who is told to be unwell, and how."""
    cluster = here.parts.cluster
    found = {route.name: cluster.watch.standings.of(route.latency) for route in cluster.registry}
    return {name: standing for name, standing in found.items() if standing}


def questions(tunnel: FakeTunnel) -> list[FakeCall]:
    """What an agent was asked about itself."""
    return [one for one in tunnel.opened if one.kind == HEALTH]


def says(here: Case, tunnel: FakeTunnel, answer: bytes, seconds: float) -> None:
    """Time passes, in which an agent has the same answer to all that it is asked about itself."""
    for _ in range(round(seconds / 0.2)):
        pass_time(here.parts.clock, 0.2)
        for one in questions(tunnel):
            if not one.closed:
                one.respond(answer, False)


class TestTelling:
    """Who is slow is told, once, and when it is well again."""

    def test_slow(self, two: Case, logged: list[LogEvent]) -> None:
        """An agent that answers much later than the other for some seconds is named: in the metrics and the log."""
        a, b = two.tunnels
        parts = two.parts
        quick(parts, b, 3)
        answered(parts, a, 0.4)
        assert named(two) == {}
        pass_time(parts.clock, 4.0)
        assert named(two) == {"a": "slow"}
        shown = {one.agent: (one.standing, one.first_byte_s) for one in parts.node.status.agents("").sessions}
        assert shown == {"a": ("slow", 0.4), "b": ("", None)}
        assert 'pico_routes_unwell{standing="slow"} 1.0' in parts.metrics.exposition().decode()
        for _ in range(10):
            pass_time(parts.clock, 10.0)
            quick(parts, a)
            quick(parts, b)
        pass_time(parts.clock, 5.0)
        assert named(two) == {}
        told = [event["log_format"] for event in logged]
        assert told == [
            "{name} is {standing} for {endpoint}: it gets few requests until it is well",
            "{name} is well again for {endpoint}",
        ]

    def test_one_slow_answer_is_no_news(self, two: Case, logged: list[LogEvent]) -> None:
        """A page that takes long among many that do not makes nobody slow."""
        a, b = two.tunnels
        quick(two.parts, b, 3)
        for _ in range(50):
            quick(two.parts, a)
            pass_time(two.parts.clock, 0.1)
        answered(two.parts, a, 0.5)
        for _ in range(50):
            quick(two.parts, a)
            pass_time(two.parts.clock, 0.1)
        assert named(two) == {} and not logged

    def test_nobody_to_compare_with(self, logged: list[LogEvent]) -> None:
        """A service that takes its time is not slow where there is no other."""
        here = case(FakeTunnel())
        for _ in range(8):
            answered(here.parts, here.tunnels[0], 1.0)
        assert not logged and named(here) == {}

    def test_silent_and_stalled(self, two: Case) -> None:
        """What says nothing at all, and what answers nothing, is named by what it is."""
        a, b = two.tunnels
        quick(two.parts, b, 2)
        two.start(request_head(b"POST"))
        made = two.call
        assert isinstance(made, FakeCall)
        a.heard_at = b.heard_at = LIVES
        pass_time(two.parts.clock, 6.0)
        assert named(two) == {"a": "stalled"}
        a.heard_at = 0.0
        pass_time(two.parts.clock, 8.0)
        assert named(two) == {"a": "silent"}


class TestShortOfCpu:
    """An agent that is slow only when it is given its share, since it lacks CPU."""

    def test_it_is_named(self, two: Case, logged: list[LogEvent]) -> None:
        """One answer that is slower than before, and its own word: it is named until it answers well."""
        a, b = two.tunnels
        parts = two.parts
        quick(parts, a, 20)
        quick(parts, b, 20)
        answered(parts, a, 0.05)
        says(two, a, b"short 87", 5.0)
        assert named(two) == {"a": "slow"} and not questions(b)
        event = logged[-1]
        assert (event["log_format"], event["name"], event["no_cpu_s"]) == (NAMED, "a", 0.087)
        assert 0.03 < event["first_byte_s"] < 0.06
        says(two, a, b"well", 10.0)
        assert named(two) == {"a": "slow"}, "it was not called since, and would not know"
        says(two, a, b"well", 10.0)
        for _ in range(30):
            quick(parts, a)
            says(two, a, b"well", 1.0)
        assert named(two) == {}
        assert [one["log_format"] for one in logged] == [NAMED, WELL_AGAIN]

    def test_one_that_learns_of_it_late(self, two: Case) -> None:
        """It is asked for some seconds after a slow answer, no more often than each second."""
        a, b = two.tunnels
        quick(two.parts, a, 20)
        quick(two.parts, b, 20)
        answered(two.parts, a, 0.05)
        says(two, a, b"well", 4.0)
        assert named(two) == {} and 1 <= len(questions(a)) <= 5
        says(two, a, b"short 600", 6.0)
        assert named(two) == {"a": "slow"}

    def test_a_slow_page(self, two: Case, logged: list[LogEvent]) -> None:
        """An agent that has its CPU is not slow, and is asked no more when it cannot know."""
        a, b = two.tunnels
        quick(two.parts, a, 20)
        quick(two.parts, b, 20)
        answered(two.parts, a, 0.5)
        says(two, a, b"well", 60.0)
        assert named(two) == {} and not logged and len(questions(a)) <= 7

    def test_both_are_alike(self, two: Case) -> None:
        """Where the others take as long, nobody is slow, whatever they lack."""
        for _ in range(8):
            for tunnel in two.tunnels:
                answered(two.parts, tunnel, 0.05)
        for tunnel in two.tunnels:
            says(two, tunnel, b"short 500", 4.0)
        assert named(two) == {}

    @pytest.mark.parametrize("distance_s", [0.05, 0.15, 0.3])
    def test_one_that_is_far_away(self, two: Case, distance_s: float) -> None:
        """What its answers take on the network is no illness, and is not asked about again and again."""
        a, b = two.tunnels
        a.near_rtt_s = distance_s
        for _ in range(20):
            answered(two.parts, a, distance_s + 0.002)
            quick(two.parts, b)
            pass_time(two.parts.clock, 0.5)
        assert named(two) == {} and len(questions(a)) <= 1

    def test_one_that_is_far_away_and_short(self, two: Case) -> None:
        """It is named when it takes longer than that, and not any more when it takes as long as ever."""
        a, b = two.tunnels
        a.near_rtt_s = 0.05
        for _ in range(20):
            answered(two.parts, a, 0.052)
            quick(two.parts, b)
        answered(two.parts, a, 0.2)
        says(two, a, b"short 150", 5.0)
        assert named(two) == {"a": "slow"}
        for _ in range(40):
            answered(two.parts, a, 0.052)
            says(two, a, b"well", 1.0)
        assert named(two) == {}

    def test_an_old_agent(self, two: Case) -> None:
        """What it does not list is not asked of it."""
        a, b = two.tunnels
        a.capabilities = frozenset()
        quick(two.parts, a, 20)
        quick(two.parts, b, 20)
        answered(two.parts, a, 0.05)
        pass_time(two.parts.clock, 10.0)
        assert not questions(a) and named(two) == {}

    @pytest.mark.parametrize(
        ("answer", "more"), [(b"", False), (b"short 99999999", False), (b"short 87", True), (b"x" * 60_000, False)]
    )
    def test_nonsense_of_an_agent(self, two: Case, answer: bytes, more: bool) -> None:
        """Another answer says nothing, and one that goes on is given up."""
        a, b = two.tunnels
        quick(two.parts, a, 20)
        quick(two.parts, b, 20)
        answered(two.parts, a, 0.05)
        pass_time(two.parts.clock, 1.2)
        (question,) = questions(a)
        question.respond(answer, more)
        assert question.reset_code == (PROTOCOL if more else None)
        pass_time(two.parts.clock, 10.0)
        assert named(two) == {} and all(one.closed for one in questions(a)[:-1])

    def test_no_answer(self, two: Case) -> None:
        """One that says nothing has one question at a time, and none once it is gone or well."""
        a, b = two.tunnels
        quick(two.parts, a, 20)
        quick(two.parts, b, 20)
        answered(two.parts, a, 0.5)
        pass_time(two.parts.clock, 5.0)
        asked = questions(a)
        assert len(asked) >= 2 and [one.closed for one in asked] == [True] * (len(asked) - 1) + [False]
        assert {one.reset_code for one in asked[:-1]} == {CANCELLED}
        a.lose()
        pass_time(two.parts.clock, 2.0)
        assert not two.parts.cluster.watch.standings._health._questions

    def test_one_that_comes_and_goes(self, two: Case, logged: list[LogEvent]) -> None:
        """However often it is named, few lines say so."""
        a, b = two.tunnels
        for _ in range(12):
            quick(two.parts, b, 20)
            quick(two.parts, a, 20)
            answered(two.parts, a, 0.05)
            says(two, a, b"short 87", 5.0)
            assert named(two) == {"a": "slow"}
            says(two, a, b"well", 15.0)
            for _ in range(5):
                quick(two.parts, a)
                says(two, a, b"well", 1.0)
            assert named(two) == {}
        minutes = (two.parts.clock.seconds() + 60) / 60
        assert len(logged) <= 4 * minutes
