"""How much work a connection of HTTP/2 may cause at once: as many requests as it may have streams.

What can go wrong. A client opens streams and gives them up at once, again and again. Its own limit is kept: a stream
that was given up is over. But what a service does for a call that was cancelled goes on for a moment. So is it with a
stream that was answered before its body was taken: the rest of that still waits for its service. Both keep the place
that they had, the one for `GIVEN_UP_S`, the other until its service is done.

An honest client comes there, too: calls of gRPC that come to their deadlines are given up, and others begun in their
place. Clients of gRPC do not try again what is refused. So a request for which there is no place waits, in the order
of their coming: nothing is made of it, and what follows its head is not taken, so that its window bounds it. So do all
that come behind one that was refused since the node has too much to do, for a moment; and those that came with one
read, behind some of them, when the turn of the reactor has taken its time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from pico_twisted.core.sweep import NEVER, Sweep
from pico_twisted.net.proxy.http2.request import Http2Request
from pico_twisted.net.proxy.turn_line import TurnLine

GIVEN_UP_S: Final = 1.0
"""Seconds for which a request that its client gave up keeps its place: by then its service knows."""
BEGUN_OF_A_TURN: Final = 16
"""Most requests of a connection that are begun in one turn of the reactor when they have waited for a time: all those
of a hundred connections at once would take seconds. Of those that come so many are begun before it is asked whether the
turn is long."""


class StreamPlaces:
    """The places of the requests of one connection.

    Args:
        streams: how many there are.
        sweep: of the node.
        line: of the port, where requests that have waited are begun.
        begin: makes what is to be made of a request.
        turn_is_long: whether this turn of the reactor has taken its time.

    Attributes:
        deadline: when a place may have become free for one that waits.
        waiting: those without a place, in the order of their coming.
    """

    def __init__(
        self,
        streams: int,
        sweep: Sweep,
        line: TurnLine,
        begin: Callable[[Http2Request], None],
        turn_is_long: Callable[[], bool],
    ) -> None:
        self.deadline = NEVER
        self._streams = streams
        self._sweep = sweep
        self._line = line
        self._begin = begin
        self._turn_is_long = turn_is_long
        self._taken: set[Http2Request] = set()
        self.waiting: dict[Http2Request, None] = {}
        self._given_up: deque[float] = deque()  # when clients gave requests up that had places
        self._held_until = 0.0

    def give(self, requests: Sequence[Http2Request]) -> None:
        """Have requests begun that came together, but for those that are over: now, or when they have a place, and
        the process time."""
        for number, request in enumerate(requests, 1):
            if not request.is_over:
                self._give(request)
            if number % BEGUN_OF_A_TURN == 0 and number < len(requests) and self._turn_is_long():
                for other in requests[number:]:
                    if not other.is_over:
                        self._await(other)
                self._line.join(self._in_line)
                return

    def _give(self, request: Http2Request) -> None:
        taken = self._taken
        full = len(taken) + len(self._given_up) >= self._streams
        if self.waiting or ((full or self._held_until) and not self._has_room()):
            self._await(request)
        else:
            taken.add(request)
            self._begin(request)

    def _await(self, request: Http2Request) -> None:
        request.await_place()
        self.waiting[request] = None
        self.deadline = self._sweep.now
        self._sweep.add(self)

    def free(self, request: Http2Request, given_up: bool) -> None:
        """A request is over, and so is its stream. One that had no place is forgotten."""
        if self.waiting:
            self.waiting.pop(request, None)
        if request in self._taken:
            self._taken.remove(request)
            if given_up:
                self._given_up.append(self._sweep.now)

    def hold_back(self, until: float) -> None:
        """Begin none before a time."""
        self._held_until = until

    def go_on(self) -> None:
        """Begin some of those that waited, as far as there are places now, and the others in turns to come."""
        if not self._turn_is_long():
            self._begin_some()
        self._join_line()

    def _in_line(self) -> None:
        self._begin_some()
        self._join_line()

    def _join_line(self) -> None:
        if self.waiting and self._has_room():
            self._line.join(self._in_line)

    def _begin_some(self) -> None:
        for _ in range(BEGUN_OF_A_TURN):
            if not self.waiting or not self._has_room():
                return
            request = next(iter(self.waiting))
            del self.waiting[request]
            if not request.is_over:
                self._taken.add(request)
                request.took_place()
                self._begin(request)

    def _has_room(self) -> bool:
        if self._held_until:
            if self._sweep.now < self._held_until:
                return False
            self._held_until = 0.0
        given_up, since = self._given_up, self._sweep.now - GIVEN_UP_S
        while given_up and given_up[0] <= since:
            given_up.popleft()
        return len(self._taken) + len(given_up) < self._streams

    def deadline_passed(self, now: float) -> None:
        """Called each turn of the sweep while requests wait."""
        if not self.waiting:
            self.close()
        else:
            self._join_line()

    def close(self) -> None:
        """None of those that wait is begun any more."""
        self.waiting = {}
        self.deadline = NEVER
        self._sweep.discard(self)

    @property
    def held_bytes(self) -> int:
        """Bytes that are held of requests."""
        return sum(request.held_bytes for request in (*self._taken, *self.waiting))
