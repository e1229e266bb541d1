"""The section of a listener about the health of its service."""

from __future__ import annotations

from typing import Final

import attrs

from pico_twisted.config import kinds
from pico_twisted.config.fields import setting
from pico_twisted.config.port_kinds import CHECKED_PATH

PATH_EVERY_S: Final = 10.0
"""Seconds between two checks of a path, where nothing else is said."""


@attrs.frozen(kw_only=True)
class HealthConfig:
    """Checks of the service, beside what its calls show."""

    path: str = setting(
        CHECKED_PATH,
        "",
        "What the service is asked for, such as /healthz: a status from 200 to 399 is healthy. Empty, and always with "
        "`protocol: tcp`: it is healthy when it can be connected to.",
    )
    interval: float | None = setting(
        kinds.duration(least_s=0.5, or_none=True),
        "",
        "How long after a check the next one follows, give or take a tenth. Empty: 10s where there is a `path`; else "
        "none is made before calls have failed.",
    )
    timeout: float = setting(kinds.duration(most_s=60.0), "5s", "How long a check may take.")
    unhealthy_after: int = setting(
        kinds.count(most=100), "3", "Checks that fail in a row until the service is out: asked only where no other is."
    )
    healthy_after: int = setting(kinds.count(most=100), "2", "Checks that succeed in a row until it is back.")

    @property
    def every_s(self) -> float | None:
        """Seconds between two checks; None when none are made all the time."""
        return self.interval or (PATH_EVERY_S if self.path else None)
