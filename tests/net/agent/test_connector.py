"""A listener stays registered, whatever its nodes do."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionRefusedError, DNSLookupError, TCPTimedOutError
from twisted.internet.task import Clock
from twisted.logger import LogEvent

from pico_twisted.net.agent.connector import Connector, DialParts
from pico_twisted.net.observe.metrics import Metrics
from pico_twisted.net.tunnel import HandshakeRefused, HandshakeTimeout, NobodyThere
from tests.net.agent.sessions import Session

A, B = "http://a:8002", "http://b:8002"


class NodesToDial:
    """Nodes that the connector dials."""

    def __init__(self, *urls: str) -> None:
        self.clock = Clock()
        self.attempts: list[tuple[str, str]] = []
        self.pending: list[Deferred[Any]] = []
        self.cancelled = 0
        self.changes = 0
        self.metrics = Metrics("agent")
        self.raising: Exception | None = None
        self.stubborn: Callable[[Deferred[Any]], None] | None = None
        """What an attempt does that is cancelled."""
        self.connector = Connector(
            DialParts(urls=urls or (A,), clock=self.clock, rng=random.Random(7), metrics=self.metrics),
            endpoint="web",
            slot="2",
            connect=self._connect,
            changed=self._changed,
        )

    def _changed(self) -> None:
        self.changes += 1

    def _connect(self, url: str, slot: str, elsewhere: Sequence[str]) -> Deferred[Any]:
        self.attempts.append((url, slot))
        if self.raising is not None:
            raise self.raising
        attempt: Deferred[Any] = Deferred(self.stubborn or (lambda _: self._cancel()))
        self.pending.append(attempt)
        return attempt

    def _cancel(self) -> None:
        self.cancelled += 1

    def start(self) -> None:
        """Let the first attempt begin."""
        self.connector.start()
        self.clock.advance(0)

    def accept(self, version: int = 2) -> Session:
        """The attempt succeeds."""
        session = Session(version)
        self.pending.pop().callback(session)
        return session

    def accept_and_drain(self, served_s: float) -> Session:
        """The attempt succeeds, and after a while the node asks for a replacement."""
        session = self.accept()
        self.clock.advance(served_s)
        self.connector.drain_requested(session)
        return session

    def refuse(self, error: Exception) -> None:
        """The attempt fails."""
        self.pending.pop().errback(error)

    @property
    def current(self) -> Any:
        """The tunnel that takes new calls."""
        session = self.connector.current
        return None if session is None else session.tunnel

    @property
    def tunnels(self) -> list[Any]:
        """All that are alive."""
        return [session.tunnel for session in self.connector.sessions]

    def until_dialled(self, most_s: float) -> float:
        """Pass time until the next attempt; returns how long that took."""
        start = self.clock.seconds()
        while not self.pending:
            assert self.clock.seconds() - start <= most_s, "nothing was dialled in time"
            self.clock.advance(0.01)
        return self.clock.seconds() - start


@pytest.fixture
def cluster() -> NodesToDial:
    """Nodes whose first dial has begun."""
    found = NodesToDial()
    found.start()
    return found


def test_it_registers_and_says_so(cluster: NodesToDial, lines: Callable[[str], list[LogEvent]]) -> None:
    """The first attempt is at once, under the first slot of the listener."""
    assert cluster.attempts == [(A, "2.0")]
    session = cluster.accept()
    assert cluster.current is session
    assert cluster.changes == 1
    (line,) = lines("Registered")
    assert (line["endpoint"], line["url"], line["node"]) == ("web", A, "n1")
    assert b"pico_agent_connects_total 1.0" in cluster.metrics.exposition()


def test_a_lost_session_is_followed_by_another_in_the_same_slot(cluster: NodesToDial) -> None:
    """So that the node throws out the half-open remains of the first."""
    cluster.accept().end(clean=False)
    assert cluster.connector.current is None and not cluster.connector.sessions
    assert cluster.until_dialled(0.11) >= 0.0
    assert cluster.attempts[-1] == (A, "2.0")
    cluster.accept()
    assert b"pico_agent_reconnects_total 1.0" in cluster.metrics.exposition()


@pytest.mark.parametrize("code", [1000, 1001, 1009])
def test_a_clean_close_is_followed_at_once(code: int) -> None:
    """No wait, and another address first."""
    cluster = NodesToDial(A, B)
    cluster.start()
    first = cluster.attempts[0][0]
    session = cluster.accept()
    cluster.clock.advance(5)
    session.end(code=code)
    cluster.clock.advance(0)
    assert cluster.attempts[1][0] == ({A, B} - {first}).pop()


def test_another_agent_with_its_id(cluster: NodesToDial, lines: Callable[[str], list[LogEvent]]) -> None:
    """An agent that is replaced while it lives says that another one has its ID, and where, and is in no hurry."""
    for _ in range(4):
        session = cluster.accept()
        cluster.clock.advance(100)
        session.end(code=1000, reason="replaced by a newer session from 192.0.2.7:50007")
        cluster.until_dialled(20.0)
    told = lines("Another agent has the ID")
    assert [line["other"] for line in told] == ["192.0.2.7:50007"] * 4
    assert told[0]["agent_id"] == "agent-1" and told[3]["retry_s"] >= 8.0


def test_a_stopping_agent_is_replaced_by_the_next_process(
    cluster: NodesToDial, lines: Callable[[str], list[LogEvent]]
) -> None:
    """Nothing is said of that: it is how a new process relieves an old one."""
    session = cluster.accept()
    cluster.connector.resign()
    session.end(code=1000, reason="replaced by a newer session")
    assert session.resigned and not lines("Another agent")


@pytest.mark.parametrize("code", [1002, 1008, 1011, None])
def test_a_close_for_a_fault_is_followed_after_a_wait(cluster: NodesToDial, code: int | None) -> None:
    """A close frame that complains is no good order."""
    session = cluster.accept()
    cluster.clock.advance(5)
    session.end(code=code)
    cluster.clock.advance(0)
    assert not cluster.pending
    cluster.until_dialled(0.11)


def test_a_session_that_our_side_gave_up_is_followed_too(cluster: NodesToDial) -> None:
    """Silence or a broken protocol end a session by us; only being stopped ends the listener."""
    cluster.accept().end(by_us=True, clean=False)
    cluster.until_dialled(0.11)


def test_a_refusal_is_logged_in_the_servers_words_and_retried_late(
    cluster: NodesToDial, lines: Callable[[str], list[LogEvent]]
) -> None:
    """Later each time, for up to a minute, and said again each time that it is asked."""
    for least_s in (5, 10, 20, 30, 30):
        cluster.refuse(HandshakeRefused(401, "the token has expired"))
        assert least_s - 0.1 <= cluster.until_dialled(60.1) <= 2 * least_s + 0.1
    line = lines("Could not register")[0]
    assert line["reason"] == "the node refused (401): the token has expired"
    assert line["log_level"].name == "warn"
    assert b'pico_agent_refusals_total{status="401"} 5.0' in cluster.metrics.exposition()


@pytest.mark.parametrize("status", [401, 403])
def test_a_new_credential_is_tried_at_once(cluster: NodesToDial, status: int) -> None:
    """Only where a refusal is waited for: others are not dialled sooner for it, nor is anything after a stop."""
    cluster.refuse(HandshakeRefused(503, "busy"))
    cluster.connector.credential_changed()
    assert not cluster.attempts[1:]
    cluster.until_dialled(0.3)
    cluster.refuse(HandshakeRefused(status, "no"))
    cluster.connector.credential_changed()
    cluster.until_dialled(0.0)
    cluster.connector.credential_changed()
    cluster.refuse(HandshakeRefused(status, "no"))
    cluster.connector.abort()
    cluster.connector.credential_changed()
    assert not cluster.clock.getDelayedCalls()


def test_an_overloaded_node_is_asked_again_sooner(cluster: NodesToDial) -> None:
    """503 is the node's state, not our fault: the common back-off."""
    cluster.refuse(HandshakeRefused(503, "shutting down"))
    cluster.until_dialled(0.11)


@pytest.mark.parametrize("error", [ConnectionRefusedError(), NobodyThere("a proxy answers 502")])
def test_a_killed_node_is_found_within_a_second_of_its_return(cluster: NodesToDial, error: Exception) -> None:
    """However long it was away, within minutes, and also when a proxy in front of it says that it is away."""
    session = cluster.accept()
    cluster.clock.advance(30)
    session.end(clean=False)
    while cluster.clock.seconds() < 150:
        cluster.until_dialled(0.8)
        cluster.refuse(error)
    cluster.until_dialled(0.8)
    cluster.accept()


@pytest.mark.parametrize(
    ("error", "label"),
    [
        (ConnectionRefusedError(), "connect"),
        (TCPTimedOutError(), "timeout"),
        (DNSLookupError(), "dns"),
        (HandshakeTimeout("no session after 10 s"), "timeout"),
        (ValueError("odd"), "handshake"),
    ],
)
def test_every_failure_is_followed_by_another_attempt(cluster: NodesToDial, error: Exception, label: str) -> None:
    """Whatever it was; and it is counted by its kind."""
    for _ in range(3):
        cluster.refuse(error)
        cluster.until_dialled(15.1)
    text = cluster.metrics.exposition().decode()
    assert f'pico_agent_connection_failures_total{{reason="{label}"}} 3.0' in text


def test_an_attempt_that_cannot_even_begin_is_a_failed_one() -> None:
    """A bundle of certificates that became unreadable, for example."""
    cluster = NodesToDial()
    cluster.raising = ValueError("cannot be read")
    cluster.start()
    cluster.raising = None
    cluster.until_dialled(0.11)


def test_the_same_trouble_is_said_once(cluster: NodesToDial, lines: Callable[[str], list[LogEvent]]) -> None:
    """A node that is down is tried often and reported rarely."""
    while cluster.clock.seconds() < 65:
        cluster.refuse(ConnectionRefusedError())
        cluster.until_dialled(0.8)
    said = lines("Could not register")
    assert len(said) == 3
    assert said[1]["suppressed"] > 20


def test_a_v1_node_is_mentioned_once(cluster: NodesToDial, lines: Callable[[str], list[LogEvent]]) -> None:
    """Not at every session."""
    for _ in range(3):
        cluster.accept(version=1).end(clean=False)
        cluster.until_dialled(2)
    assert len(lines("The node speaks only version 1")) == 1


# Draining


def test_a_drain_of_the_node_opens_a_replacement_and_the_old_one_serves_on() -> None:
    """At once, at another address first, under a slot that no living session has."""
    cluster = NodesToDial(A, B)
    cluster.start()
    first_url = cluster.attempts[0][0]
    old = cluster.accept_and_drain(10)
    cluster.clock.advance(0)
    assert cluster.attempts[1] == (({A, B} - {first_url}).pop(), "2.1")
    new = cluster.accept()
    assert cluster.tunnels == [old, new]
    assert cluster.current is new
    assert old.close_code is None and not old.aborted
    old.end(code=1001)
    assert cluster.tunnels == [new]
    cluster.clock.advance(60)
    assert len(cluster.attempts) == 2, "the end of the old session asks for nothing"


def test_slots_are_used_again_but_never_two_at_a_time(cluster: NodesToDial) -> None:
    """A session that lives keeps its slot to itself; a lost one leaves it to its successor."""
    living: dict[str, Session] = {}
    rng = random.Random(11)
    for _ in range(200):
        cluster.until_dialled(16)
        slot = cluster.attempts[-1][1]
        current = cluster.connector.current
        assert current is None
        assert slot not in living
        session = living[slot] = cluster.accept()
        cluster.clock.advance(rng.uniform(0, 90))
        for other in [one for one in living if living[one] is not session and rng.random() < 0.5]:
            living.pop(other).end(code=1001)
        if rng.random() < 0.6:
            cluster.connector.drain_requested(session)
        else:
            living.pop(slot).end(clean=False)
            cluster.until_dialled(16)
            assert cluster.attempts[-1][1] == slot
    assert {slot for _, slot in cluster.attempts} <= {f"2.{number}" for number in range(20)}


def test_a_drain_asked_twice_or_by_an_old_session_changes_nothing(cluster: NodesToDial) -> None:
    """One replacement is enough."""
    old = cluster.accept_and_drain(10)
    cluster.connector.drain_requested(old)
    cluster.clock.advance(0)
    cluster.connector.drain_requested(old)
    assert len(cluster.attempts) == 2
    new = cluster.accept()
    cluster.connector.drain_requested(old)
    assert cluster.current is new
    cluster.clock.advance(20)
    assert len(cluster.attempts) == 2


def test_a_replacement_that_waits_goes_at_once_when_the_old_session_is_closed(cluster: NodesToDial) -> None:
    """The only node refuses new sessions while it drains, then closes in order: it may be about to return."""
    old = cluster.accept_and_drain(10)
    cluster.clock.advance(0)
    for _ in range(10):
        cluster.refuse(HandshakeRefused(503, "shutting down"))
        cluster.until_dialled(15.1)
    cluster.refuse(HandshakeRefused(503, "shutting down"))
    old.end(code=1001)
    cluster.clock.advance(0)
    assert cluster.pending


def test_the_old_session_may_end_while_its_replacement_is_dialled(cluster: NodesToDial) -> None:
    """One attempt at a time."""
    old = cluster.accept_and_drain(10)
    cluster.clock.advance(0)
    old.end(clean=False)
    cluster.clock.advance(20)
    assert len(cluster.pending) == 1
    new = cluster.accept()
    assert cluster.current is new


# Stopping


def test_a_stop_drains_waits_for_calls_and_closes(cluster: NodesToDial) -> None:
    """In that order, and it is done when the connection is gone."""
    session = cluster.accept()
    session.call_count = 2
    done: list[None] = []
    cluster.connector.drain().addCallback(done.append)
    assert session.draining is not None and session.close_code is None
    session.draining.callback(None)
    cluster.clock.pump([0.1] * 20)
    assert session.close_code is None and not done
    session.call_count = 0
    cluster.clock.advance(0.1)
    assert session.close_code == 1001
    cluster.clock.advance(0.1)
    assert done == [None]
    assert not cluster.clock.getDelayedCalls()
    assert len(cluster.attempts) == 1


def test_a_stop_waits_for_the_close_frame_to_leave_but_not_for_ever(cluster: NodesToDial) -> None:
    """A close frame in a transport's buffer dies with the process."""
    session = cluster.accept()
    session.close = lambda code=1000, reason="": session.end(by_us=True, linger=True)  # type: ignore[method-assign]
    done: list[None] = []
    cluster.connector.drain().addCallback(done.append)
    assert session.draining is not None
    session.draining.callback(None)
    cluster.clock.pump([0.1] * 10)
    assert not done
    cluster.clock.pump([0.1] * 25)
    assert done
    assert not cluster.clock.getDelayedCalls()


def test_a_session_that_is_lost_while_it_drains_is_done(cluster: NodesToDial) -> None:
    """Nothing is waited for any more."""
    session = cluster.accept()
    session.call_count = 1
    done: list[None] = []
    cluster.connector.drain().addCallback(done.append)
    assert session.draining is not None
    session.draining.callback(None)
    cluster.clock.advance(0.1)
    session.end(clean=False)
    cluster.clock.advance(0.1)
    assert done and len(cluster.attempts) == 1


@pytest.mark.parametrize("when", ["new", "waiting", "dialling", "registered", "stopped"])
@pytest.mark.parametrize("how", ["drain", "abort"])
def test_stopping_leaves_nothing_behind(when: str, how: str) -> None:
    """From every state, and twice."""
    cluster = NodesToDial()
    session = None
    if when != "new":
        cluster.start()
    if when == "waiting":
        cluster.refuse(ConnectionRefusedError())
    elif when in ("registered", "stopped"):
        session = cluster.accept()
    if when == "stopped":
        cluster.connector.abort()
    getattr(cluster.connector, how)()
    cluster.connector.abort()
    cluster.connector.abort()
    if session is not None:
        assert session.aborted
    cluster.clock.pump([0.1] * 40)
    assert not cluster.clock.getDelayedCalls()
    assert cluster.cancelled == (1 if when == "dialling" else 0)
    assert not cluster.connector.sessions
    before = len(cluster.attempts)
    cluster.clock.advance(100)
    assert len(cluster.attempts) == before


def test_an_attempt_that_succeeds_after_the_stop_is_given_back() -> None:
    """An attempt that cannot be cancelled any more must not leave a registration."""
    cluster = NodesToDial()
    late = Session()
    cluster.stubborn = lambda attempt: attempt.callback(late)
    cluster.start()
    cluster.connector.abort()
    assert late.close_code == 1001 and not cluster.connector.sessions
