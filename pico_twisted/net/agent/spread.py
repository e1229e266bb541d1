"""Spreads the sessions of one listener over nodes, so that the loss of one interrupts nothing.

What is needed. With `connect.connections: 2` a listener has two sessions, on different nodes (or workers of a host)
where there are that many. With `auto` it has one, and a second as soon as a node says that it is not alone. Sessions
that ended up on one node, because there was no other, part when there is. All that for fleets: what makes thousands of
agents act (a node that joins) must not make them act in the same second.

What can go wrong. Behind one URL there may be many nodes, and a load balancer that chooses without asking. A node may
believe in others that are gone. So a session that is wanted elsewhere is a wish, never a condition: see `Connector`.

What was chosen. A connector for each session: each lives and dies by itself, and a node that drains moves its own only.
A connector begins once those before it are registered, so that it knows where not to go. How many nodes there are comes
with the answer to each handshake and with each heartbeat of a node: at most ten seconds old.

With `auto` the second session insists on a node of its own: agents that reach only one node have one session.

What was rejected. Giving a session up when the cluster shrinks to one node again: it is back within the minute, mostly.
Moving a session whose node is alone with it: a session that is where it should be stays there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IReactorTime

from pico_twisted.core.agent.dial_plan import AgentRandom
from pico_twisted.core.backoff import Backoff
from pico_twisted.net.agent.connector import Connect, Connector, Session
from pico_twisted.net.agent.gate import Gate
from pico_twisted.net.observe.metrics import Metrics

AUTO: Final = 0
"""As many sessions as the cluster is worth: one, or two when it has more than one node."""
AUTO_SESSIONS: Final = 2
GROW_WITHIN_S: Final = 10.0
"""A fleet that hears of a second node opens its second sessions over this time."""
MOVE_WITHIN_S: Final = 15.0
"""And one whose sessions are two on one node moves one of them within this time."""
MOVE_AGAIN_S: Final = 30.0
"""How long after a move that came to nothing the next is tried; twice as long each time."""
MOVE_AGAIN_MAX_S: Final = 960.0


class Spread:
    """All sessions of one listener.

    Args:
        endpoint: the endpoint ID, for logs.
        index: the listener's place in the configuration: its slots begin with it.
        connections: how many sessions to have, or `AUTO`.
        urls: addresses of nodes.
        connect: opens a session.
        clock: tells the time and wakes.
        rng: the source of chance.
        metrics: counts what happens.
        changed: called whenever a session came or went.
        gate: says when a dial begins; None for at once.
    """

    def __init__(
        self,
        *,
        endpoint: str,
        index: int,
        connections: int,
        urls: Sequence[str],
        connect: Connect,
        clock: IReactorTime,
        rng: AgentRandom,
        metrics: Metrics,
        changed: Callable[[], None],
        gate: Gate | None = None,
    ) -> None:
        self.connectors: list[Connector] = []
        self._endpoint = endpoint
        self._index = index
        self._connections = connections
        self._urls = urls
        self._connect = connect
        self._clock = clock
        self._rng = rng
        self._metrics = metrics
        self._changed = changed
        self._gate = gate
        self._stopped = False
        self._grow_at: float | None = None
        self._move_at: float | None = None
        self._move_again = Backoff(MOVE_AGAIN_S, MOVE_AGAIN_MAX_S, rng, jitter=0.5)

    # Its life

    def start(self) -> None:
        """Begin to dial."""
        self._add()

    def drain_requested(self, tunnel: object) -> None:
        """The node will close this session: replace it, and no other."""
        for connector in self.connectors:
            connector.drain_requested(tunnel)

    def drain(self) -> Deferred[None]:
        """Dial no more; drain each session and close it after its last call. Fires when all are gone."""
        self._stopped = True
        done: Deferred[Any] = gatherResults([one.drain() for one in self.connectors], consumeErrors=True)
        return done.addCallback(lambda _: None)

    def abort(self) -> None:
        """Dial no more and cut what is there."""
        self._stopped = True
        for connector in self.connectors:
            connector.abort()

    def look(self, now: float) -> None:
        """Called about once a second: more sessions, or a better place for one?"""
        if self._stopped or not self._complete():
            return
        self._look_for_growth(now)
        self._look_for_move(now)

    # What can be asked

    @property
    def sessions(self) -> list[Session]:
        """All that are alive."""
        return [session for connector in self.connectors for session in connector.sessions]

    @property
    def current(self) -> list[Session]:
        """Those that take new calls."""
        return [connector.current for connector in self.connectors if connector.current is not None]

    @property
    def wanted(self) -> int:
        """How many sessions there should be by now."""
        if self._connections != AUTO:
            return self._connections
        several = max((session.tunnel.nodes for session in self.current), default=1) > 1
        return max(len(self.connectors), AUTO_SESSIONS if several else 1)

    def held_bytes(self) -> int:
        """Bytes that the sessions make the process hold. Asked a few times a second of thousands."""
        held = 0
        for connector in self.connectors:
            for session in connector.sessions:
                held += session.tunnel.held_bytes()
        return held

    def _complete(self) -> bool:
        return all(connector.current is not None for connector in self.connectors)

    # How it grows and moves

    def _add(self) -> None:
        number = len(self.connectors)
        connector = Connector(
            endpoint=self._endpoint,
            slot=f"{self._index}-{number}" if number else str(self._index),
            urls=self._urls,
            connect=self._connect,
            clock=self._clock,
            rng=self._rng,
            metrics=self._metrics,
            changed=self._session_changed,
            siblings=partial(self._siblings, number),
            insists=self._connections == AUTO and number > 0,
            gate=self._gate,
        )
        self.connectors.append(connector)
        connector.start()

    def _siblings(self, number: int) -> list[Session]:
        return [one.current for at, one in enumerate(self.connectors) if at != number and one.current is not None]

    def _session_changed(self) -> None:
        # What a handshake told is acted on at once: handshakes are spread over time already.
        if not self._stopped and self._complete() and self.wanted > len(self.connectors):
            self._add()
        self._changed()

    def _look_for_growth(self, now: float) -> None:
        if self.wanted <= len(self.connectors):
            self._grow_at = None
        elif self._grow_at is None:
            self._grow_at = now + self._rng.uniform(0.0, GROW_WITHIN_S)
        elif now >= self._grow_at:
            self._grow_at = None
            self._add()

    def _look_for_move(self, now: float) -> None:
        places = [session.tunnel.node_id for session in self.current]
        known = [place for place in places if place is not None]
        doubled = len(set(known)) < len(known)
        if not doubled or max(session.tunnel.nodes for session in self.current) <= len(set(known)):
            self._move_at = None
            self._move_again.reset()
        elif self._move_at is None:
            self._move_at = now + self._rng.uniform(0.0, MOVE_WITHIN_S)
        elif now >= self._move_at:
            self._move_at = now + self._move_again.next_s()
            # The last of those that share a place.
            at = max(at for at, place in enumerate(places) if place is not None and places.count(place) > 1)
            self.connectors[at].move()
