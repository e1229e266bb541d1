"""Heads as they go on, for the tests of both directions."""

from __future__ import annotations

from hypothesis import strategies as st

from pico_twisted.core.http1.head import HeadLimits, RequestHead, ResponseHead, parse_response_head

LIMITS = HeadLimits()
ROOMY = HeadLimits(head_bytes=1 << 20, fields=1000, target_bytes=1 << 16)
HOP_BY_HOP = [
    b"Keep-Alive: timeout=5",
    b"Proxy-Connection: keep-alive",
    b"Proxy-Authenticate: Basic",
    b"Proxy-Authorization: Basic x",
    b"TE: gzip;q=0.5, trailers;q=1",
    b"Trailer: Host, Content-Length",
    b"Upgrade: websocket",
    b"HTTP2-Settings: x",
]


def response(*lines: bytes, line: bytes = b"HTTP/1.1 200 OK") -> ResponseHead:
    return parse_response_head(b"\r\n".join([line, *lines, b"", b""]), LIMITS)


def names(head: RequestHead | ResponseHead) -> list[bytes]:
    return [lower for lower, _, _ in head.fields]


def values(head: RequestHead | ResponseHead, name: bytes) -> list[bytes]:
    return [value for lower, _, value in head.fields if lower == name]


# Anything

NAMES = st.sampled_from(
    [
        b"Connection", b"Upgrade", b"Via", b"X-Forwarded-For", b"Forwarded", b"X-Forwarded-Proto", b"X-Forwarded-Host",
        b"TE", b"Keep-Alive", b"Expect", b"x-pico-error", b"x_pico_error", b"X-Request-Id", b"Trailer", b"Cookie",
    ]
) | st.text("abcXYZ019-_!~.", min_size=1, max_size=12).map(str.encode)  # fmt: skip
VALUES = st.sampled_from(
    [b"", b"close", b"keep-alive, upgrade", b"Upgrade", b"websocket", b"h2c", b"host, cookie", b"1.1 pico-x", b"via,te"]
) | st.binary(max_size=20)
LINES = st.lists(st.tuples(NAMES, VALUES).map(lambda field: field[0] + b": " + field[1]), max_size=8)
FRAMINGS = st.sampled_from([b"X: y", b"Content-Length: 5", b"Content-Length: 0", b"Transfer-Encoding: chunked"])
LENGTHS = st.none() | st.integers(0, 2**63 - 1)
