"""Deals requests out to clients: as fast as they are answered, or at a rate.

At a rate each request has a moment at which it is due, and its latency counts from that moment, also when it had to
wait until a client was free: a cluster that stands still for a second is seen with all the requests of that second, and
not with the few that the clients had under way ("coordinated omission"). Requests that were due and not begun when the
time was over are counted as well.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from pico_twisted.core.sweep import Sweep
from pico_twisted.ctl.bench.clients import Client, WebSocketClient
from pico_twisted.ctl.bench.messages import Content
from pico_twisted.ctl.bench.places import Place, heads_of
from pico_twisted.ctl.bench.plan import BenchPlan
from pico_twisted.ctl.bench.record import Record

log = Logger()


class Traffic:
    """The clients, and what they do.

    Args:
        reactor: wakes.
        plan: what is wanted.
        content: what is sent.
        places: proxy ports, which the clients share.
        endpoint_ids: of the endpoints.
        sweep: watches time-outs.

    Attributes:
        record: of the phase.
    """

    def __init__(
        self,
        reactor: Any,
        plan: BenchPlan,
        content: Content,
        places: Sequence[Place],
        endpoint_ids: Sequence[str],
        sweep: Sweep,
    ) -> None:
        self.record = Record()
        self._reactor = reactor
        self._rate = plan.rate
        self._most = 0.0  # requests that the phase may have
        self._dealt = 0  # those of them that a client was told to make
        self._phase_at = 0.0
        self._timer: IDelayedCall | None = None
        self._all_begun: Deferred[None] = Deferred()
        self._all_ended: Deferred[None] | None = None
        self._turns: deque[Deferred[tuple[Record, float]]] = deque()  # of those that have nothing to do
        kind = WebSocketClient if plan.websocket else Client
        sources = [(place, heads_of(place, plan, endpoint_ids)) for place in places]
        self._clients = [
            kind(*sources[number % len(sources)], content, plan, sweep=sweep, reactor=reactor)
            for number in range(plan.connections)
        ]
        self._work = [Deferred.fromCoroutine(self._work_on(client)) for client in self._clients]
        for work in self._work:
            work.addErrback(_stopped)

    def begin(self, most: float = math.inf) -> Deferred[None]:
        """Begin a phase: what is begun from now on is counted in a new `record`.

        Args:
            most: requests that it may have.

        Returns:
            A Deferred that fires when so many were begun.
        """
        self._stop()
        self.record = Record()
        self._most = most
        self._dealt = 0
        self._phase_at = time.perf_counter()
        self._all_begun = Deferred()
        self._deal()
        return self._all_begun

    def end(self) -> Deferred[None]:
        """Begin no more requests. Fires when those under way have ended; each ends, at the latest by its time-out."""
        self._stop()
        ended = self._all_ended = Deferred()
        self._look_for_end()
        return ended

    def unsent(self, until: float) -> int:
        """Requests of this phase that were due before `until` (as `time.perf_counter` has it), and were not begun."""
        if self._rate is None:
            return 0
        due = min(self._most, math.ceil((until - self._phase_at) * self._rate))
        return max(0, int(due) - self._dealt)

    def close(self) -> None:
        """Close all connections; what is still under way has no end."""
        self._stop()
        for work in self._work:
            work.cancel()
        for client in self._clients:
            client.close()

    async def _work_on(self, client: Client) -> None:
        while True:
            record, due_at = await self._turn()
            await client.request(record, due_at)

    def _turn(self) -> Deferred[tuple[Record, float]]:
        """Fires once a request is due: with the record that it belongs to, and the moment at which it was due."""
        turn: Deferred[tuple[Record, float]] = Deferred()
        self._turns.append(turn)
        self._deal()
        self._look_for_end()
        return turn

    def _deal(self) -> None:
        """Give what is due to those that have nothing to do."""
        now = time.perf_counter()
        while self._turns and self._dealt < self._most:
            due_at = now if self._rate is None else self._phase_at + self._dealt / self._rate
            if due_at > now:
                if self._timer is None:
                    self._timer = self._reactor.callLater(due_at - now, self._wake)
                return
            self._dealt += 1
            self._turns.popleft().callback((self.record, due_at))
            if self._dealt == self._most:
                self._all_begun.callback(None)

    def _wake(self) -> None:
        self._timer = None
        self._deal()

    def _stop(self) -> None:
        """Deal no more."""
        self._most = 0.0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look_for_end(self) -> None:
        if self._all_ended is not None and len(self._turns) == len(self._clients):
            ended, self._all_ended = self._all_ended, None
            ended.callback(None)


def _stopped(failure: Failure) -> None:
    """A client works no more: we closed it, or it has a fault."""
    if not failure.check(CancelledError):
        log.failure("A client failed", failure)
