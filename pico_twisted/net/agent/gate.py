"""When an attempt to open a session may begin: the dials of one process, to each of its addresses.

What is needed. An agent may have thousands of listeners, and loses all their sessions in the same moment when a node
ends. Each has its back-off, which says how soon that listener tries again; together they are a herd. All knock at the
port of a node that is away, over and over, and take the CPU that the node needs to start. And when it is there, all
come at once: the node works off a whole queue of handshakes before it looks at anything else, and what its listening
queue cannot hold waits for TCP's seconds.

What was chosen. One line for each address, first come, first served, and two rules about how fast it moves:

- *The port is closed*: one dial finds out as much as a thousand. While nobody gets through, one listener of the line
  knocks every `KNOCK_S`; the others wait. Who knocked last may knock again whenever its back-off says so: a listener
  that is alone never waits here. If another address may be open, nobody waits for this one: those whose turn it is not
  fail as if they had knocked, and their plans lead them on.
- *It is open*: so many dials at once that handshakes hardly wait for each other. That number begins with `FIRST_DIALS`,
  grows with each session that was opened about as quickly as the quickest, and shrinks when they take longer: a node
  next door is busy with a few dozen, one beyond an ocean takes hundreds. What was learned is forgotten when all have
  come through: the next burst may meet another node, or another network.

A dial that brought nothing for `HUNG_S` is most likely one to a host that is gone, where it costs nobody anything: it
does not count any more, until there are `MAX_DIALS`.

What can go wrong. Behind one address may be several nodes, of which one is closed: a port counts as closed only if
nobody got through in the last `OPEN_S`. A dial that was given up says nothing. A line is left at any time, by
cancelling.

What was rejected. A longer back-off for those who have company: they would come back later, and still all knock. A
fixed rate of dials: too high for one machine, or too low for another.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, Final

import attrs
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

KNOCK_S: Final = 0.1
"""Between two listeners' knocks at a closed port: soon enough to find it open, and nothing to a machine."""
OPEN_S: Final = 1.0
"""A port through which somebody came this lately is not closed, whatever one dial says."""
FIRST_DIALS: Final = 32
"""Dials at once to begin with, and never fewer: what several processes begin with together fits any listening queue.
With half as many, a process of a busy machine has too little to do to get its share of the CPU."""
MAX_DIALS: Final = 256
"""Dials at once at most, to one address. Of thousands at once each would take longer than it may, in this process
alone, and all would begin again."""
QUICK_S: Final = 0.05
"""A session that took at most so much longer than the quickest, or half of what that took, lets one dial more be under
way: about as long may a client's request wait in a node that is busy with handshakes."""
SLOW_TIMES: Final = 3
"""One that took so many times as much longer lets one dial fewer be under way."""
HUNG_S: Final = 1.0
"""A dial that is older is not waited for."""
FAILED_AT_ONCE: Final = 50
"""How many leave a closed door for another address before the reactor looks at something else."""

Dial = Callable[[], "Deferred[Any]"]


@attrs.define(eq=False, kw_only=True)
class _Turn:
    """One attempt: in a line, or under way."""

    who: str
    dial: Dial
    result: Deferred[Any]
    dialling: Deferred[Any] | None = None
    began_at: float = 0.0
    given_up: bool = False


class _Door:
    """What is known of one address, and who waits there.

    Attributes:
        line: who waits, in order.
        under_way: whose dial has begun, in order.
        closed: the last dials were refused.
    """

    def __init__(self) -> None:
        self.line: dict[_Turn, None] = {}
        self.under_way: dict[_Turn, None] = {}
        self.closed = False
        self.busy = False
        self.timer: IDelayedCall | None = None
        self._fresh: dict[_Turn, None] = {}  # those under way that count
        self._knocker = ""
        self._knocked_at = -math.inf
        self._reached_at = -math.inf
        self._width = FIRST_DIALS
        self._quickest_s = math.inf

    def wait_s(self, turn: _Turn, now: float) -> float:
        """How long until this turn may be looked at again; 0 when it may begin."""
        if len(self.under_way) >= MAX_DIALS:
            return math.inf  # until one of them ends
        for oldest in list(itertools.takewhile(lambda one: one.began_at + HUNG_S <= now, self._fresh)):
            del self._fresh[oldest]
        wait_s = 0.0
        if len(self._fresh) >= self._width:
            wait_s = next(iter(self._fresh)).began_at + HUNG_S - now
        if self.closed and turn.who != self._knocker:
            wait_s = max(wait_s, self._knocked_at + KNOCK_S - now)
        return wait_s

    def begun(self, turn: _Turn, now: float) -> None:
        """A dial begins."""
        turn.began_at = now
        self.under_way[turn] = self._fresh[turn] = None
        if self.closed:
            self._knocked_at = now

    def over(self, turn: _Turn) -> None:
        """A dial has ended, somehow."""
        self.under_way.pop(turn, None)
        self._fresh.pop(turn, None)

    def refused(self, turn: _Turn, now: float) -> None:
        """Nothing listens there."""
        self._knocker = turn.who
        self._knocked_at = now
        if now - self._reached_at >= OPEN_S:
            self.closed = True

    def failed(self) -> None:
        """Something listens there, or nothing answers."""
        self.closed = False

    def opened(self, turn: _Turn, now: float) -> None:
        """A session was opened."""
        self.closed = False
        self._reached_at = now
        took_s = now - turn.began_at
        self._quickest_s = min(self._quickest_s, took_s)
        quick_s = max(QUICK_S, self._quickest_s / 2)
        longer_s = took_s - self._quickest_s
        if longer_s <= quick_s:
            self._width = min(self._width + 1, MAX_DIALS)
        elif longer_s > SLOW_TIMES * quick_s:
            self._width = max(self._width - 1, FIRST_DIALS)

    def forget(self) -> None:
        """A burst begins."""
        self._width = FIRST_DIALS
        self._quickest_s = math.inf


class Gate:
    """Lets the attempts of one process begin. See the module.

    Args:
        urls: the addresses that are dialled: the same for all of the process.
        clock: tells the time and wakes.
    """

    def __init__(self, urls: Sequence[str], clock: IReactorTime) -> None:
        self._doors = {url: _Door() for url in urls}
        self._clock = clock

    def run(self, url: str, who: str, dial: Dial) -> Deferred[Any]:
        """Dial when it is time.

        Args:
            url: the address.
            who: the same for all attempts of one session and its successors.
            dial: makes the attempt.

        Returns:
            What `dial` gives. Cancelling it leaves the line, or gives the attempt up.
        """
        door = self._doors[url]
        if not door.line and not door.under_way:
            door.forget()
        turn = _Turn(who=who, dial=dial, result=Deferred(lambda _: self._give_up(door, turn)))
        door.line[turn] = None
        self._move(door)
        return turn.result

    @property
    def waiting(self) -> int:
        """How many are in a line."""
        return sum(len(door.line) for door in self._doors.values())

    @property
    def under_way(self) -> int:
        """How many dials have begun and not ended."""
        return sum(len(door.under_way) for door in self._doors.values())

    def _give_up(self, door: _Door, turn: _Turn) -> None:
        turn.given_up = True
        door.line.pop(turn, None)
        if turn.dialling is not None:
            turn.dialling.cancel()
        # Not at once: whoever stops us gives up one after the other, and none should begin meanwhile.
        self._look_in(door, 0.0)

    def _look_in(self, door: _Door, wait_s: float) -> None:
        """Move the line after a while, if there is one."""
        timer = door.timer
        if timer is not None:
            if door.line and timer.getTime() <= self._clock.seconds() + wait_s:
                return  # too early does no harm, and costs less than another timer for each that ends or comes
            timer.cancel()
            door.timer = None
        if door.line and wait_s < math.inf:
            door.timer = self._clock.callLater(wait_s, self._timer_fired, door)

    def _timer_fired(self, door: _Door) -> None:
        door.timer = None
        self._move(door)

    def _move(self, door: _Door) -> None:
        """Let those begin whose turn it is."""
        if door.busy:  # a dial ended at once, or whoever waited for it came back: the loop below goes on
            return
        door.busy = True
        wait_s = math.inf
        failed = 0
        while door.line:
            turn = next(iter(door.line))
            wait_s = door.wait_s(turn, self._clock.seconds())
            if wait_s <= 0.0:
                del door.line[turn]
                self._begin(door, turn)
            elif door.closed and self._others_may_be_open():
                if failed == FAILED_AT_ONCE:
                    wait_s = 0.0
                    break
                failed += 1
                del door.line[turn]
                turn.result.errback(ConnectionRefusedError("nothing listened there a moment ago"))
            else:
                break
        door.busy = False
        self._look_in(door, wait_s)

    def _others_may_be_open(self) -> bool:
        return any(not door.closed for door in self._doors.values())

    def _begin(self, door: _Door, turn: _Turn) -> None:
        door.begun(turn, self._clock.seconds())
        turn.dialling = maybeDeferred(turn.dial)
        turn.dialling.addBoth(self._ended, door, turn)

    def _ended(self, outcome: Any, door: _Door, turn: _Turn) -> None:
        door.over(turn)
        was_closed = door.closed
        if not turn.given_up:
            now = self._clock.seconds()
            if not isinstance(outcome, Failure):
                door.opened(turn, now)
            elif outcome.check(ConnectionRefusedError):
                door.refused(turn, now)
            else:
                door.failed()
        turn.result.callback(outcome)  # which takes a failure too
        if turn.given_up:
            return  # `_give_up` goes on
        self._move(door)
        if was_closed and not door.closed:
            for other in self._doors.values():
                if other.closed and other.line:
                    self._move(other)
