"""What measuring runs share: their command lines, how they end, and figures beside their bounds."""

from __future__ import annotations

import argparse
import signal
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import FrameType
from typing import Protocol, Self, TypeVar

from tools.stage.stage import Stage
from tools.stage.waiting import StageFailed


class HasStage(Protocol):
    """What a part of a run is given, if it is not the stage itself."""

    stage: Stage


R = TypeVar("R", bound=Stage | HasStage)


class Options(argparse.ArgumentParser):
    """The command line of a run.

    Args:
        description: the docstring of its module.
        parts: those that can be chosen by name, if there are some.
    """

    def __init__(self, description: str | None, parts: Iterable[str] = ()) -> None:
        super().__init__(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
        self._parts = list(parts)
        if self._parts:
            self.add_argument(
                "parts", nargs="*", metavar="PART", help=f"of {', '.join(self._parts)}; none: all of them"
            )

    def number(self, name: str, default: int, what: str) -> None:
        """Add an option that is a whole number above 0."""
        self.add_argument(name, type=_positive, default=default, help=f"{what} [{default}]")

    def read(self, command_line: Sequence[str] | None = None) -> argparse.Namespace:
        """What was given; `parts` has the names of the parts to run. A command line that is wrong ends the process."""
        options = self.parse_args(command_line)
        if self._parts:
            if unknown := [part for part in options.parts if part not in self._parts]:
                self.error(f"no such part: {', '.join(unknown)}; there are {', '.join(self._parts)}")
            options.parts = options.parts or self._parts
        return options


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def exit_status(run: Callable[[], int | None]) -> int:
    """Run something to its end. SIGTERM ends it as Ctrl-C does.

    Args:
        run: does it; returns an exit status other than 0 if it has one.

    Returns:
        The exit status: 1 when the run failed, which is told on stderr, and 130 when it was interrupted.
    """
    signal.signal(signal.SIGTERM, _interrupted)
    try:
        return run() or 0
    except StageFailed as error:
        print(f"\nthe run failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130


def _interrupted(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def progress(text: str) -> None:
    """Tell on a terminal's stderr what goes on, in place of what was told before."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


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

    def run(
        self,
        name: str,
        parts: Mapping[str, Callable[[R, argparse.Namespace, Self], None]],
        options: argparse.Namespace,
        scene: Callable[[Path], AbstractContextManager[R]],
    ) -> int:
        """Run the parts that were chosen. One that raises is broken, and so is one whose processes logged an exception.

        Args:
            name: of the whole run.
            parts: all there are.
            options: the command line, with the names of the chosen ones.
            scene: what a part is given, made in a directory for it alone.

        Returns:
            The exit status.
        """
        for part in options.parts:
            print(f"{part}: {(parts[part].__doc__ or '').splitlines()[0]}", flush=True)
            with tempfile.TemporaryDirectory(prefix=f"pico-{name}-") as directory, scene(Path(directory)) as rig:
                stage = rig if isinstance(rig, Stage) else rig.stage
                try:
                    parts[part](rig, options, self)
                    faults = stage.new_faults()
                    self.check("no exception in the logs", not faults, "; ".join(faults[:3]))
                except Exception as error:
                    self.check(f"{part} ran to its end", False, repr(error))
                    print(stage.tail(), file=sys.stderr)
        for line in self.broken:
            print(f"broken: {line}", file=sys.stderr)
        print(f"{name}: " + ("broken" if self.broken else "all within bounds"))
        return 1 if self.broken else 0
