"""Trace contexts: which are valid, and where they stand in a head."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pico_twisted.core.trace_context import TraceParent, find_traceparent, read_traceparent, write_traceparent

TRACE = b"4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = b"00f067aa0ba902b7"
GOOD = b"00-%b-%b-01" % (TRACE, SPAN)


@pytest.mark.parametrize(
    ("value", "sampled"),
    [(GOOD, True), (GOOD[:-2] + b"00", False), (GOOD[:-2] + b"03", True), (b"cc" + GOOD[2:] + b"-more", True)],
)
def test_valid(value: bytes, sampled: bool) -> None:
    """Its version, unknown flags, and what a later version adds do not matter."""
    assert read_traceparent(value) == TraceParent(TRACE, SPAN, sampled)


@pytest.mark.parametrize(
    "value",
    [
        b"", GOOD[:-1], GOOD + b"0", GOOD + b"-more", GOOD.upper(), b"ff" + GOOD[2:], GOOD.replace(TRACE, b"0" * 32),
        GOOD.replace(SPAN, b"0" * 16), GOOD + b", " + GOOD, b" " + GOOD, GOOD.replace(b"-", b"_"),
        GOOD.replace(b"4b", b"zz"),
    ],
)  # fmt: skip
def test_not_valid(value: bytes) -> None:
    """What is not valid counts as none (W3C Trace Context 3.2.2)."""
    assert read_traceparent(value) is None


def head(*fields: bytes) -> bytes:
    """A request, with a body that looks like a field."""
    return b"\r\n".join([b"GET / HTTP/1.1", b"Host: x", *fields, b"", b"traceparent: " + GOOD, b""])


@pytest.mark.parametrize("name", [b"traceparent", b"Traceparent", b"TRACEPARENT"])
@pytest.mark.parametrize("blank", [b"", b" ", b" \t"])
def test_found(name: bytes, blank: bytes) -> None:
    """Wherever it stands in the head, however it is written: exactly the ID of the span is told."""
    payload = head(b"A: b", name + b":" + blank + GOOD + blank, b"C: d")
    found = find_traceparent(payload)
    assert found is not None and found[0] == TraceParent(TRACE, SPAN, True)
    assert payload[found[1] : found[1] + 16] == SPAN


@pytest.mark.parametrize(
    "payload",
    [
        head(), head(b"x-traceparent: " + GOOD), head(b"A: traceparent: " + GOOD), head(b"traceparent: " + GOOD[:-1]),
        head(b"traceparent: " + GOOD, b"Traceparent: " + GOOD), head(b"traceparent: x", b"traceparent: " + GOOD),
        b"GET / HTTP/1.1\r\ntraceparent: " + GOOD, b"",
    ],
)  # fmt: skip
def test_not_found(payload: bytes) -> None:
    """In a body, in another field, twice, or in a head without an end there is none."""
    assert find_traceparent(payload) is None


@given(st.binary())
def test_whatever_comes(data: bytes) -> None:
    """No bytes break it."""
    read_traceparent(data)
    find_traceparent(data)
    find_traceparent(head(b"traceparent: " + data.replace(b"\r\n", b"")))


def test_written() -> None:
    """What we write we read, as recorded."""
    assert read_traceparent(write_traceparent(TRACE, SPAN)) == TraceParent(TRACE, SPAN, True)
