"""What came of the requests of one phase."""

from __future__ import annotations

from collections import Counter
from typing import Final

import attrs

from pico_twisted.ctl.bench.latencies import Latencies
from pico_twisted.ctl.bench.plan import BenchPlan

MAX_KINDS: Final = 40
"""Kinds of errors that are told apart: what answers may make up as many as it likes."""
OTHER: Final = "other"
"""The kind under which all further ones are counted."""


@attrs.define(eq=False)
class Record:
    """Counts. A request belongs to the record that was there when it began.

    Attributes:
        begun: requests that were begun, or messages.
        sent_bytes: to proxy ports, of HTTP and WebSocket.
        received_bytes: from proxy ports.
        latencies: of those that succeeded.
        errors: the others, by kind.
        last_at: when the last one ended, as `time.perf_counter` has it; 0 before.
    """

    begun: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0
    latencies: Latencies = attrs.field(factory=Latencies)
    errors: Counter[str] = attrs.field(factory=Counter)
    last_at: float = 0.0

    def succeeded(self, seconds: float, at: float) -> None:
        """A whole answer has come, and it is the right one."""
        self.latencies.add(seconds)
        self.last_at = at

    def failed(self, kind: str, at: float) -> None:
        """There is no such answer."""
        if kind not in self.errors and len(self.errors) >= MAX_KINDS:
            kind = OTHER
        self.errors[kind] += 1
        self.last_at = at

    @property
    def unfinished(self) -> int:
        """Those of which nothing has come yet."""
        return self.begun - self.latencies.count - self.errors.total()


@attrs.frozen(kw_only=True)
class Outcome:
    """What was measured.

    Attributes:
        plan: what was to be done.
        record: of the measured phase.
        elapsed_s: from its begin to its last answer, or to its end if that is later.
        unsent: requests that `rate` demanded within the time and that no connection was free for.
        left: how often an agent left meanwhile.
        away: from leaving to being registered again, of each agent that is back.
        cpu: seconds of CPU that this process used for each second of the measurement.
        interrupted: it was ended before its time.
    """

    plan: BenchPlan
    record: Record
    elapsed_s: float
    unsent: int
    left: int
    away: Latencies
    cpu: float
    interrupted: bool

    def per_second(self, count: float) -> float:
        """What a count is in each second."""
        return count / max(self.elapsed_s, 1e-9)
