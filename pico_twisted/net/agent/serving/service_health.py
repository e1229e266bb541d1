"""The health of the service of one listener: what its calls and checks say of it, told to whoever wants to know.

`core.agent.service_judge` judges. Here is what it cannot do: the checks, one at a time and never at the same moment as
those of other agents, and what is logged: each change, for the judge sees to it that these are few.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from pico_twisted.config import ListenerConfig
from pico_twisted.core.agent.service_judge import ServiceJudge, Thresholds
from pico_twisted.core.rpc.service_health import Standing, ToldHealth
from pico_twisted.core.sweep import NEVER, Sweep
from pico_twisted.net.agent.serving.counts import ServiceCounts

log = Logger()

JITTER: Final = 0.1
"""By what share of its interval a check comes sooner or later: agents that were started together check a service that
they share at times of their own."""


class Chance(Protocol):
    """A source of chance."""

    def uniform(self, a: float, b: float, /) -> float: ...


class Checks(Protocol):
    """Checks a service."""

    def check(self) -> Deferred[str]:
        """Check it once. Fires, in bounded time, with what is wrong, in words; with nothing when it is healthy. Can be
        cancelled; what it fires with then is of no interest."""


class ServiceHealth:
    """The health of one service.

    Args:
        config: of the listener.
        clock: tells the time, of calls too.
        sweep: the process's coarse timer.
        rng: the source of chance.
        checks: of the service.
        counts: of all services.

    Attributes:
        judge: says how it stands.
        why: what it did wrong when it went out, in words.
        deadline: of the next check, or of a trial.
    """

    __slots__ = (
        "_changed",
        "_checking",
        "_checks",
        "_clock",
        "_config",
        "_counts",
        "_every_s",
        "_rng",
        "_sweep",
        "deadline",
        "judge",
        "why",
    )  # an agent may have thousands

    def __init__(
        self,
        config: ListenerConfig,
        *,
        clock: IReactorTime,
        sweep: Sweep,
        rng: Chance,
        checks: Checks,
        counts: ServiceCounts,
    ) -> None:
        self.deadline = NEVER
        self.why = ""
        self._config = config
        self._every_s = config.health.every_s
        self.judge = ServiceJudge(self._thresholds())
        self._clock = clock
        self._sweep = sweep
        self._rng = rng
        self._checks = checks
        self._counts = counts
        self._changed: Callable[[ServiceHealth], object] = _nobody_hears
        self._checking: Deferred[str] | None = None

    def _thresholds(self) -> Thresholds | None:
        health = self._config.health
        if self._every_s is None:
            return None
        return Thresholds(unhealthy_after=health.unhealthy_after, healthy_after=health.healthy_after)

    # Its life

    def start(self, changed: Callable[[ServiceHealth], object], before: ServiceHealth | None = None) -> None:
        """Begin to check it, if that is wanted all the time.

        Args:
            changed: called whenever it stands differently.
            before: of the listener until now. When the service is the same, it stands as it did.
        """
        self._changed = changed
        if before is not None and _is_same(before._config, self._config):
            self.judge, self.why = before.judge, before.why
            self.judge.hold_to(self._thresholds())
        if self._every_s is not None:
            self._watch(self._sweep.now + self._rng.uniform(0.0, self._every_s))
        elif self.judge.standing is not Standing.UP:
            self._watch(self._sweep.now)
        if before is not None and before.judge.standing is not Standing.UP:
            changed(self)

    def stop(self) -> None:
        """Check it no more. Idempotent."""
        self._sweep.discard(self)
        checking, self._checking = self._checking, None
        if checking is not None:
            checking.cancel()

    def _watch(self, deadline: float) -> None:
        self.deadline = deadline
        self._sweep.add(self)

    # What is heard

    def failed(self, began: float, reason: str, calls: int = 1) -> None:
        """Calls that began then got no answer.

        Args:
            began: by the clock.
            reason: why not, in words.
            calls: how many.
        """
        was = self.judge.standing
        for _ in range(calls):
            self.judge.failed(began, self._clock.seconds())
        self._heard(was, reason)

    def answered(self, began: float) -> None:
        """A call that began then was answered. Nothing new unless the judge has counted `failures`."""
        was = self.judge.standing
        self.judge.answered(began, self._clock.seconds())
        self._heard(was)

    def _heard(self, was: Standing, reason: str = "") -> None:
        """Something was judged: tell what it changed, and see what is due."""
        judge = self.judge
        if judge.standing is not was:
            self._tell(was, reason)
        if self._every_s is None and self._checking is None:
            if judge.due_at == NEVER:
                self._sweep.discard(self)
            else:
                self._watch(self._sweep.now + max(0.0, judge.due_at - self._clock.seconds()))

    def _tell(self, was: Standing, reason: str) -> None:
        standing = self.judge.standing
        about = {"endpoint": self._config.endpoint, "service": str(self._config.addr)}
        if standing is Standing.OUT:
            self.why = reason
            if was is Standing.UP:
                self._counts.out()
                log.warn("The service is out, and is asked only where no other is: {reason}", reason=reason, **about)
        elif standing is Standing.UP:
            self.why = ""
            log.info("The service is back", **about)
        self._changed(self)

    # Checks

    def deadline_passed(self, now: float) -> None:
        """Called by the sweep: a check is due, or a trial is over."""
        self._sweep.discard(self)
        if self._every_s is None and self.judge.standing is Standing.TRIAL:
            was = self.judge.standing
            self.judge.waited(self._clock.seconds())
            self._heard(was)
            return
        checking = self._checking = self._checks.check()
        checking.addCallback(self._checked, checking).addErrback(_log_fault)

    def _checked(self, wrong: str, checking: Deferred[str]) -> None:
        if self._checking is not checking:
            return  # it was stopped
        self._checking = None
        self._counts.checked(not wrong)
        was = self.judge.standing
        self.judge.checked(not wrong, self._clock.seconds())
        if wrong and self.judge.standing is Standing.OUT:
            self.why = wrong
        if self._every_s is not None:
            self._watch(self._sweep.now + self._every_s * self._rng.uniform(1 - JITTER, 1 + JITTER))
        self._heard(was, wrong)

    # What is told

    def told(self) -> ToldHealth:
        """How it stands, as nodes are told."""
        return ToldHealth(standing=self.judge.standing, out_for_s=int(self.out_for_s or 0.0))

    @property
    def out_for_s(self) -> float | None:
        """Seconds since it went out; None while it is there."""
        if self.judge.standing is Standing.UP:
            return None
        return max(0.0, self._clock.seconds() - self.judge.out_since)


def _nobody_hears(health: ServiceHealth) -> None:
    """It has not begun."""


def _is_same(before: ListenerConfig, after: ListenerConfig) -> bool:
    """Whether both are of one service, spoken to in one way."""
    return all(getattr(before, name) == getattr(after, name) for name in ("addr", "protocol", "proxy_protocol", "tls"))


def _log_fault(failure: Failure) -> None:
    if not failure.check(CancelledError):
        log.failure("A service could not be checked", failure)
