"""When whoever is refused for now may come again: the value of Retry-After (RFC 9110 10.2.3) of all answers of ours.

Each 503 and each 429 has one. Where it is known when there will be room, as with rates, it says so. Where it is not, it
is drawn for each: whoever is refused together shall not come back together.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Final

RETRY_AFTER: Final = b"retry-after"
"""Name of the field."""
SOON_S: Final = 3
"""Most seconds where requests are in progress: these end all the time."""
LATER_S: Final = 10
"""Most seconds where sessions of agents or links of nodes fill a limit: these stay, and there are other nodes."""


def after(seconds: float) -> bytes:
    """The value where there will be room after so many seconds."""
    return b"%d" % max(1, math.ceil(seconds))


def soon(chance: Callable[[], float] = random.random) -> bytes:
    """The value where there may be room any time: from 1 to `SOON_S`."""
    return b"%d" % (1 + int(SOON_S * chance()))


def later(chance: Callable[[], float] = random.random) -> bytes:
    """The value where there may be none for a while: from half of `LATER_S` to all of it."""
    return after(LATER_S * (1 + chance()) / 2)
