"""The answers that Pico makes itself; those of most ports are JSON that names the hop that made them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Final

_UNPRINTABLE: Final = re.compile(r"[^ -~]")
_TOKEN: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_UNSAFE_VALUE: Final = re.compile(rb"[^\t -~\x80-\xff]")
_REASONS: Final = {status.value: status.phrase.encode("ascii") for status in HTTPStatus}


def error_response(
    status: int,
    message: str,
    *,
    hop: str,
    code: str,
    close: bool,
    head_only: bool = False,
    date: bytes | None = None,
    extra: Sequence[tuple[bytes, bytes]] = (),
) -> bytes:
    """A whole answer with `{"error": message}` as its body.

    Args:
        status: of the answer, 400 or above.
        message: for humans.
        hop: the ID of the node or agent that answers.
        code: stable, for machines; with `hop` it makes up `x-pico-error`.
        close: the connection is closed after it.
        head_only: the request was a HEAD: no body, though its length is told.
        date: the value of Date; None for no Date.
        extra: further fields, (name, value).

    Raises:
        ValueError: `extra` or `date` may not stand in a head.
    """
    body = json.dumps({"error": message}).encode("ascii")
    fields = [(b"content-type", b"application/json"), (b"x-pico-error", error_value(hop, code)), *extra]
    return whole_answer(status, fields, body, close=close, head_only=head_only, date=date)


def error_value(hop: str, code: str) -> bytes:
    """What `x-pico-error` says: who made the error, and its code."""
    return _UNPRINTABLE.sub("?", f"{hop}; {code}").encode("ascii")


def whole_answer(
    status: int,
    fields: Sequence[tuple[bytes, bytes]],
    body: bytes,
    *,
    close: bool,
    head_only: bool = False,
    date: bytes | None = None,
) -> bytes:
    """An answer with a body of known length. For the arguments see `error_response`.

    Raises:
        ValueError: `fields` or `date` may not stand in a head.
    """
    fields = [*fields, (b"content-length", b"%d" % len(body))]
    if date is not None:
        fields.append((b"date", date))
    if close:
        fields.append((b"connection", b"close"))
    lines = [b"HTTP/1.1 %d %b" % (status, _REASONS.get(status, b""))]
    for name, value in fields:
        if not _TOKEN.fullmatch(name) or _UNSAFE_VALUE.search(value):
            raise ValueError("a field that may not stand in a head")
        lines.append(name + b": " + value)
    lines.append(b"\r\n")
    return b"\r\n".join(lines) + (b"" if head_only else body)
