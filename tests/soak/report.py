"""What measuring runs share: parts that can be chosen, and figures beside their bounds."""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from tests.system.harness import Bench


def parts_parser(description: str | None, parts: Iterable[str]) -> argparse.ArgumentParser:
    """A command line that chooses parts of a run; `chosen` reads it."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(parts)}; none: all of them")
    return parser


def chosen(parser: argparse.ArgumentParser, parts: Mapping[str, Any]) -> argparse.Namespace:
    """The options; `parts` among them has the names of the parts to run. A name that is none ends the process."""
    options = parser.parse_args()
    unknown = set(options.parts) - set(parts)
    if unknown:
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    options.parts = options.parts or list(parts)
    return options


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

    def begin(self, name: str, part: Any) -> None:
        """A part of the run begins: say what it is, with the first line of its docstring."""
        print(f"{name}: {(part.__doc__ or '').splitlines()[0]}", flush=True)

    @contextmanager
    def judged(self, name: str, bench: Bench) -> Iterator[None]:
        """A part that raises is broken, and so is one whose processes logged an exception."""
        try:
            yield
            faults = bench.new_faults()
            self.check("no exception in the logs", not faults, "; ".join(faults[:3]))
        except Exception as error:
            self.check(f"{name} ran to its end", False, repr(error))
            print(bench.tail(), file=sys.stderr)

    def end(self, run: str) -> int:
        """Say how it went; the exit status."""
        for line in self.broken:
            print(f"broken: {line}", file=sys.stderr)
        print(f"{run}: " + ("broken" if self.broken else "all within bounds"))
        return 1 if self.broken else 0
