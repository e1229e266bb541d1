"""What a node asks an agent in a health call, whether it has the CPU that it needs, and what the agent answers.

docs/protocol.md describes the format for other implementations; this module is its only codec.
"""

from __future__ import annotations

import re
from typing import Final

QUESTION: Final = b"cpu"
"""The payload of the call."""

_WELL: Final = b"well"
_SHORT = re.compile(rb"short ([0-9]{1,5})")
_MOST_MS: Final = 99_999


def encode_lacked(lacked_s: float) -> bytes:
    """Return the payload of the answer.

    Args:
        lacked_s: seconds for which the agent lately had something to do and no CPU; 0.0 while it is well.
    """
    return b"short %d" % min(max(1, round(lacked_s * 1000)), _MOST_MS) if lacked_s > 0.0 else _WELL


def decode_lacked(payload: bytes) -> float | None:
    """Return the seconds that an answer tells of; None when it is nothing of the kind."""
    if payload == _WELL:
        return 0.0
    match = _SHORT.fullmatch(payload)
    return None if match is None else int(match[1]) / 1000
