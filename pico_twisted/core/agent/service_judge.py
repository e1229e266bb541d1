"""Whether a service is there, judged by what became of calls and of checks.

What is needed. A service that takes no connections, or drops them without an answer, should get few calls while
another agent serves its endpoint, and be asked again soon, but not by many at once.

What can go wrong. One failure says little: a worker of many was restarted, or one request makes the service drop its
connection. Most of what fails began long ago: a connection that times out was asked for ten seconds before, and says
nothing of a service that came back meanwhile. A service that is there for a second and gone for the next must not be
news each time. And whoever judges may be wrong, so nobody is shut out: out means the last choice, for others to use.

What was chosen. Some failures in a row, with no answer between them, put a service out, for a second at first and twice
as long each time, up to half a minute. At the end of it the agent looks first, by a check, which costs no client
anything; then one call is let through, and its answer ends it. Where nobody calls, the check was enough after a while.
What began before the last change counts for nothing. Where checks go on all the time, they decide when it is back, but
no sooner than at the end of that time: a service may be healthy by its own account and answer nobody.

What was rejected. Shares of failures in a time: they need traffic to mean something, and most endpoints have little.
Answers with status 500 and the like: they are answers, and any client may cause them.
"""

from __future__ import annotations

import math
from typing import Final

import attrs

from pico_twisted.core.backoff import Backoff
from pico_twisted.core.rpc.service_health import Standing

FAILURES_IN_A_ROW: Final = 3
"""Failures without an answer between them after which a service is out: one may be the fault of its request, and two
those of a client that tried it again."""
FIRST_OUT_S: Final = 1.0
"""Seconds that a service is out at first: as long as a program that is restarted quickly takes."""
MOST_OUT_S: Final = 30.0
"""Most seconds until it is looked at again: whoever has repaired it should not have to wait for longer."""
STEADY_S: Final = 60.0
"""Seconds for which a service has to be up until it is out for `FIRST_OUT_S` again, not for longer than the last time:
so one that comes and goes is news only a few times a minute."""
TRIAL_S: Final = 5.0
"""Seconds after which a service that was found to be there, and that nobody calls, is up."""

_UP = Standing.UP
_OUT = Standing.OUT
_TRIAL = Standing.TRIAL


@attrs.frozen(kw_only=True)
class Thresholds:
    """Of checks that go on all the time.

    Attributes:
        unhealthy_after: bad ones in a row that put the service out.
        healthy_after: good ones in a row with which it is back.
    """

    unhealthy_after: int
    healthy_after: int


class ServiceJudge:
    """Judges one service. All times are seconds of any one clock.

    Args:
        thresholds: of checks that go on all the time; None where it is checked only when it was out.

    Attributes:
        standing: the verdict.
        failures: of calls in a row; more than none as long as the service is not up. While there are none, an answer
            says nothing new.
        out_since: when it went out, if it is not up.
        due_at: when to do something if nothing happens before: to check the service if it is out, or to call `waited`.
    """

    __slots__ = ("_bad", "_good", "_since", "_spans", "_thresholds", "_until", "failures", "out_since", "standing")

    def __init__(self, thresholds: Thresholds | None = None) -> None:
        self.standing = _UP
        self.failures = 0
        self.out_since = math.inf
        self._thresholds = thresholds
        self._since = -math.inf  # of the last change
        self._until = math.inf  # the end of the time that it is out, or of a trial
        self._spans = Backoff(FIRST_OUT_S, MOST_OUT_S)
        self._good = 0  # checks in a row
        self._bad = 0

    @property
    def due_at(self) -> float:
        """When to check the service, or to call `waited`; infinite when neither is wanted."""
        return math.inf if self._thresholds is not None else self._until

    def hold_to(self, thresholds: Thresholds | None) -> None:
        """Judge by other thresholds from now on, or by none."""
        self._thresholds = thresholds
        self._good = self._bad = 0
        if thresholds is not None and self.standing is _TRIAL:
            self.standing = _OUT  # checks are to say when it is back

    def failed(self, began: float, now: float) -> None:
        """A call that began then got no answer: no connection, or one that ended without a byte."""
        if self.standing is _OUT or began < self._since:
            return
        self.failures += 1
        if self.standing is _TRIAL or self.failures >= FAILURES_IN_A_ROW:
            self._go_out(now)

    def answered(self, began: float, now: float) -> None:
        """A call that began then was answered, whatever the answer says."""
        if began < self._since:
            return
        if self.standing is _UP:
            self.failures = 0
        elif self._thresholds is None:
            self._come_back(now)

    def checked(self, good: bool, now: float) -> None:
        """A check has ended. One at a time goes on."""
        self._good = self._good + 1 if good else 0
        self._bad = 0 if good else self._bad + 1
        thresholds = self._thresholds
        if thresholds is None:
            if self.standing is _OUT and good:
                self._change(_TRIAL, now)
                self._until = now + TRIAL_S
            elif self.standing is _OUT:
                self._until = now + self._spans.next_s()
        elif self.standing is _UP:
            if self._bad >= thresholds.unhealthy_after:
                self._go_out(now)
        elif self._good >= thresholds.healthy_after and now >= self._until:
            self._come_back(now)

    def waited(self, now: float) -> None:
        """Nothing has happened until now: a trial that nobody came for is over."""
        if self.standing is _TRIAL and now >= self._until:
            self._come_back(now)

    def _go_out(self, now: float) -> None:
        if self.standing is _UP:
            self.out_since = now
            if now - self._since >= STEADY_S:
                self._spans.reset()
        self._change(_OUT, now)
        self._until = now + self._spans.next_s()
        self._good = 0
        self.failures = max(self.failures, 1)

    def _come_back(self, now: float) -> None:
        self._change(_UP, now)
        self._until = self.out_since = math.inf
        self._bad = 0
        self.failures = 0

    def _change(self, standing: Standing, now: float) -> None:
        self.standing = standing
        self._since = now

    def _check_invariants(self) -> None:
        """For tests."""
        assert (self.standing is _UP) == (self.out_since == math.inf) == (self._until == math.inf)
        assert self.standing is _UP or self.failures > 0, "an answer must be heard of"
        assert self.standing is not _UP or self.failures < FAILURES_IN_A_ROW
        assert self.standing is not _TRIAL or self._thresholds is None
