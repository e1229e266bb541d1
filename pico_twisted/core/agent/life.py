"""The life of a connector: a machine of six states that says what to do about the next session.

It knows no socket, no clock and no Deferred. Its driver tells the events, with the time where it matters, and does the
one thing that each returns. `automat-visualize pico_twisted.core.agent.life` draws it.

There are two ways to the next session. Without one that takes new calls, we wait and dial, over and over. With one that
should be at another node we dial at once and keep what we have: it moves when the new one is there, and stays if none
is to be had. When a session is lost while it moves, the attempt that is under way becomes the next session's.

A node may send a session elsewhere if it is told which nodes its siblings are at. That is a wish: after
`MAX_SENT_ELSEWHERE` such answers it is dropped, so that no session is missing for it. One that moves keeps the wish,
and so does one that *insists*: beside a sibling it would be of no use.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Collection
from typing import Final, Protocol

import attrs
from automat import TypeMachineBuilder

from pico_twisted.core.agent.dial_plan import Dial, DialPlan, Ended, Failed

MAX_SENT_ELSEWHERE: Final = 8
"""Most times that a session lets nodes send it elsewhere: behind a load balancer that draws one of two nodes it then
misses the other once in 256 times."""


class Command(enum.Enum):
    """What to do after an event."""

    NOTHING = "nothing"
    WAIT = "say `due` at `NextSession.due_at`, and at no other time"
    OPEN = "open a session at `NextSession.dial`"
    SERVE = "give new calls to the session that was opened"
    MOVE = "do so, and retire the session that it relieves"
    STAY = "keep the session that was to move"
    RETURN = "close the session that was opened: it comes too late"
    GIVE_UP = "give up the wait or the attempt"


@attrs.frozen(kw_only=True)
class Last:
    """The session before the next one: it has ended, or serves only the calls that it has.

    Attributes:
        url: the address that it was dialled at.
        ended: why it needs a successor.
        lasted_s: how long it took new calls.
    """

    url: str
    ended: Ended
    lasted_s: float


class NextSession:
    """Where and when the next session is dialled.

    Args:
        plan: decides about addresses and waits.
        insists: rather no session than one at a node that a sibling is at.

    Attributes:
        dial: what was decided last.
        due_at: when the wait for it is over; monotonic seconds.
    """

    def __init__(self, plan: DialPlan, *, insists: bool = False) -> None:
        self.dial = Dial(url="", delay_s=0.0)
        self.due_at = 0.0
        self._plan = plan
        self._insists = insists
        self._sent_elsewhere = 0

    def may_be_sent_elsewhere(self, moving: bool) -> bool:
        """Say whether the next handshake names the nodes that are taken, which may refuse us then."""
        return moving or self._insists or self._sent_elsewhere < MAX_SENT_ELSEWHERE

    def sent_elsewhere(self, moving: bool, now: float, shun: Collection[str]) -> bool:
        """A node refused us, since it knows of one that is not taken.

        Args:
            moving: the session that is dialled relieves one that serves.
            now: monotonic seconds.
            shun: addresses that siblings are at.

        Returns:
            Whether to go on with `dial`; else the attempt has failed.
        """
        self._sent_elsewhere += 1
        if (moving or self._insists) and self._sent_elsewhere >= MAX_SENT_ELSEWHERE:
            # There is one node behind the address, in all likelihood: one that insists dials once from now on.
            self._sent_elsewhere = MAX_SENT_ELSEWHERE - 1
            return False
        self.dial = self._plan.elsewhere(self.dial.url, now, shun)
        return True

    def _after(self, last: Last, now: float, shun: Collection[str]) -> Dial:
        return self._plan.after_session(last.url, last.ended, last.lasted_s, now, shun)

    def _wait(self, dial: Dial, now: float) -> Command:
        self.dial = dial
        self.due_at = now + dial.delay_s
        return Command.WAIT


class Life(Protocol):
    """What can happen to the sessions of one registration. Each method returns what is to be done about it."""

    def start(self, now: float, shun: Collection[str]) -> Command:
        """Begin to dial."""

    def due(self) -> Command:
        """The wait is over."""

    def opened(self) -> Command:
        """The attempt gave a session."""

    def failed(self, why: Failed, now: float, shun: Collection[str]) -> Command:
        """The attempt gave none.

        Args:
            why: the kind of failure, which decides about the wait.
            now: monotonic seconds.
            shun: addresses that siblings are at.
        """

    def wanted(self, last: Last, now: float, shun: Collection[str]) -> Command:
        """A session ended, or its node asks for a replacement, and no other takes new calls.

        See `failed` for `now` and `shun`.
        """

    def move(self, url: str, now: float, shun: Collection[str]) -> Command:
        """The session at the address `url` should be at another node. See `failed` for `now` and `shun`."""

    def stop(self) -> Command:
        """Dial no more, for ever."""


def _build_life() -> Callable[[NextSession], Life]:
    builder = TypeMachineBuilder(Life, NextSession)
    new = builder.state("new")
    waiting = builder.state("waiting")
    dialling = builder.state("dialling")
    registered = builder.state("registered")
    moving = builder.state("moving")
    stopped = builder.state("stopped")

    # Without a session for new calls

    @new.upon(Life.start).to(waiting)
    def begin(life: Life, following: NextSession, now: float, shun: Collection[str]) -> Command:
        return following._wait(following._plan.first(now, shun), now)

    waiting.upon(Life.due).to(dialling).returns(Command.OPEN)

    @dialling.upon(Life.failed).to(waiting)
    def try_again(life: Life, following: NextSession, why: Failed, now: float, shun: Collection[str]) -> Command:
        return following._wait(following._plan.after_failure(following.dial.url, why, now, shun), now)

    @waiting.upon(Life.wanted).loop()
    def hurry(life: Life, following: NextSession, last: Last, now: float, shun: Collection[str]) -> Command:
        dial = following._after(last, now, shun)
        return following._wait(dial, now) if now + dial.delay_s < following.due_at else Command.NOTHING

    @dialling.upon(Life.wanted).loop()
    def go_on(life: Life, following: NextSession, last: Last, now: float, shun: Collection[str]) -> Command:
        following._after(last, now, shun)
        return Command.NOTHING

    @dialling.upon(Life.opened).to(registered)
    def serve(life: Life, following: NextSession) -> Command:
        following._sent_elsewhere = 0
        return Command.SERVE

    # With one

    @registered.upon(Life.wanted).to(waiting)
    def succeed_it(life: Life, following: NextSession, last: Last, now: float, shun: Collection[str]) -> Command:
        return following._wait(following._after(last, now, shun), now)

    @registered.upon(Life.move).to(moving)
    def begin_move(life: Life, following: NextSession, url: str, now: float, shun: Collection[str]) -> Command:
        following._sent_elsewhere = 0
        following.dial = following._plan.elsewhere(url, now, shun)
        return Command.OPEN

    @moving.upon(Life.opened).to(registered)
    def relieve(life: Life, following: NextSession) -> Command:
        following._sent_elsewhere = 0
        return Command.MOVE

    moving.upon(Life.failed).to(registered).returns(Command.STAY)

    @moving.upon(Life.wanted).to(dialling)
    def replace_by_move(life: Life, following: NextSession, last: Last, now: float, shun: Collection[str]) -> Command:
        following._after(last, now, shun)
        return Command.NOTHING

    for state in (new, waiting, dialling, moving, stopped):
        state.upon(Life.move).loop().returns(Command.NOTHING)

    # The end

    for state in (new, registered):
        state.upon(Life.stop).to(stopped).returns(Command.NOTHING)
    for state in (waiting, dialling, moving):
        state.upon(Life.stop).to(stopped).returns(Command.GIVE_UP)
    stopped.upon(Life.opened).loop().returns(Command.RETURN)
    stopped.upon(Life.failed).loop().returns(Command.NOTHING)
    stopped.upon(Life.wanted).loop().returns(Command.NOTHING)
    stopped.upon(Life.stop).loop().returns(Command.NOTHING)
    return builder.build()


new_life: Final = _build_life()
"""Makes the machine of one connector, around its `NextSession`."""
