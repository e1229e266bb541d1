"""The distribution of latencies as a picture: PNG or SVG. Needs matplotlib, which is an extra."""

from __future__ import annotations

import os
from typing import Any, Final

from pico_twisted.ctl.bench.record import Outcome
from pico_twisted.ctl.ends import NoAnswer

KINDS: Final = (".png", ".svg")
TICKS: Final = (0.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.9, 99.99, 99.999)
_SIZE_INCHES: Final = (8.0, 4.5)
_DPI: Final = 120


def find_fault(file: str) -> str:
    """Why no plot can be written to a file; empty when it can. Asked before anything is measured."""
    if not file.lower().endswith(KINDS):
        return f"found {file!r}, expected a name that ends with {' or '.join(KINDS)}"
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        return "needs matplotlib: pip install 'pico-twisted[plot]'"
    new = not os.path.exists(file)
    try:
        with open(file, "ab"):
            pass
        if new:
            os.unlink(file)
    except OSError as error:
        return f"{file} cannot be written: {error.strerror}"
    return ""


def write_plot(outcome: Outcome, title: str, file: str) -> None:
    """Draw latency over percentiles. The last ones, where it matters, get the most room: each nine is as wide.

    Args:
        outcome: with at least one latency.
        title: above the plot.
        file: with a name that says its kind.

    Raises:
        NoAnswer: it cannot be written.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator, ScalarFormatter

    points = [(percent, seconds * 1000) for percent, seconds in outcome.record.latencies.curve() if percent < 100]
    figure = Figure(figsize=_SIZE_INCHES, dpi=_DPI, layout="constrained")
    axes: Any = figure.subplots()
    axes.plot([_place(percent) for percent, _ in points], [ms for _, ms in points], color="#1f5fa8", linewidth=2)
    axes.fill_between([_place(percent) for percent, _ in points], [ms for _, ms in points], color="#1f5fa8", alpha=0.1)
    axes.set_xscale("log")
    last = max((percent for percent, _ in points), default=50.0)
    ticks = [tick for tick in TICKS if tick <= last]
    axes.xaxis.set_major_locator(FixedLocator([_place(tick) for tick in ticks]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda place, _: f"{100 - 100 / place:.6g} %"))
    axes.set_xlim(1.0, max(_place(last), 2.0))
    longest_ms = max((ms for _, ms in points), default=1.0)
    shortest_ms = min((ms for _, ms in points), default=1.0)
    if longest_ms > 20 * max(shortest_ms, 1e-3):
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(ScalarFormatter())
    else:
        axes.set_ylim(0.0, longest_ms * 1.1)
    axes.set_xlabel("of all requests took at most" if not outcome.plan.websocket else "of all messages took at most")
    axes.set_ylabel("milliseconds")
    axes.set_title(title, fontsize=9)
    axes.grid(visible=True, which="both", alpha=0.3)
    try:
        figure.savefig(file)
    except OSError as error:
        raise NoAnswer(f"{file} cannot be written: {error.strerror or error}") from None


def _place(percent: float) -> float:
    """Where a percentile stands: one in so many is above it."""
    return 100 / (100 - percent)
