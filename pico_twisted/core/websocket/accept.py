"""What answers the key of a WebSocket handshake (RFC 6455 4.2.2)."""

from __future__ import annotations

import base64
import hashlib
from typing import Final

_SUFFIX: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def accept_of(key: bytes) -> bytes:
    """The value of Sec-WebSocket-Accept for the value of a Sec-WebSocket-Key."""
    return base64.b64encode(hashlib.sha1(key + _SUFFIX, usedforsecurity=False).digest())
