"""The wire format of one frame: a 12-byte big-endian header, then the payload.

One binary WebSocket message is one frame. docs/protocol.md describes the format for other implementations; this
module is its only codec. Everything here is a constant or a pure function.
"""

from __future__ import annotations

import re
import struct
from typing import Final

from pico_twisted.core.text import printable

HEADER: Final = struct.Struct(">HQH")
HEADER_BYTES: Final = 12

HEARTBEAT: Final = 1
HTTP: Final = 2
TCP: Final = 3
DRAIN: Final = 4
SYNC: Final = 5
CLIENT_GONE: Final = 6
CREDENTIAL: Final = 7
HEALTH: Final = 8

KIND_NAMES: Final = {
    HEARTBEAT: "heartbeat",
    HTTP: "http",
    TCP: "tcp",
    DRAIN: "drain",
    SYNC: "sync",
    CLIENT_GONE: "client-gone",
    CREDENTIAL: "credential",
    HEALTH: "health",
}

RESPONSE: Final = 0x8000
NOT_SUPPORTED: Final = 0x4000
MORE: Final = 0x2000
RESET: Final = 0x1000
CREDIT: Final = 0x0800
TRAILERS: Final = 0x0400

SUBPROTOCOL_V2: Final = "pico.v2"
HEARTBEAT_PAYLOAD: Final = b"pico"
"""What a heartbeat carries when there is nothing to say."""

MAX_PAYLOAD_V2: Final = 64 * 1024
MAX_MESSAGE_V2: Final = HEADER_BYTES + MAX_PAYLOAD_V2
MAX_BODY_V1: Final = 16 * 1024 * 1024
MAX_MESSAGE_V1: Final = MAX_BODY_V1 + 64 * 1024
MAX_RESET_BYTES: Final = 256
MAX_HEARTBEAT_BYTES: Final = 125
MAX_CREDIT: Final = 2**31 - 1

REFUSED_NOT_HERE: Final = "refused not-here"
REFUSED_DRAINING: Final = "refused draining"
REFUSED_BUSY: Final = "refused busy"
CANCELLED: Final = "cancelled"
TIMEOUT: Final = "timeout"
STOP: Final = "stop"
FAILED: Final = "failed"
PROTOCOL: Final = "protocol"
UNSUPPORTED: Final = "unsupported"
"""Not a code on the wire: a call that is answered with flags 0xC000, since the callee does not serve such calls."""
TOO_LARGE: Final = "too-large"
"""Not a code on the wire: what a caller is told when the answer to its call is too large for version 1."""

REFUSALS: Final = frozenset({REFUSED_NOT_HERE, REFUSED_DRAINING, REFUSED_BUSY})
RESET_CODES: Final = REFUSALS | {CANCELLED, TIMEOUT, STOP, FAILED, PROTOCOL}


_NODES = re.compile(rb"pico nodes=([0-9]{1,5})")


def encode_nodes(count: int) -> bytes:
    """Return the payload of a node's heartbeat to an agent: how many nodes take agents."""
    return b"pico nodes=%d" % min(count, 99_999)


def nodes_of(payload: bytes) -> int:
    """Return how many nodes the payload of a heartbeat tells of; 0 when it does not say."""
    match = _NODES.fullmatch(payload)
    return int(match.group(1)) if match is not None else 0


def encode(kind: int, call_id: int, flags: int, payload: bytes = b"") -> bytes:
    """Return one frame as bytes.

    Args:
        kind: a frame type.
        call_id: of the call that the frame belongs to.
        flags: the sum of the frame's flags.
        payload: at most as many bytes as the version allows.
    """
    return HEADER.pack(kind, call_id, flags) + payload


def encode_reset(code: str, text: str = "") -> bytes:
    """Return the payload of a reset: the code, then optionally a space and text, 256 bytes in all.

    Raises:
        ValueError: the code is not one of `RESET_CODES`.
    """
    if code not in RESET_CODES:
        raise ValueError(f"no such reset code: {code!r}")
    if not text:
        return code.encode("ascii")
    clean = printable(text)
    whole = f"{code} {clean}".encode("utf-8", "replace")[:MAX_RESET_BYTES]
    return whole.decode("utf-8", "ignore").encode("utf-8")


def decode_reset(payload: bytes) -> tuple[str, str]:
    """Return (code, text) of a reset's payload. A code that we do not know, and garbage, count as `failed`."""
    words = payload[:MAX_RESET_BYTES].decode("utf-8", "replace")
    first, _, rest = words.partition(" ")
    if first == "refused":
        reason, _, rest = rest.partition(" ")
        code = f"refused {reason}"
        if code not in REFUSALS:
            code = REFUSED_BUSY
    elif first in RESET_CODES:
        code = first
    else:
        code = FAILED
    return code, printable(rest)
