"""The sessions of a listener are on different nodes as far as there are that many, and nobody stampedes for it."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.task import Clock

from pico_twisted.core.agent.life import MAX_SENT_ELSEWHERE
from pico_twisted.net.agent.connector import DialParts
from pico_twisted.net.agent.listener_connections import AUTO, GROW_WITHIN_S, MOVE_WITHIN_S, ListenerConnections
from pico_twisted.net.observe.metrics import Metrics
from pico_twisted.net.tunnel import ELSEWHERE, HandshakeRefused
from tests.net.agent.sessions import Session

A, B = "http://a:8002", "http://b:8002"


class KnowingSession(Session):
    """One whose node tells how many nodes there are, and has heard of a drain at once."""

    def __init__(self, cluster: NodesToShare, node_id: str) -> None:
        super().__init__(node_id=node_id)
        self._cluster = cluster

    @property
    def nodes(self) -> int:
        """As the node's heartbeats say."""
        return len(self._cluster.believed)

    def drain(self) -> Deferred[None]:
        draining = super().drain()
        draining.callback(None)
        return draining


class NodesToShare:
    """Nodes behind one load balancer, or each behind its own URL.

    Attributes:
        alive: IDs of the nodes that answer.
        believed: IDs of the nodes that the nodes believe in.
        pick: chooses a node for a URL.
        attempts: URL, slot and the nodes that may refuse, of each attempt.
    """

    def __init__(self, connections: int, nodes: Sequence[str] = ("n1", "n2"), urls: Sequence[str] = (A,)) -> None:
        self.clock = Clock()
        self.alive = list(nodes)
        self.believed = list(nodes)
        self.attempts: list[tuple[str, str, list[str]]] = []
        self.pick: Callable[[str], str] = lambda url: (self.alive or ["none"])[
            len(self.attempts) % max(1, len(self.alive))
        ]
        self.connections = ListenerConnections(
            DialParts(urls=urls, clock=self.clock, rng=random.Random(5), metrics=Metrics("agent")),
            endpoint="web",
            index=0,
            connections=connections,
            connect=self._connect,
            changed=lambda: None,
        )
        self.connections.start()
        self.pass_time(1.0)

    def _connect(self, url: str, slot: str, elsewhere: Sequence[str]) -> Deferred[Any]:
        self.attempts.append((url, slot, list(elsewhere)))
        done: Deferred[Any] = Deferred()
        node_id = self.pick(url)
        if node_id not in self.alive:
            done.errback(ConnectionRefusedError())
        elif node_id in elsewhere and not set(self.believed) <= set(elsewhere):
            done.errback(HandshakeRefused(409, "another node can take this session", ELSEWHERE))
        else:
            done.callback(KnowingSession(self, node_id))
        return done

    def pass_time(self, seconds: float) -> None:
        """Let it look a few times a second."""
        for _ in range(round(seconds / 0.02)):
            self.clock.advance(0.02)
            self.connections.look(self.clock.seconds())

    def kill(self, node_id: str) -> None:
        """The node dies, and the others know."""
        self.alive.remove(node_id)
        self.believed.remove(node_id)
        for session in list(self.connections.sessions):
            if session.tunnel.node_id == node_id:
                session.tunnel.end(clean=False)  # type: ignore[attr-defined]

    @property
    def places(self) -> list[str]:
        """Where the sessions for new calls are."""
        return sorted(session.tunnel.node_id or "" for session in self.connections.current)


def test_one_node_gets_one_session() -> None:
    """A fleet of one node costs it no second session each."""
    cluster = NodesToShare(AUTO, ["n1"])
    cluster.pass_time(60)
    assert cluster.places == ["n1"]
    assert [slot for _, slot, _ in cluster.attempts] == ["0.0"]


def test_two_nodes_get_a_session_each() -> None:
    """The handshake's answer tells that there is another, and the second session begins there."""
    cluster = NodesToShare(AUTO)
    assert cluster.places == ["n1", "n2"]
    assert cluster.attempts[0][1:] == ("0.0", [])
    assert cluster.attempts[1][1] == "0-1.0"


def test_a_second_node_is_noticed_without_a_restart() -> None:
    """A heartbeat tells, and the second session comes within a while that is drawn."""
    cluster = NodesToShare(AUTO, ["n1"])
    cluster.alive.append("n2")
    cluster.believed.append("n2")
    cluster.pass_time(GROW_WITHIN_S + 2)
    assert cluster.places == ["n1", "n2"]


@pytest.mark.parametrize("connections", [1, 2, 3])
def test_a_number_is_kept_to(connections: int) -> None:
    """However many nodes there are; nodes are shared only when there are too few."""
    for nodes in (["n1"], ["n1", "n2"], ["n1", "n2", "n3", "n4"]):
        cluster = NodesToShare(connections, nodes)
        cluster.pass_time(30)
        assert len(cluster.places) == connections
        assert len(set(cluster.places)) == min(connections, len(nodes))
        slots = [session.tunnel for session in cluster.connections.sessions]
        assert len(slots) == connections


def test_sessions_start_at_different_addresses() -> None:
    """With several URLs no node needs to refuse anything."""
    cluster = NodesToShare(2, urls=(A, B))
    cluster.pick = lambda url: "n1" if url == A else "n2"
    assert {url for url, _, _ in cluster.attempts} == {A, B}
    assert len(cluster.attempts) == 2


@pytest.mark.parametrize(("connections", "places"), [(AUTO, ["n1"]), (2, ["n1", "n1"])])
def test_a_balancer_that_always_picks_the_same_node(connections: int, places: list[str]) -> None:
    """After a few answers the wish is dropped, if a number of sessions was asked for; else there is one for now."""
    cluster = NodesToShare(connections, [])
    cluster.alive.append("n1")
    cluster.believed += ["n1", "n2"]
    cluster.pass_time(GROW_WITHIN_S + 2)
    assert cluster.places == places
    assert [wish for _, _, wish in cluster.attempts].count(["n1"]) in (MAX_SENT_ELSEWHERE, 2 * MAX_SENT_ELSEWHERE)
    before = len(cluster.attempts)
    cluster.pass_time(600)
    tries = 1 if connections == AUTO else MAX_SENT_ELSEWHERE
    assert len(cluster.attempts) - before <= 8 * tries, "and it is not asked for all the time"
    assert cluster.places == places
    cluster.alive.append("n2")
    cluster.pass_time(1000)
    assert cluster.places == ["n1", "n2"]


def test_a_node_that_dies_takes_its_own_session_only() -> None:
    """The other one stays as it is, whatever its sibling does."""
    cluster = NodesToShare(AUTO)
    (other,) = [one for one in cluster.connections.current if one.tunnel.node_id == "n2"]
    cluster.kill("n1")
    cluster.pass_time(5)
    assert cluster.places == ["n2", "n2"]
    assert other in cluster.connections.current


def test_sessions_part_when_there_is_a_place_again() -> None:
    """The new one is there before the old one goes, which finishes its calls first."""
    cluster = NodesToShare(AUTO)
    cluster.kill("n1")
    cluster.pass_time(5)
    for session in cluster.connections.current:
        session.tunnel.call_count = 1  # type: ignore[misc]
    cluster.alive.append("n1")
    cluster.believed.append("n1")
    cluster.pass_time(MOVE_WITHIN_S + 60)
    assert cluster.places == ["n1", "n2"]
    (old,) = [one for one in cluster.connections.sessions if one not in cluster.connections.current]
    tunnel: Any = old.tunnel
    assert tunnel.draining and tunnel.close_reason is None
    numbers = [session.number for session in cluster.connections.connectors[1].sessions]
    assert len(numbers) == len(set(numbers))
    tunnel.call_count = 0
    cluster.pass_time(0.2)
    assert tunnel.close_reason == "moved to another node"
    cluster.pass_time(120)
    assert cluster.places == ["n1", "n2"] and len(cluster.connections.sessions) == 2


def test_a_move_that_comes_to_nothing_changes_nothing() -> None:
    """The session serves on as if nothing had been tried."""
    cluster = NodesToShare(2, ["n1"])
    before = cluster.connections.current
    cluster.believed.append("n2")
    cluster.pass_time(MOVE_WITHIN_S + 1)
    assert cluster.attempts[-1][2] == ["n1"]
    assert cluster.connections.current == before
    before[1].tunnel.end(clean=False)  # type: ignore[attr-defined]
    cluster.pass_time(1)
    assert cluster.attempts[-1][1] == "0-1.0", "and its successor takes its slot"


@pytest.mark.parametrize("event", ["lost", "drained", "stopped"])
def test_what_happens_during_a_move(event: str) -> None:
    """A move that is under way becomes the replacement; a stop gives it up."""
    cluster = NodesToShare(2, ["n1"])
    cluster.believed.append("n2")
    cluster.alive.append("n2")
    pending: list[Deferred[Any]] = []

    def hold(url: str, slot: str, elsewhere: Sequence[str]) -> Deferred[Any]:
        attempt: Deferred[Any] = Deferred()
        pending.append(attempt)
        return attempt

    connector = cluster.connections.connectors[1]
    connector._connect = hold
    session: Any = connector.current
    connector.move()
    connector.move()
    assert len(pending) == 1
    if event == "lost":
        session.tunnel.end(clean=False)
    elif event == "drained":
        cluster.connections.drain_requested(session.tunnel)
    else:
        cluster.connections.abort()
        assert not cluster.connections.sessions
        cluster.pass_time(5)
        assert not cluster.clock.getDelayedCalls()
        return
    assert connector.current is None
    pending[0].callback(KnowingSession(cluster, "n2"))
    assert cluster.places == ["n1", "n2"]
    cluster.pass_time(60)
    assert len(pending) == 1


def test_a_drain_asks_for_the_replacement_of_one() -> None:
    """Only the session that the node will close is replaced."""
    cluster = NodesToShare(AUTO)
    (draining,) = [one for one in cluster.connections.current if one.tunnel.node_id == "n1"]
    cluster.believed.remove("n1")
    cluster.alive.remove("n1")
    attempts = len(cluster.attempts)
    cluster.connections.drain_requested(draining.tunnel)
    cluster.pass_time(2)
    assert len(cluster.attempts) == attempts + 1
    assert cluster.places == ["n2", "n2"]
    assert len(cluster.connections.sessions) == 3


def test_a_stop_ends_all_and_nothing_grows_any_more() -> None:
    """Whatever is heard meanwhile."""
    cluster = NodesToShare(AUTO, ["n1"])
    done: list[None] = []
    cluster.connections.drain().addCallback(done.append)
    cluster.believed.append("n2")
    cluster.pass_time(30)
    assert done and not cluster.connections.sessions
    assert len(cluster.attempts) == 1


@pytest.mark.parametrize(("connections", "nodes"), [(1, ["n1"]), (2, ["n1", "n2"]), (2, ["n1", "n2", "n3"])])
def test_another_certificate_is_shown_on_sessions_that_relieve_the_others(connections: int, nodes: list[str]) -> None:
    """One after the other, so that there are never fewer for new calls, and afterwards as many as before."""
    cluster = NodesToShare(connections, nodes)
    cluster.pass_time(5)
    before = set(cluster.connections.sessions)
    cluster.connections.credential_changed(renew=True)
    for _ in range(250):
        cluster.pass_time(0.02)
        assert len(cluster.places) == connections
    cluster.pass_time(60)
    assert not before & set(cluster.connections.sessions)
    assert len(cluster.places) == len(cluster.connections.sessions) == connections
    made = len(cluster.attempts)
    cluster.connections.credential_changed(renew=False)
    cluster.pass_time(5)
    assert len(cluster.attempts) == made


def test_a_node_that_gives_no_sign_of_life() -> None:
    """The session's successor is at another node at once, or at the same one again; until then it stays."""
    cluster = NodesToShare(1)
    (silent,) = cluster.connections.current
    old = silent.tunnel.node_id
    silent.tunnel.silent = True  # type: ignore[misc]
    cluster.pass_time(1.0)
    assert len(cluster.places) == 1 and old not in cluster.places
    alone = NodesToShare(1, ["n1"])
    (silent,) = alone.connections.current
    silent.tunnel.silent = True  # type: ignore[misc]
    alone.alive.remove("n1")
    alone.pass_time(1.0)
    assert alone.connections.current == [silent]
    alone.alive.append("n1")
    alone.pass_time(1.0)
    assert alone.connections.current != [silent] and alone.places == ["n1"]
