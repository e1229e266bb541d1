"""What a measuring run prints: each figure beside its bound."""

from __future__ import annotations

import statistics
from collections.abc import Sequence


class Report:
    """Prints measurements and remembers the broken bounds."""

    def __init__(self) -> None:
        self.broken: list[str] = []

    def line(self, what: str, value: float, bound: float | None = None, unit: str = "ms") -> None:
        """One measurement; beyond its bound it is a failure."""
        good = bound is None or value <= bound
        limit = "" if bound is None else f"   bound {bound:g} {unit}   {'ok' if good else 'BROKEN'}"
        print(f"  {what:<58} {value:>10.1f} {unit}{limit}", flush=True)
        if not good:
            self.broken.append(f"{what}: {value:.1f} {unit}, bound {bound:g}")

    def times(
        self, what: str, seconds: Sequence[float], bound_ms: float | None, median_bound_ms: float | None = None
    ) -> None:
        """Median and maximum of some times."""
        self.line(f"{what}, median of {len(seconds)}", statistics.median(seconds) * 1000, median_bound_ms)
        self.line(f"{what}, max", max(seconds) * 1000, bound_ms)

    def check(self, what: str, good: bool, detail: str = "") -> None:
        """Something that is right or wrong."""
        print(f"  {what:<58} {'ok' if good else 'BROKEN ' + detail}", flush=True)
        if not good:
            self.broken.append(f"{what}: {detail}")
