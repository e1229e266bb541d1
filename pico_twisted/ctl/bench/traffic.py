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
from collections.abc import Callable, Sequence
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

from pico_twisted.ctl.bench.clients import Client, HttpWire, WebSocketWire, Wire
from pico_twisted.ctl.bench.echo import body_of
from pico_twisted.ctl.bench.messages import message_of
from pico_twisted.ctl.bench.places import Place, request_of, upgrade_of
from pico_twisted.ctl.bench.plan import BODIES, BenchPlan
from pico_twisted.ctl.bench.record import Record
from pico_twisted.net.turn import Sweep

ENDLESS: Final = math.inf


class Traffic:
    """The clients, and what they do.

    Args:
        reactor: wakes.
        plan: what is wanted.
        places: proxy ports, which the clients share.
        endpoints: IDs.
        sweep: watches time-outs.
    """

    def __init__(
        self, reactor: Any, plan: BenchPlan, places: Sequence[Place], endpoints: Sequence[str], sweep: Sweep
    ) -> None:
        self.record = Record()
        self._reactor = reactor
        self._rate = plan.rate
        self._most: float = ENDLESS
        self._stopped = True
        self._phase_at = 0.0
        self._due = 0  # requests of this phase that were dealt out at their moment or later
        self._timer: IDelayedCall | None = None
        self._all_begun: Deferred[None] = Deferred()
        self._all_ended: Deferred[None] | None = None
        self._clients = [
            Client(
                places[number % len(places)],
                make,
                sweep=sweep,
                reactor=reactor,
                timeout_s=plan.timeout_s,
                free=self._free,
            )
            for number, make in enumerate(_makers(plan, places, endpoints))
        ]
        self._idle = deque(self._clients)

    # Phases

    def begin(self, most: int | None = None) -> Deferred[None]:
        """Begin a phase: what is begun from now on is counted in a new `record`.

        Args:
            most: requests that it may have; None for any number.

        Returns:
            A Deferred that fires when so many were begun.
        """
        self._stopped = False
        self._stop_timer()
        self.record = Record()
        self._most = ENDLESS if most is None else most
        self._phase_at = time.perf_counter()
        self._due = 0
        self._all_begun = Deferred()
        self._deal()
        return self._all_begun

    def end(self) -> Deferred[None]:
        """Begin no more requests. Fires when those under way have ended; each ends, at the latest by its time-out."""
        self._stopped = True
        self._stop_timer()
        ended = self._all_ended = Deferred()
        self._look_for_end()
        return ended

    def unsent(self, until: float) -> int:
        """Requests of this phase that were due before `until` (as `time.perf_counter` has it), and were not begun."""
        if self._rate is None:
            return 0
        due = min(self._most, math.ceil((until - self._phase_at) * self._rate))
        return max(0, int(due) - self._due)

    def close(self) -> None:
        """Close all connections; what is still under way has no end."""
        for client in self._clients:
            if client.busy:
                client.abort()
            else:
                client.close()

    # One request after the other

    def _free(self, client: Client) -> None:
        if self._stopped:
            self._idle.append(client)
            self._look_for_end()
        elif self._rate is None and not self._idle and self._due < self._most:
            self._give(client, time.perf_counter())
        else:
            self._idle.append(client)
            self._deal()

    def _give(self, client: Client, due_at: float) -> None:
        self._due += 1
        client.go(self.record, due_at)
        if self._due >= self._most and not self._all_begun.called:
            self._all_begun.callback(None)

    def _deal(self) -> None:
        """Give idle clients what is due."""
        idle = self._idle
        now = time.perf_counter()
        while idle and self._due < self._most and not self._stopped:
            due_at = now if self._rate is None else self._phase_at + self._due / self._rate
            if due_at > now:
                if self._timer is None:
                    self._timer = self._reactor.callLater(due_at - now, self._wake)
                return
            self._give(idle.popleft(), due_at)

    def _wake(self) -> None:
        self._timer = None
        self._deal()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look_for_end(self) -> None:
        if self._all_ended is not None and len(self._idle) == len(self._clients):
            ended, self._all_ended = self._all_ended, None
            ended.callback(None)


def _makers(plan: BenchPlan, places: Sequence[Place], endpoints: Sequence[str]) -> list[Callable[[Client], Wire]]:
    """For each client, what makes its connections. Those of one proxy port begin at different endpoints."""
    body = body_of(plan.request_bytes)
    if plan.websocket:
        message = message_of(body)

        def web_socket(number: int) -> Callable[[Client], Wire]:
            endpoint = endpoints[number % len(endpoints)]
            return lambda client: WebSocketWire(client, upgrade_of(client.place, endpoint), message)

        return [web_socket(number) for number in range(plan.connections)]
    length = [("Content-Length", str(len(body)))] if body or plan.method in BODIES else []
    heads = {
        place.url: [request_of(plan.method, place, endpoint, length) for endpoint in endpoints] for place in places
    }

    def plain(number: int) -> Callable[[Client], Wire]:
        return lambda client: HttpWire(client, heads[client.place.url], body, plan, number)

    return [plain(number) for number in range(plan.connections)]
