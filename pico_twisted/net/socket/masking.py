"""The mask that a client lays on what it sends over a WebSocket (RFC 6455 5.3)."""

from __future__ import annotations

from typing import Final

from autobahn.websocket.xormasker import create_xor_masker  # type: ignore[attr-defined]

MAX_SMALL_MASK_BYTES: Final = 768
"""Autobahn's masker is fast for each byte and slow to set up; up to this size one big integer is faster."""


def lay_mask(mask: bytes, data: bytes) -> bytes:
    """Return the data with the mask laid on it, or taken off (RFC 6455 5.3)."""
    size = len(data)
    if size > MAX_SMALL_MASK_BYTES:
        masked: bytes = create_xor_masker(mask, size).process(data)
        return masked
    pattern = mask * (size // 4 + 1)
    number = int.from_bytes(data, "little") ^ int.from_bytes(pattern[:size], "little")
    return number.to_bytes(size, "little")
