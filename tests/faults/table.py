"""The table of a run: a row for each fault, and the promises that did not hold."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Final

from tests.faults.reckoning import Seen, near
from tools.stage.report import Report

_COLUMNS: Final = ("scenario", "requests", "lost", "replayable", "worst s", "p99 ms", "before", "back s", "after s", "")
_WIDTHS: Final = (34, 8, 6, 10, 8, 8, 7, 7, 8, 0)


@dataclass(frozen=True)
class Row:
    """One fault and what clients saw of it."""

    name: str
    seen: Seen

    def cells(self, broken: int) -> tuple[str, ...]:
        """Its columns as text, with the number of its promises that did not hold."""
        seen = self.seen
        asked = len(seen.asked)
        return (
            self.name,
            str(asked),
            str(len(seen.lost)),
            str(len(seen.lost_replayable)),
            f"{seen.worst_s():.2f}",
            f"{seen.p99_s * 1000:.0f}",
            f"{seen.baseline_p99_s * 1000:.0f}",
            _seconds(seen.back_s),
            "" if seen.healed is None else _seconds(seen.healed_s),
            f"{broken} BROKEN" if broken else "ok",
        )


def _seconds(value: float | None) -> str:
    return "never" if value is None else f"{value:.0f}"


def _line(cells: tuple[str, ...]) -> str:
    first, *others = cells
    padded = [cell.rjust(width) for cell, width in zip(others, _WIDTHS[1:], strict=True)]
    return "  ".join([first.ljust(_WIDTHS[0]), *padded])


class FaultsReport(Report):
    """Prints what is promised of each fault, and the table in the end."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[Row] = []

    def fault(
        self,
        name: str,
        seen: Seen,
        *,
        lost: int | None = None,
        lost_replayable: int | None = 0,
        worst_s: float | None = None,
        worst_replayable_s: float | None = None,
        p99_near_after_s: float | None = None,
        back_s: float | None = None,
        healed_s: float | None = None,
    ) -> Seen:
        """One row: hold what was seen against what is promised; None promises nothing.

        Args:
            name: of the fault.
            seen: what clients saw.
            lost: requests that may be lost.
            lost_replayable: those that may be lost though they could have been sent to another.
            worst_s: how long any request may take.
            worst_replayable_s: how long one may take that can be sent to another.
            p99_near_after_s: from when on the p99 of all is near the baseline's again, while the fault lasts.
            back_s: from when on all is as before, while the fault lasts.
            healed_s: from when on all is as before after its end.
        """
        print(f"  {name}: {len(seen.asked)} requests, p99 {seen.baseline_p99_s * 1000:.0f} ms before")
        for what, value, most in (
            ("lost", len(seen.lost), lost),
            ("lost, though replayable", len(seen.lost_replayable), lost_replayable),
        ):
            self.line(f"{name}: {what}", value, most, "")
        self.line(f"{name}: the slowest took", seen.worst_s(), worst_s, "s")
        if worst_replayable_s is not None:
            self.line(f"{name}: the slowest replayable", seen.worst_s(replayable=True), worst_replayable_s, "s")
        if p99_near_after_s is not None:
            what = f"{name}: p99 from {p99_near_after_s:.0f} s on"
            self.line(what, seen.p99_after_s(p99_near_after_s) * 1000, near(seen.baseline_p99_s) * 1000)
        for what, second, within in (
            ("back", seen.back_s, back_s),
            ("as before after its end", seen.healed_s, healed_s),
        ):
            if within is not None:
                good = second is not None and second <= within
                self.check(f"{name}: {what} within {within:.0f} s", good, f"{_seconds(second)}")
        problems = Counter(one.problem[:70] or str(one.status) for one in seen.lost)
        for problem, count in problems.most_common(4):
            print(f"    {count} x {problem}")
        self.rows.append(Row(name, seen))
        return seen

    def print_table(self) -> None:
        """All rows."""
        if self.rows:
            print("\n" + _line(_COLUMNS))
        for row in self.rows:
            print(_line(row.cells(sum(line.startswith(f"{row.name}:") for line in self.broken))))
        print()
