"""Limits beside what they limit, so that an alarm says how near one is."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client.core import Metric

from pico_twisted.net.observe.metrics.families import levels


class LimitLevels:
    """The limits of a process. Each has the name that its key has in the section `limits`."""

    def __init__(self) -> None:
        self._limits: dict[str, tuple[float, Callable[[], float]]] = {}

    def add(self, name: str, most: float, used: Callable[[], float]) -> None:
        """Show a limit.

        Args:
            name: of its key.
            most: how much there may be.
            used: gives how much there is now.
        """
        self._limits[name] = (most, used)

    def near(self, share: float) -> dict[str, tuple[float, float]]:
        """The limits that are near: for the name of each how much there is, and how much there may be.

        Args:
            share: of a limit from which on it is near.
        """
        now = {name: (used(), most) for name, (most, used) in self._limits.items()}
        return {name: (used, most) for name, (used, most) in now.items() if most and used >= share * most}

    def families(self) -> Iterator[Metric]:
        """The metrics as they are now."""
        yield levels(
            "pico_limit",
            "How much there may be of what a key of `limits` limits.",
            "name",
            {name: most for name, (most, _) in self._limits.items()},
        )
        yield levels(
            "pico_limit_used",
            "How much there is of what a key of `limits` limits.",
            "name",
            {name: used() for name, (_, used) in self._limits.items()},
        )
