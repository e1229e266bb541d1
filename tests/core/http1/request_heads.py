"""Heads of requests, to be read or refused."""

from __future__ import annotations

import pytest

from pico_twisted.core.http1.errors import Http1Error
from pico_twisted.core.http1.head import HeadLimits, RequestHead, parse_request_head

LIMITS = HeadLimits()


def parse(data: bytes, limits: HeadLimits = LIMITS) -> RequestHead:
    return parse_request_head(data, limits)


def with_fields(*lines: bytes, line: bytes = b"GET / HTTP/1.1", host: bytes | None = b"a.example") -> bytes:
    head = [line]
    if host is not None:
        head.append(b"Host: " + host)
    return b"\r\n".join([*head, *lines, b"", b""])


def refused(data: bytes, status: int = 400, limits: HeadLimits = LIMITS) -> Http1Error:
    with pytest.raises(Http1Error) as caught:
        parse(data, limits)
    assert caught.value.status == status, caught.value
    return caught.value
