"""The sessions of one listener, spread over nodes, so that the loss of one interrupts nothing.

What is needed. With `connect.connections: 2` a listener has two sessions, on different nodes (or workers of a host)
where there are that many. With `auto` it has one, and a second as soon as a node says that it is not alone. Sessions
that ended up on one node, because there was no other, part when there is. All that for fleets: what makes thousands of
agents act (a node that joins) must not make them act in the same second.

What can go wrong. Behind one URL there may be many nodes, and a load balancer that chooses without asking. A node may
believe in others that are gone. So to be elsewhere is a wish, never a condition: see `core.agent.life`.

What was chosen. A connector for each session: each lives and dies by itself, and a node that drains moves its own only.
A connector begins once those before it are registered, so that it knows where not to go. How many nodes there are comes
with the answer to each handshake and with each heartbeat of a node: at most ten seconds old.

A node that gives no sign of life may be stopped, or have lost the connection without our learning of it. Then another
session is dialled at once, at another node where there is one, and takes the new calls; the old one keeps those that it
has, until it is heard again or given up. A node that is only slow has lost nothing by it.

With `auto` the second session insists on a node of its own: agents that reach only one node have one session.

What was rejected. Giving a session up when the cluster shrinks to one node again: it is back within the minute, mostly.
Moving a session whose node is alone with it: a session that is where it should be stays there.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from twisted.internet.defer import Deferred, gatherResults

from pico_twisted.core.backoff import Backoff
from pico_twisted.net.agent.active_connection import ActiveConnection
from pico_twisted.net.agent.connector import Connect, Connector, DialParts

AUTO: Final = 0
"""As many sessions as the cluster is worth: one, or two when it has more than one node."""
AUTO_SESSIONS: Final = 2
"""Most sessions of a listener that has as many as the cluster is worth."""
GROW_WITHIN_S: Final = 10.0
"""Seconds over which a fleet that hears of a second node opens its second sessions."""
MOVE_WITHIN_S: Final = 15.0
"""Seconds over which a fleet whose listeners have two sessions on one node moves one of each."""
MOVE_AGAIN_S: Final = 30.0
"""Longest wait after a first move that came to nothing, in seconds; it doubles with each further one."""
MOVE_AGAIN_MAX_S: Final = 960.0
"""Longest wait after any move that came to nothing, in seconds."""


class ListenerConnections:
    """All sessions of one listener.

    Args:
        parts: what all connectors share.
        endpoint: the endpoint ID, for logs.
        index: the listener's place in the configuration: its slots begin with it.
        connections: how many sessions to have, or `AUTO`.
        connect: opens a session.
        changed: called whenever a session came or went.
    """

    def __init__(
        self,
        parts: DialParts,
        *,
        endpoint: str,
        index: int,
        connections: int,
        connect: Connect,
        changed: Callable[[], None],
    ) -> None:
        self.connectors: list[Connector] = []
        self._parts = parts
        self._endpoint = endpoint
        self._index = index
        self._connections = connections
        self._connect = connect
        self._changed = changed
        self._stopped = False
        self._grow_at: float | None = None
        self._move_at: float | None = None
        self._renewing: list[Connector] = []  # those whose session is to be opened with another certificate
        self._move_again = Backoff(MOVE_AGAIN_S, MOVE_AGAIN_MAX_S, parts.rng, jitter=0.5)

    # Its life

    def start(self) -> None:
        """Begin to dial."""
        self._add()

    def drain_requested(self, tunnel: object) -> None:
        """The node will close this session: replace it, and no other."""
        for connector in self.connectors:
            connector.drain_requested(tunnel)

    def credential_changed(self, *, renew: bool) -> None:
        """We have another credential: dial at once where we wait because the one before was refused.

        Args:
            renew: it is a certificate, which is shown on new sessions only: they relieve those that there are, one
                after the other.
        """
        for connector in self.connectors:
            connector.credential_changed()
        if renew:
            self._renewing = [one for one in self.connectors if one.current is not None]

    def resign(self) -> None:
        """Dial no more, and ask the nodes for calls that nobody else can serve, and no others."""
        self._stopped = True
        for connector in self.connectors:
            connector.resign()

    def drain(self) -> Deferred[None]:
        """Dial no more; drain each session and close it after its last call. Fires when all are gone."""
        self._stopped = True
        draining = [one.drain() for one in self.connectors]
        return gatherResults(draining, consumeErrors=True).addCallback(lambda _: None)

    def abort(self) -> None:
        """Dial no more and cut what is there."""
        self._stopped = True
        for connector in self.connectors:
            connector.abort()

    def look(self, now: float) -> None:
        """Called about once a second: more sessions, or a better place for one?"""
        if self._stopped:
            return
        for connector in self.connectors:
            if connector.current is not None and connector.current.tunnel.silent:
                connector.move()
        if not self._complete():
            return
        if self._renewing:
            self._renewing.pop().move()
        self._look_for_growth(now)
        self._look_for_move(now)

    # What can be asked

    @property
    def sessions(self) -> list[ActiveConnection]:
        """All that are alive."""
        return [session for connector in self.connectors for session in connector.sessions]

    @property
    def current(self) -> list[ActiveConnection]:
        """The sessions that take new calls."""
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
            self._parts,
            endpoint=self._endpoint,
            slot=f"{self._index}-{number}" if number else str(self._index),
            connect=self._connect,
            changed=self._session_changed,
            siblings=partial(self._siblings, number),
            insists=self._connections == AUTO and number > 0,
        )
        self.connectors.append(connector)
        connector.start()

    def _siblings(self, number: int) -> list[ActiveConnection]:
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
            self._grow_at = now + self._parts.rng.uniform(0.0, GROW_WITHIN_S)
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
            self._move_at = now + self._parts.rng.uniform(0.0, MOVE_WITHIN_S)
        elif now >= self._move_at:
            self._move_at = now + self._move_again.next_s()
            # The last of those that share a place.
            at = max(at for at, place in enumerate(places) if place is not None and places.count(place) > 1)
            self.connectors[at].move()
