"""Which trace a request belongs to, as W3C Trace Context has it (https://www.w3.org/TR/trace-context/).

A caller that traces says in `traceparent` which span of it the request is made in, and whether that is recorded.
Whoever takes part puts its own span in that place. `tracestate` belongs to a `traceparent` and goes wherever that does.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

TRACEPARENT: Final = b"traceparent"
"""Lower-case name of the field that names a trace and a span."""
TRACESTATE: Final = b"tracestate"
"""Lower-case name of the field that means something to the tools of whoever wrote it."""
MOST_HEAD_BYTES: Final = 64 * 1024
"""Bytes in which a head is looked for: a frame has no more."""

_VALUE: Final = rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})((?:-[^\r\n]*)?)"
_PARENT: Final = re.compile(_VALUE)
_LINE: Final = re.compile(rb"\r\n(?i:traceparent):[ \t]*" + _VALUE + rb"[ \t]*(?=\r\n)")
_ANY_LINE: Final = re.compile(rb"\r\n(?i:traceparent):")
_SAMPLED: Final = 1


class TraceParent(NamedTuple):
    """The span of a caller.

    Attributes:
        trace_id: of its trace, 32 hexadecimal digits.
        span_id: 16 of them.
        sampled: it is recorded.
    """

    trace_id: bytes
    span_id: bytes
    sampled: bool


def read_traceparent(value: bytes) -> TraceParent | None:
    """The span that the value of a `traceparent` names; None when it is not valid, and so counts as none."""
    match = _PARENT.fullmatch(value)
    return None if match is None else _parent(match)


def write_traceparent(trace_id: bytes, span_id: bytes) -> bytes:
    """The value that names a span which is recorded."""
    return b"00-%b-%b-01" % (trace_id, span_id)


def find_traceparent(payload: bytes) -> tuple[TraceParent, int] | None:
    """Look for the `traceparent` of a head of HTTP/1.1, without reading the head.

    Args:
        payload: the head, and perhaps some of the body.

    Returns:
        The span, and where in the payload its ID stands; None when there is none, or not exactly one that is valid.
    """
    end = payload.find(b"\r\n\r\n", 0, MOST_HEAD_BYTES) + 2
    if end < 2:
        return None
    match = _LINE.search(payload, 0, end)
    if match is None or len(_ANY_LINE.findall(payload, 0, end)) > 1:
        return None
    parent = _parent(match)
    return None if parent is None else (parent, match.start(3))


def _parent(match: re.Match[bytes]) -> TraceParent | None:
    version, trace_id, span_id, flags, more = match.groups()
    if version == b"ff" or (version == b"00" and more) or not trace_id.strip(b"0") or not span_id.strip(b"0"):
        return None
    return TraceParent(trace_id, span_id, bool(int(flags, 16) & _SAMPLED))
