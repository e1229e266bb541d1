"""Looks after calls that wait: which sessions are silent, which ways are slow, and what of it is told.

What is needed. An agent or a node that was stopped, or whose connection only its own side knows to be gone, answers
nothing, and the kernel says nothing: a request there would wait until the heartbeats have failed, for 20 s. And who
operates this should read which agent is slow.

What was chosen. A session on which a call has waited for `SILENT_S`, while no byte at all came over it, is asked for a
sign of life. From then on it is the last choice. When it gives none within `PATIENCE_S`, its calls are given up that
may be made again (`IResponseSink.may_move`), each once, and no more than `MOVES_A_REQUEST` of all: when everything is
slow, what is made twice makes it slower.

What was rejected. A hedge: to call both, and take the answer that comes first. A request would have two calls at once,
each with its credit, its head and its end, in order to use the rare answer of a session that was silent for seconds.
Moving is what happens when a session is lost, a little earlier.

Nothing is done for each call but to note when it began. Once a second all that are in flight are looked at, and those
that wait for more than a second are watched with each turn of the sweep.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from typing import Final

import attrs
from prometheus_client.core import Metric
from twisted.logger import Logger

from pico_twisted.core.routing.latency import SILENT_LEVEL, STALLED_S, SUSPECT_S, Latency, level_of
from pico_twisted.core.routing.registry import Registry
from pico_twisted.net.interfaces import IHeardCallee
from pico_twisted.net.observe.metrics import levels
from pico_twisted.net.observe.repeated_warning import RepeatedWarning
from pico_twisted.net.routing.pending_call import PendingCall
from pico_twisted.net.routing.routes import AgentRoute, RouteParts, SeenNode
from pico_twisted.net.turn import NEVER, Sweep

log = Logger()

LOOK_S: Final = 1.0
"""Seconds between two looks at all calls in flight."""
SILENT_S: Final = 3.0
"""Seconds without a byte, while a call waits, after which a session is asked for a sign of life."""
PATIENCE_S: Final = 0.4
"""Seconds that it has to give one: some round trips around the world."""
MOVES_A_REQUEST: Final = 0.05
"""How many calls may be moved, for each that is made."""
FIRST_MOVES: Final = 100.0
"""How many may be moved by a node that has made no calls yet."""
MOST_MOVES: Final = 200.0
"""Most calls that may be moved at once, however many were made before."""
PAUSE_S: Final = 0.5
"""Seconds that the clock is ahead of the sweep, from which on we were stopped: they are nobody's fault."""
MAX_NODES_SEEN: Final = 4096
"""Most endpoints of other nodes, of which is kept how they answer: of those that are used, there are fewer."""
NAMED_AFTER: Final = 3
"""How many looks in turn have to find a way slow, before that is told."""
NAMED_LEVEL: Final = 4
"""The level of the mean, 64 ms, from which on a way can be told to be slow."""
NAMED_LEVELS: Final = 2
"""How many levels, 4 times, it has to be slower than the best other one."""

SLOW: Final = "slow"
"""It answers, much later than others do."""
STALLED: Final = "stalled"
"""Calls wait, and none is answered."""
SILENT: Final = "silent"
"""Its session gives no sign of life."""


@attrs.define
class _Probe:
    """A session that was asked for a sign of life.

    Attributes:
        at: when, in the sweep's seconds.
        latency: of the call that waited.
        failed: none came in time.
    """

    at: float
    latency: Latency
    failed: bool = False


class RouteWatch:
    """What a node sees of its routes.

    Args:
        parts: shared by all routes.
        sweep: the process's coarse timer.
        registry: the registrations of this node.
    """

    def __init__(self, parts: RouteParts, sweep: Sweep, registry: Registry[AgentRoute]) -> None:
        self._parts = parts
        self._sweep = sweep
        self._registry = registry
        self._nodes: dict[str, dict[str, SeenNode]] = {}  # by endpoint, then by node
        self._probes: dict[IHeardCallee, _Probe] = {}
        self._waiting: list[PendingCall] = []
        self._look_at = sweep.now
        self._ahead_s = parts.seconds() - sweep.now
        self._calls_before = 0
        self._moves = FIRST_MOVES
        self._found: Counter[Latency] = Counter()  # how many looks in turn found them slow
        self._named: dict[Latency, str] = {}
        self._warnings = RepeatedWarning()
        sweep.each(self._turn)
        parts.metrics.families(self._families)

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
        if self._probes and any(probe.latency.node_id == node_id for probe in self._probes.values()):
            return SILENT_LEVEL
        seen = self._nodes.get(endpoint, {}).get(node_id)
        return 0 if seen is None else seen.latency.next_level

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
        self._named.pop(latency, None)
        self._found.pop(latency, None)

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
        for call in self._waiting:
            if call.asked_at == NEVER or call.over:
                continue
            latency, callee = call.route.latency, call.route.callee
            latency.waits(seconds - max(call.asked_at, latency.answered_at), seconds)
            probe = self._probes.get(callee)
            if probe is not None:
                if probe.failed:
                    self._move(call)
            elif seconds - call.asked_at >= SILENT_S and now - callee.heard_at >= SILENT_S:
                self._probes[callee] = _Probe(now, latency)
                latency.silence(silent=True)
                callee.ask()
        for callee, probe in list(self._probes.items()):
            if callee.heard_at >= probe.at:
                del self._probes[callee]
                probe.latency.silence(silent=False)
            elif not probe.failed and now - probe.at >= PATIENCE_S:
                probe.failed = True
                for pending in [one for one in parts.pending if type(one) is PendingCall]:
                    if pending.route.callee is callee:
                        self._move(pending)

    def _move(self, call: PendingCall) -> None:
        if self._moves >= 1.0 and call.may_move():
            self._moves -= 1.0
            call.move()

    def _look(self, seconds: float) -> None:
        """Find the calls that wait, let silence decay what was measured, and tell what is slow."""
        parts = self._parts
        until = seconds - STALLED_S
        self._waiting = [call for call in parts.pending if type(call) is PendingCall and call.asked_at <= until]
        calls = parts.metrics.calls_started()
        self._moves = min(MOST_MOVES, self._moves + MOVES_A_REQUEST * (calls - self._calls_before))
        self._calls_before = calls
        for latency in list(parts.unwell):
            latency.rest(seconds)
        for latency in {**parts.unwell, **self._named}:
            self._tell(latency)

    # Telling

    def standing(self, latency: Latency) -> str:
        """What is told of a way: `SLOW`, `STALLED` or `SILENT`; empty when it is well."""
        return self._named.get(latency, "")

    def _tell(self, latency: Latency) -> None:
        found, others_s = self._judged(latency)
        named = self._named.get(latency, "")
        if found == named:
            self._found.pop(latency, None)
            return
        self._found[latency] += 1
        if self._found[latency] < NAMED_AFTER:
            return
        del self._found[latency]
        where = {"endpoint": latency.endpoint, "name": latency.name}
        if not found:
            del self._named[latency]
            log.info("{name} is well again for {endpoint}", **where)
            return
        self._named[latency] = found
        suppressed = self._warnings.due(f"{latency.name} {latency.endpoint} {found}", self._sweep.now)
        if suppressed is not None:
            log.warn(
                "{name} is {standing} for {endpoint}: it gets few requests until it is well",
                standing=found,
                first_byte_s=round(latency.usual_s, 3),
                others_s=round(others_s, 3),
                suppressed=suppressed,
                **where,
            )

    def _judged(self, latency: Latency) -> tuple[str, float]:
        """How a way stands, and the mean of the best other one."""
        local = (route.latency for route in self._registry.held(latency.endpoint))
        nodes = (seen.latency for seen in self._nodes.get(latency.endpoint, {}).values())
        measured = [one.usual_s for one in (*local, *nodes) if one is not latency and one.answered_at != -math.inf]
        best_s = min(measured, default=0.0)
        if latency.silent:
            return SILENT, best_s
        if not measured or not latency.held:
            return "", best_s
        if latency.stalled:
            return STALLED, best_s
        level = level_of(latency.usual_s)
        slow = level >= NAMED_LEVEL and level >= level_of(best_s) + NAMED_LEVELS
        return SLOW if slow else "", best_s

    def _families(self) -> Iterator[Metric]:
        counts = Counter(self._named.values())
        yield levels(
            "pico_routes_unwell",
            "Ways to an endpoint that get few requests: slow, stalled (answer nothing) or silent (no sign of life).",
            "standing",
            {standing: counts[standing] for standing in (SLOW, STALLED, SILENT)},
        )
