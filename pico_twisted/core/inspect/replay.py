"""A recorded request that is sent again, as it was or edited: its bytes as a node would send them to the agent."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import attrs

from pico_twisted.core.field_names import FRAMING, HOP_BY_HOP
from pico_twisted.core.http1.client_connection import CLIENT_CONNECTION
from pico_twisted.core.http1.errors import Http1Error
from pico_twisted.core.http1.head import parse_request_head
from pico_twisted.core.inspect.masks import unmasked_fields, unmasked_target
from pico_twisted.core.inspect.recording import Recording
from pico_twisted.core.protocol_limits import REQUEST_LIMITS

_DROPPED: Final = (HOP_BY_HOP - {b"te"}) | FRAMING | {b"expect", CLIENT_CONNECTION}
"""Fields that are of one connection, or said where another body ended. TE stays: gRPC asks for trailers with it."""
_METHOD: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,40}")
_NAME: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE: Final = re.compile(rb"[\t -~\x80-\xff]*")


class ReplayRefused(Exception):
    """A request is not sent again, and why not, in words for who asked."""


@attrs.frozen(kw_only=True)
class Edits:
    """What is different from the original. What is None stays as it was.

    Attributes:
        method, target: of the request line.
        fields: all of them, as (name, value). What was shown as hidden, and was left so, is as in the original.
        body: the whole body.
    """

    method: str | None = None
    target: str | None = None
    fields: Sequence[tuple[str, str]] | None = None
    body: bytes | None = None


def replayed(recording: Recording, edits: Edits) -> bytes:
    """The payload of the frame that a replay consists of: a head, and the whole body.

    Args:
        recording: of the original.
        edits: what is different.

    Raises:
        ReplayRefused: it cannot be sent again, or not so.
    """
    head = recording.request
    if recording.tcp:
        raise ReplayRefused("a TCP connection is not a request: it cannot be sent again")
    if head is None:
        raise ReplayRefused("there is no request to send again: its head was not valid")
    if head.upgrade is not None:
        raise ReplayRefused("a request that asks for another protocol, as a WebSocket does, cannot be sent again")
    kept = recording.request_body
    if edits.body is None and kept.cut:
        raise ReplayRefused(
            f"only the first {len(kept.kept)} of {kept.count} bytes of its body are kept: give it another body"
        )
    if edits.body is None and not recording.request_ended:
        raise ReplayRefused("its body has not come whole")
    method = head.method if edits.method is None else _method(edits.method)
    target = head.target if edits.target is None else _target(edits.target, recording)
    body = bytes(kept.kept) if edits.body is None else edits.body
    if edits.fields is None:
        fields = [(name, value) for _, name, value in head.fields]
    else:
        fields = unmasked_fields(edits.fields, head.fields)
    lines = [method + b" " + target + b" HTTP/1.1"]
    for name, value in fields:
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise ReplayRefused(f"this may not stand in a head: {name.decode('utf-8', 'replace')[:100]}")
        if name.lower() not in _DROPPED:
            lines.append(name + b": " + value.strip(b" \t"))
    if head.length is not None or edits.body is not None:
        lines.append(b"Content-Length: %d" % len(body))
    written = b"\r\n".join((*lines, b"", b""))
    try:
        parse_request_head(written, REQUEST_LIMITS)
    except Http1Error as error:
        raise ReplayRefused(f"this is not valid HTTP: {error.message}") from None
    return written + body


def _method(text: str) -> bytes:
    if not _METHOD.fullmatch(text):
        raise ReplayRefused("a method is one word, such as POST")
    return text.encode("ascii")


def _target(text: str, recording: Recording) -> bytes:
    target = unmasked_target(text, recording.target)
    if not target.startswith("/") or not target.isascii() or not target.isprintable() or " " in target:
        raise ReplayRefused("a target begins with / and has no blanks or other characters that URLs encode")
    return target.encode("ascii")
