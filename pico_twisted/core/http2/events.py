"""What a connection of HTTP/2 tells of, as plain tuples, and why streams end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client's connection begins with (RFC 9113 3.4)."""

FRAME_BYTES: Final = 16 * 1024
"""Most payload of one frame (RFC 9113 4.2), which nobody has a reason to raise: small ones let streams take turns."""

NO_ERROR: Final = 0x0
PROTOCOL_ERROR: Final = 0x1
INTERNAL_ERROR: Final = 0x2
FLOW_CONTROL_ERROR: Final = 0x3
STREAM_CLOSED: Final = 0x5
REFUSED_STREAM: Final = 0x7
CANCEL: Final = 0x8
CONNECT_ERROR: Final = 0xA
ENHANCE_YOUR_CALM: Final = 0xB
HTTP_1_1_REQUIRED: Final = 0xD
"""Why a stream or a connection ends (RFC 9113 7)."""

# What `receive` tells: the first item of an event. The second is the stream, 0 for the connection.
REQUEST: Final = 1  # (REQUEST, stream, fields, ended)
RESPONSE: Final = 2  # (RESPONSE, stream, fields, ended)
INTERIM: Final = 3  # (INTERIM, stream, fields, False)
DATA: Final = 4  # (DATA, stream, bytes, ended)
TRAILERS: Final = 5  # (TRAILERS, stream, fields, True)
PEER_RESET: Final = 6  # (PEER_RESET, stream, code, whether we had begun to answer); CLOSED follows
CLOSED: Final = 7  # (CLOSED, stream, code, False): over both ways, 0 in good order; the last event of a stream
WINDOW: Final = 8  # (WINDOW, stream or 0, 0, False): the peer takes more
SETTINGS: Final = 9  # (SETTINGS, 0, 0, False): of the peer; see `peer_streams` and `peer_takes_connect`
PING: Final = 10  # (PING, 0, 0, False): the peer asked; the answer is written
PONG: Final = 11  # (PONG, 0, 0, False): the peer answered
GOAWAY: Final = 12  # (GOAWAY, the last stream that is served, code, False)
ENDED: Final = 13  # (ENDED, 0, code, False): nothing more is read, all streams are over; `to_send` gives the last
FAULT: Final = 14  # (FAULT, stream, code, False): the peer broke a rule of the stream, and we reset it; CLOSED follows

WireFields = Sequence[tuple[bytes, bytes]]
"""(name, value), pseudo-header fields first, as they stand in a field section."""

Event = (
    tuple[Literal[1, 2, 3, 5], int, WireFields, bool]
    | tuple[Literal[4], int, bytes, bool]
    | tuple[Literal[6, 7, 8, 9, 10, 11, 12, 13, 14], int, int, bool]
)
