"""When an attempt to open a session may begin: the dials of one process, to each of its addresses.

What is needed. An agent may have thousands of listeners, and loses all their sessions in the same moment when a node
ends. Each has its back-off, which says how soon that listener tries again; together they are a herd. All try the
port of a node that is away, over and over, and take the CPU that the node needs to start. And when it is there, all
come at once: the node works off a whole queue of handshakes before it looks at anything else, and what its listening
queue cannot hold waits for TCP's seconds.

What was chosen. One line for each address, first come, first served, and two rules about how fast it moves:

- *The port is closed*: one dial finds out as much as a thousand. While no dial gets through, one listener of the line
  tries every `TRY_ONE_S`; the others wait. The one that tried last may try again whenever its back-off says so: a
  listener that is alone never waits here. If another address may be open, none waits for this one: those whose turn
  it is not fail as if they had tried, and their plans lead them on.
- *It is open*: so many dials at once that handshakes hardly wait for each other. That limit begins with `FIRST_DIALS`,
  grows with each session that was opened about as quickly as the quickest, and shrinks when they take longer: a node
  next door is busy with a few dozen, one beyond an ocean takes hundreds. What was learned is forgotten when all have
  come through: the next burst may meet another node, or another network.

A dial that brought nothing for `HUNG_S` is most likely one to a host that is gone, where it costs nothing: it
does not count any more, until there are `MAX_DIALS`.

What can go wrong. Behind one address may be several nodes, and one of them is closed: a port counts as closed only if
no session was opened in the last `OPEN_S`. A dial that was given up says nothing. A line is left at any time, by
cancelling.

What was rejected. A longer back-off for those who have company: they would come back later, and still all try. A
fixed rate of dials, or a fixed number at once: too high for one machine, or too low for another.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar

import attrs
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

TRY_ONE_S: Final = 0.1
"""Seconds between two listeners' dials at a closed port: soon enough to find it open, and nothing to a machine."""
OPEN_S: Final = 1.0
"""Seconds for which a port counts as open after a session was opened through it, whatever one dial says."""
FIRST_DIALS: Final = 32
"""Dials at once to begin with, and never fewer: what several processes begin with together fits any listening queue.
With half as many, a process of a busy machine has too little to do to get its share of the CPU."""
MAX_DIALS: Final = 256
"""Most dials at once to one address. Of thousands at once each would take longer than it may, in this process alone,
and all would begin again."""
QUICK_S: Final = 0.05
"""Seconds that a session may take longer than the quickest, unless half of what that took is more, to let one dial more
be under way: about as long may a client's request wait in a node that is busy with handshakes."""
SLOW_TIMES: Final = 3
"""Factor on what a session may take longer, see `QUICK_S`, beyond which one dial fewer may be under way."""
HUNG_S: Final = 1.0
"""Seconds after which a dial that brought nothing does not count against the limit."""
FAILED_AT_ONCE: Final = 50
"""Most attempts that leave a closed port for another address before the reactor looks at something else."""

Opened = TypeVar("Opened")


@attrs.define(eq=False, kw_only=True)
class _Turn(Generic[Opened]):
    """One attempt: in a line, or under way."""

    who: str
    dial: Callable[[], Deferred[Opened]]
    result: Deferred[Opened]
    dialling: Deferred[Opened] | None = None
    began_at: float = 0.0
    given_up: bool = False


class _Port(Generic[Opened]):
    """What is known of one address, and who waits there.

    Attributes:
        line: who waits, in order.
        under_way: whose dial has begun, in order.
        closed: the last dials were refused.
        busy: its line moves just now.
        timer: moves it next.
    """

    def __init__(self) -> None:
        self.line: dict[_Turn[Opened], None] = {}
        self.under_way: dict[_Turn[Opened], None] = {}
        self.closed = False
        self.busy = False
        self.timer: IDelayedCall | None = None
        self._fresh: dict[_Turn[Opened], None] = {}  # those under way that count
        self._last_who = ""  # whose dial was refused last
        self._last_tried_at = -math.inf
        self._last_opened_at = -math.inf
        self._limit = FIRST_DIALS
        self._quickest_s = math.inf

    def wait_s(self, turn: _Turn[Opened], now: float) -> float:
        """Return how long until this turn may be looked at again; 0 when it may begin."""
        if len(self.under_way) >= MAX_DIALS:
            return math.inf  # until one of them ends
        for oldest in list(itertools.takewhile(lambda one: one.began_at + HUNG_S <= now, self._fresh)):
            del self._fresh[oldest]
        wait_s = 0.0
        if len(self._fresh) >= self._limit:
            wait_s = next(iter(self._fresh)).began_at + HUNG_S - now
        if self.closed and turn.who != self._last_who:
            wait_s = max(wait_s, self._last_tried_at + TRY_ONE_S - now)
        return wait_s

    def begun(self, turn: _Turn[Opened], now: float) -> None:
        """A dial begins."""
        turn.began_at = now
        self.under_way[turn] = self._fresh[turn] = None
        if self.closed:
            self._last_tried_at = now

    def over(self, turn: _Turn[Opened]) -> None:
        """A dial has ended, somehow."""
        self.under_way.pop(turn, None)
        self._fresh.pop(turn, None)

    def refused(self, turn: _Turn[Opened], now: float) -> None:
        """Nothing listens there."""
        self._last_who = turn.who
        self._last_tried_at = now
        if now - self._last_opened_at >= OPEN_S:
            self.closed = True

    def opened(self, turn: _Turn[Opened], now: float) -> None:
        """A session was opened."""
        self.closed = False
        self._last_opened_at = now
        took_s = now - turn.began_at
        self._quickest_s = min(self._quickest_s, took_s)
        quick_s = max(QUICK_S, self._quickest_s / 2)
        longer_s = took_s - self._quickest_s
        if longer_s <= quick_s:
            self._limit = min(self._limit + 1, MAX_DIALS)
        elif longer_s > SLOW_TIMES * quick_s:
            self._limit = max(self._limit - 1, FIRST_DIALS)

    def forget(self) -> None:
        """A burst begins."""
        self._limit = FIRST_DIALS
        self._quickest_s = math.inf


class DialThrottle(Generic[Opened]):
    """Lets the attempts of one process begin. See the module.

    Args:
        urls: the addresses that are dialled: the same for all of the process.
        clock: tells the time and wakes.
    """

    def __init__(self, urls: Sequence[str], clock: IReactorTime) -> None:
        self._ports: dict[str, _Port[Opened]] = {url: _Port() for url in urls}
        self._clock = clock

    def run(self, url: str, who: str, dial: Callable[[], Deferred[Opened]]) -> Deferred[Opened]:
        """Dial when it is time.

        Args:
            url: the address.
            who: the same for all attempts of one session and its successors.
            dial: makes the attempt.

        Returns:
            What `dial` gives. Cancelling it leaves the line, or gives the attempt up.
        """
        port = self._ports[url]
        if not port.line and not port.under_way:
            port.forget()
        turn = _Turn[Opened](who=who, dial=dial, result=Deferred(lambda _: self._give_up(port, turn)))
        port.line[turn] = None
        self._move(port)
        return turn.result

    def _give_up(self, port: _Port[Opened], turn: _Turn[Opened]) -> None:
        turn.given_up = True
        port.line.pop(turn, None)
        if turn.dialling is not None:
            turn.dialling.cancel()
        # Not at once: at a stop all are given up, one after the other, and none should begin meanwhile.
        self._look_in(port, 0.0)

    def _look_in(self, port: _Port[Opened], wait_s: float) -> None:
        """Move the line after a while, if there is one."""
        timer = port.timer
        if timer is not None:
            if port.line and timer.getTime() <= self._clock.seconds() + wait_s:
                return  # too early does no harm, and costs less than another timer for each that ends or comes
            timer.cancel()
            port.timer = None
        if port.line and wait_s < math.inf:
            port.timer = self._clock.callLater(wait_s, self._timer_fired, port)

    def _timer_fired(self, port: _Port[Opened]) -> None:
        port.timer = None
        self._move(port)

    def _move(self, port: _Port[Opened]) -> None:
        """Let those begin whose turn it is."""
        if port.busy:  # a dial ended at once, or its owner came back for another: the loop below goes on
            return
        port.busy = True
        wait_s = math.inf
        failed = 0
        while port.line:
            turn = next(iter(port.line))
            wait_s = port.wait_s(turn, self._clock.seconds())
            if wait_s <= 0.0:
                del port.line[turn]
                self._begin(port, turn)
            elif port.closed and not all(other.closed for other in self._ports.values()):
                if failed == FAILED_AT_ONCE:
                    wait_s = 0.0
                    break
                failed += 1
                del port.line[turn]
                turn.result.errback(ConnectionRefusedError("nothing listened there a moment ago"))
            else:
                break
        port.busy = False
        self._look_in(port, wait_s)

    def _begin(self, port: _Port[Opened], turn: _Turn[Opened]) -> None:
        port.begun(turn, self._clock.seconds())
        turn.dialling = maybeDeferred(turn.dial)
        turn.dialling.addBoth(self._ended, port, turn)

    def _ended(self, outcome: Opened | Failure, port: _Port[Opened], turn: _Turn[Opened]) -> None:
        port.over(turn)
        was_closed = port.closed
        if not turn.given_up:
            now = self._clock.seconds()
            if not isinstance(outcome, Failure):
                port.opened(turn, now)
            elif outcome.check(ConnectionRefusedError):
                port.refused(turn, now)
            else:
                port.closed = False  # something listens there, or nothing answers
        turn.result.callback(outcome)  # which takes a failure too
        if turn.given_up:
            return  # `_give_up` goes on
        self._move(port)
        if was_closed and not port.closed:
            for other in self._ports.values():
                if other.closed and other.line:
                    self._move(other)
