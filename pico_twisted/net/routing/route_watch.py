"""Looks after calls that wait: which sessions are silent, and which ways answer nothing.

What is needed. An agent or a node that was stopped, or whose connection only its own side knows to be gone, answers
nothing, and the kernel says nothing: a request there would wait until the heartbeats have failed, for 20 s.

What was chosen. A session on which a call has waited for `SILENT_S`, while no byte at all came over it, is asked for a
sign of life. From then on it is the last choice. When it gives none within `PATIENCE_S`, its calls are given up that
may be made elsewhere (`IResponseSink.may_give_up`), each once, and no more than `MOVES_A_REQUEST` of all: when
everything is slow, what is made twice makes it slower. What happened to one connection may have happened to others, so
those that are as silent are asked, too, and nothing is moved from one to the next.

That is a guess: the peer may only stand still. The kernel knows better when not even the question gets to the peer's
machine. Then the session is *cut off*, and what has waited for as long as that takes fails as if it had ended: what can
be made elsewhere is, without a bound, and who sent a POST is told now. Its answer could not come any other way.

What was rejected. A hedge: to call both, and take the answer that comes first. A request would have two calls at once,
each with its credit, its head and its end, in order to use the rare answer of a session that was silent for seconds.
Moving is what happens when a session is lost, a little earlier. And to end a session that is cut off, ourselves or by
the kernel (TCP_USER_TIMEOUT): a wire that is mended after some seconds would then cost each WebSocket, TCP session,
stream and upload on it, which can all wait, in order to free calls that are free without that. Heartbeats end it.

Nothing is done for each call but to note when it began. Once a second all that are in flight are looked at, and those
that wait for more than a second are watched with each turn of the sweep.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Final

import attrs

from pico_twisted.core.routing.latency import SILENT_LEVEL, STALLED_S, SUSPECT_S, Latency
from pico_twisted.core.routing.registry import Registry
from pico_twisted.core.sweep import NEVER, Sweep
from pico_twisted.net.routing.pending_call import PendingCall
from pico_twisted.net.routing.routes import AgentRoute, RouteParts, SeenNode
from pico_twisted.net.routing.standings import RouteStandings
from pico_twisted.net.tunnel.interfaces import IHeardCallee

LOOK_S: Final = 1.0
"""Seconds between two looks at all calls in flight."""
SILENT_S: Final = 2.0
"""Seconds without a byte, while a call waits, after which a session is asked for a sign of life."""
PATIENCE_S: Final = 1.4
"""Seconds that it has to give one: some round trips around the world, or as long as a kernel takes to send the question
four times. With `SILENT_S` and some turns of the sweep that is less than the 4 s that a request may wait in vain."""
LATE_S: Final = 0.4
"""Seconds without a sign of life, after which others that serve the endpoint are asked, too, as far as they are silent:
what happened to one connection may have happened to all, and what is moved should not come to the next one of them."""
MOST_OTHERS: Final = 16
"""Most others that are asked then: an endpoint may have a thousand agents."""
MOVES_A_REQUEST: Final = 0.05
"""How many calls may be moved, for each that is made."""
FIRST_MOVES: Final = 100.0
"""How many may be moved by a node that has made no calls yet."""
MOST_MOVES: Final = 200.0
"""Most calls that may be moved at once, however many were made before."""
PAUSE_S: Final = 0.5
"""By how many seconds the clock gets ahead of the sweep when we were stopped: those are nobody's fault."""
MAX_NODES_SEEN: Final = 4096
"""Most endpoints of other nodes, of which is kept how they answer: of those that are used, there are fewer."""


class _Sign(enum.Enum):
    """What is known of a session that was asked for a sign of life."""

    AWAITED = enum.auto()
    LATE = enum.auto()  # later than most signs come
    MISSING = enum.auto()  # none came in time
    CUT_OFF = enum.auto()  # nor did the question get there


_AWAITED = _Sign.AWAITED
_LATE = _Sign.LATE
_MISSING = _Sign.MISSING
_CUT_OFF = _Sign.CUT_OFF
_FAILED: Final = (_MISSING, _CUT_OFF)


@attrs.define
class _Probe:
    """A session that was asked for a sign of life.

    Attributes:
        at: when, in the sweep's seconds.
        latency: of the call that waited.
        sign: what became of it.
    """

    at: float
    latency: Latency
    sign: _Sign = _Sign.AWAITED


class RouteWatch:
    """What a node sees of its routes.

    Args:
        parts: shared by all routes.
        sweep: the process's coarse timer.
        registry: the registrations of this node.

    Attributes:
        standings: which of them are told to be unwell.
    """

    def __init__(self, parts: RouteParts, sweep: Sweep, registry: Registry[AgentRoute]) -> None:
        self._parts = parts
        self._registry = registry
        self._nodes: dict[str, dict[str, SeenNode]] = {}  # by endpoint, then by node
        self._probes: dict[IHeardCallee, _Probe] = {}
        self._waiting: list[PendingCall] = []
        self._look_at = sweep.now
        self._ahead_s = parts.seconds() - sweep.now
        self._calls_before = 0
        self._moves = FIRST_MOVES
        self.standings = RouteStandings(parts, sweep, registry, self._seen)
        sweep.each(self._turn)

    # Choosing

    def node(self, endpoint: str, node_id: str) -> SeenNode:
        """What is known of another node for an endpoint."""
        try:
            return self._nodes[endpoint][node_id]
        except KeyError:
            return self._first_seen(endpoint, node_id)

    def _first_seen(self, endpoint: str, node_id: str) -> SeenNode:
        if sum(map(len, self._nodes.values())) >= MAX_NODES_SEEN:
            oldest = self._nodes.pop(next(iter(self._nodes)))
            for seen in oldest.values():
                self._forget(seen.latency)
        seen = self._nodes.setdefault(endpoint, {})[node_id] = SeenNode(self._parts, endpoint, node_id)
        return seen

    def node_level(self, endpoint: str, node_id: str) -> int:
        """How slow another node is for an endpoint, as of `Latency.next_level`."""
        if self._probes and node_id in self.silent_nodes():
            return SILENT_LEVEL
        seen = self._nodes.get(endpoint, {}).get(node_id)
        return 0 if seen is None else seen.latency.next_level

    def silent_nodes(self) -> list[str]:
        """The IDs of other nodes whose links were asked for a sign of life, and gave none yet."""
        return [probe.latency.node_id for probe in self._probes.values() if probe.latency.node_id]

    def _seen(self, endpoint: str) -> Iterator[Latency]:
        return (seen.latency for seen in self._nodes.get(endpoint, {}).values())

    def suspect(self, route: AgentRoute) -> None:
        """Many calls wait at a registration that was chosen for one more: look whether any is answered."""
        seconds, latency = self._parts.seconds(), route.latency
        if seconds - latency.answered_at > SUSPECT_S:
            first = min((call.asked_at for call in route.calls if type(call) is PendingCall), default=NEVER)
            latency.waits(seconds - max(first, latency.answered_at), seconds, SUSPECT_S)

    def gone(self, route: AgentRoute) -> None:
        """A registration is gone."""
        self._forget(route.latency)

    def _forget(self, latency: Latency) -> None:
        self._parts.unwell.pop(latency, None)
        self.standings.forget(latency)

    # Time

    def _turn(self, now: float) -> None:
        parts = self._parts
        seconds = parts.seconds()
        slept_s, self._ahead_s = seconds - now - self._ahead_s, seconds - now
        if abs(slept_s) > PAUSE_S:
            for call in parts.pending:
                if type(call) is PendingCall:
                    call.asked_at += slept_s
        if now >= self._look_at:
            self._look_at = now + LOOK_S
            self._look(seconds)
        self._look_for_signs(now, seconds)
        for call in self._waiting:
            if call.asked_at == NEVER or call.over:
                continue
            latency, callee = call.route.latency, call.route.callee
            latency.waits(seconds - max(call.asked_at, latency.answered_at), seconds)
            probe = self._probes.get(callee)
            if probe is not None:
                self._judge(call, probe, seconds)
            elif seconds - call.asked_at >= SILENT_S:
                self._ask_if_silent(callee, latency, now)

    def _ask_if_silent(self, callee: IHeardCallee, latency: Latency, now: float) -> None:
        if callee not in self._probes and now - callee.heard_at >= SILENT_S:
            self._probes[callee] = _Probe(now, latency)
            latency.silence(silent=True)
            callee.ask()

    def _look_for_signs(self, now: float, seconds: float) -> None:
        """Look what became of the sessions that were asked, and judge all calls on one that has just failed."""
        for callee, probe in list(self._probes.items()):
            if callee.heard_at >= probe.at:
                del self._probes[callee]
                probe.latency.silence(silent=False)
            elif now - probe.at >= PATIENCE_S:
                before, probe.sign = probe.sign, _CUT_OFF if callee.cut_off else _MISSING
                if before not in _FAILED:
                    for call in [one for one in self._parts.pending if type(one) is PendingCall]:
                        if call.route.callee is callee:
                            self._judge(call, probe, seconds)
            elif probe.sign is _AWAITED and now - probe.at >= LATE_S:
                probe.sign = _LATE
                for route in self._registry.held(probe.latency.endpoint)[:MOST_OTHERS]:
                    self._ask_if_silent(route.callee, route.latency, now)

    def _judge(self, call: PendingCall, probe: _Probe, seconds: float) -> None:
        """Give a call up, if it is better to fail than to wait for the sign of its session."""
        cut_off = probe.sign is _CUT_OFF and seconds - call.asked_at >= SILENT_S + PATIENCE_S
        guessed = probe.sign in _FAILED and self._moves >= 1.0
        if (cut_off or guessed) and call.may_give_up(cut_off):
            if not cut_off:
                self._moves -= 1.0
            call.give_up()

    def _look(self, seconds: float) -> None:
        """Find the calls that wait, let silence decay what was measured, and judge what is slow."""
        parts = self._parts
        until = seconds - STALLED_S
        self._waiting = [call for call in parts.pending if type(call) is PendingCall and call.asked_at <= until]
        calls = parts.metrics.calls_started()
        self._moves = min(MOST_MOVES, self._moves + MOVES_A_REQUEST * (calls - self._calls_before))
        self._calls_before = calls
        for latency in list(parts.unwell):
            latency.rest(seconds)
        self.standings.look(seconds)
