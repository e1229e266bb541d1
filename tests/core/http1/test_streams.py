"""Which responses somebody has to cut."""

from __future__ import annotations

import pytest

from pico_twisted.core.http1.head import HeadLimits, ResponseHead, parse_response_head
from pico_twisted.core.http1.streams import never_ends


@pytest.mark.parametrize(
    ("status", "field", "expected"),
    [
        (200, b"Content-Type: text/event-stream", True),
        (200, b"CONTENT-TYPE:Text/Event-Stream;charset=utf-8", True),
        (200, b"content-type:  multipart/x-mixed-replace; boundary=x", True),
        (200, b"Content-Type: text/event-streams", False),
        (200, b"X-Type: text/event-stream", False),
        (200, b"Content-Type: text/plain", False),
        (101, b"Upgrade: websocket", True),
    ],
)
def test_never_ends(status: int, field: bytes, expected: bool) -> None:
    """An upgraded connection, events and the pictures of a camera go on for ever; a head tells, read or passed on."""
    raw = b"HTTP/1.1 %d x\r\nConnection: upgrade\r\n%b\r\n\r\n" % (status, field)
    assert never_ends(parse_response_head(raw, HeadLimits())) is expected
    assert never_ends(ResponseHead(status, raw=raw + b"\r\nContent-Type: text/event-stream\r\n")) is expected
