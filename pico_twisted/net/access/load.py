"""The load of a node: watches how late its turns are, and tells when new requests are refused for that."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

from twisted.logger import Logger

from pico_twisted.core.access.ceilings import Limit, Over
from pico_twisted.core.overload import Overload
from pico_twisted.core.sweep import Sweep

log = Logger()

LONGEST_WAIT_S: Final = 10.0
"""Most seconds after which those who are refused are told to come again."""
HELD_BACK_S: Final = 2.0
"""Seconds for which a connection of HTTP/2 begins no request after one was refused, if all are; with a smaller share
accordingly less. To refuse the same clients over and over would take what the node has."""


class NodeLoad:
    """What a node that comes late refuses.

    Args:
        sweep: the process's coarse timer, whose turns are judged.
        refused: counts what is refused.
        chance: gives numbers from 0 up to 1.

    Attributes:
        share: of new requests that are refused now; 0 as a rule.
    """

    def __init__(
        self, sweep: Sweep, refused: Callable[[Limit], object], chance: Callable[[], float] = random.random
    ) -> None:
        self.share = 0.0
        self._sweep = sweep
        self._overload = Overload()
        self._refused = refused
        self._chance = chance
        self._count = 0  # refused since this began
        sweep.each(self._turn)

    def _turn(self, now: float) -> None:
        overload, before, lag_s = self._overload, self.share, self._sweep.lag_s
        overload.turn(lag_s)
        self.share = overload.share
        if self.share and not before:
            self._count = 0
            log.warn("This node comes late to everything, by {lag_s} s: it refuses new requests", lag_s=round(lag_s, 1))
        elif before and not self.share:
            log.info("This node is in time again, and takes all requests", refused=self._count)

    @property
    def held_back_until(self) -> float:
        """Until when a client is not read that is refused now, in the sweep's seconds."""
        return self._sweep.now + HELD_BACK_S * self.share

    def refuses(self) -> Over | None:
        """Say why a new request is refused, if it is. Whoever is gets another time to come again than the next one."""
        if not self._overload.refuses(self._chance()):
            return None
        self._count += 1
        self._refused(Limit.OVERLOADED)
        return Over(Limit.OVERLOADED, LONGEST_WAIT_S * self._chance())
