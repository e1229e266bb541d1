"""What the frames of a health call say: how the service behind a registration is, as its agent sees it.

docs/protocol.md describes the format for other implementations; this module is its only codec.
"""

from __future__ import annotations

import enum
import re
from typing import Final

import attrs

MOST_SECONDS: Final = 9_999_999
"""Most seconds that are told, four months: what is out for longer is told as this."""

_TOLD: Final = re.compile(rb"(up)|(out|trial) ([0-9]{1,7})")


class Standing(enum.Enum):
    """How a service stands. `core.agent.service_judge` says what leads from one to another."""

    UP = "up"  # it is there, as far as anybody knows
    OUT = "out"  # calls get no answer: it is the last choice
    TRIAL = "trial"  # it was out, and one call is to show whether it is back


@attrs.frozen(kw_only=True)
class ToldHealth:
    """What an agent says of the service behind one of its sessions.

    Attributes:
        standing: how it stands.
        out_for_s: whole seconds since it went out; 0 when it is up.
    """

    standing: Standing
    out_for_s: int = 0


def encode_health(told: ToldHealth) -> bytes:
    """Return the payload of a health call."""
    if told.standing is Standing.UP:
        return b"up"
    return b"%b %d" % (told.standing.value.encode("ascii"), min(told.out_for_s, MOST_SECONDS))


def decode_health(payload: bytes) -> ToldHealth | None:
    """Return what a health call says; None when it is nothing of the kind."""
    match = _TOLD.fullmatch(payload)
    if match is None:
        return None
    if match[1]:
        return ToldHealth(standing=Standing.UP)
    return ToldHealth(standing=Standing(match[2].decode("ascii")), out_for_s=int(match[3]))
