"""One head at a time: what it says, and whether it may say it (RFC 9110, RFC 9112).

What is needed: that every head we act on means the same to us, to the next hop and to the service, whatever wrote it.
What can go wrong: two readers of one message disagree where it ends, and what is left over is an attacker's; or a byte
that is harmless in a value ends a line when the head is written again. So each line has to be a field as the grammar
has it, with no leniency (`fields`); whatever frames a message or names its target is judged here; and a head that goes
on is written from its parts by `forwarding`. Rejected: a parser of whole messages. llhttp was one: it lets
much pass that is to be refused, has no limits, wants a call for each field, and takes the body of an upgrade for a
second request. The tests still compare with it.
"""

from __future__ import annotations

import enum
import re
from typing import Final, NamedTuple

import attrs

from pico_twisted.core.http1.errors import Http1Error, bad_request, bad_response
from pico_twisted.core.http1.fields import (
    NO_TOKENS,
    ONCE_IN_REQUESTS,
    ONCE_IN_RESPONSES,
    ByName,
    Fields,
    FieldsError,
    TooManyFieldsError,
    read_fields,
)
from pico_twisted.core.http1.grammar import LINE_BYTES
from pico_twisted.core.http1.memo import Memo
from pico_twisted.core.http1.target import HOSTS, read_request_line

MAX_HEAD_BYTES: Final = 32 * 1024
"""Most bytes of a head, its empty line included, unless the configuration says otherwise."""

MAX_FIELDS: Final = 100
"""Most lines of fields in a head, unless the configuration says otherwise."""

MAX_TARGET_BYTES: Final = 8 * 1024
"""Most bytes of a request's target, unless the configuration says otherwise."""


class End(enum.Enum):
    """The type of `END`."""

    END = "end"


END: Final = End.END
"""The event that says that the message is complete."""


@attrs.frozen(kw_only=True)
class HeadLimits:
    """How large a head may be.

    Attributes:
        head_bytes: from its first byte to the empty line, both included. Trailers are held to it as well.
        fields: lines of fields. Trailers are held to it as well.
        target_bytes: the target of a request, as received.
    """

    head_bytes: int = MAX_HEAD_BYTES
    fields: int = MAX_FIELDS
    target_bytes: int = MAX_TARGET_BYTES


class Framing(enum.Enum):
    """Where the body of a message ends (RFC 9112 6.3)."""

    __hash__ = object.__hash__  # members are singletons; Enum's own hash is a call of Python's

    NONE = "none"
    LENGTH = "length"
    CHUNKED = "chunked"
    UNTIL_CLOSE = "until-close"
    RAW = "raw"  # behind a 101: what comes is no HTTP


# Heads are NamedTuples: four are made for a request, and a frozen class of attrs takes four times as long to make.


class RequestHead(NamedTuple):
    """The head of a request, checked.

    Attributes:
        method: as received; methods compare with case.
        target: in origin-form, or `*`. The authority of an absolute-form target is in `host`.
        version_11: HTTP/1.1, else HTTP/1.0.
        host: the effective Host: the authority of an absolute-form target, else the field's value. None when that is
            empty, and for HTTP/1.0 without one.
        fields: all of them, in order, Host included.
        by_name: the first value of each field by lower-case name.
        length: Content-Length; None when absent.
        chunked: the body comes in chunks.
        keep_alive: what the client asks for, by its version and Connection.
        connection: the lower-case tokens that Connection names.
        upgrade: the protocols that the client offers to change to, `h2c` left out; None when it offers none.
    """

    method: bytes
    target: bytes
    version_11: bool = True
    host: bytes | None = None
    fields: Fields = ()
    by_name: ByName = {}
    length: int | None = None
    chunked: bool = False
    keep_alive: bool = True
    connection: frozenset[bytes] = NO_TOKENS
    upgrade: bytes | None = None

    @property
    def has_body(self) -> bool:
        """Whether bytes of a body follow the head."""
        return self.chunked or bool(self.length)

    @property
    def expect_continue(self) -> bool:
        """Whether the client waits for a 100 before its body."""
        return self.version_11 and self.by_name.get(b"expect", b"").lower() == b"100-continue"

    def get(self, lower_name: bytes) -> bytes | None:
        """The first value of a field, by its lower-case name."""
        return self.by_name.get(lower_name)


class ResponseHead(NamedTuple):
    """The head of a response, checked. `response_framing` says what follows it.

    Attributes:
        status: 100 to 999; over 599 only from a service whose listener is `lenient`.
        reason: may be empty; may hold bytes over 0x7F.
        version_11: HTTP/1.1, else HTTP/1.0.
        fields: all of them, in order.
        by_name: the first value of each field by lower-case name.
        length: Content-Length; None when absent, and for 1xx and 204, where it means nothing.
        chunked: the body comes in chunks; False for 1xx and 204 whatever the fields say.
        keep_alive: what the service allows, by its version and Connection.
        connection: the lower-case tokens that Connection names.
        upgrade: for a 101 the protocol that begins; for others what the service could change to, or None.
        raw: the head as it was read, to go on over a node link as it is; empty when it was made or changed by us.
    """

    status: int
    reason: bytes = b""
    version_11: bool = True
    fields: Fields = ()
    by_name: ByName = {}
    length: int | None = None
    chunked: bool = False
    keep_alive: bool = True
    connection: frozenset[bytes] = NO_TOKENS
    upgrade: bytes | None = None
    raw: bytes = b""

    def get(self, lower_name: bytes) -> bytes | None:
        """The first value of a field, by its lower-case name."""
        return self.by_name.get(lower_name)


def response_framing(head: ResponseHead, request_method: bytes) -> Framing:
    """How the body of a response is framed.

    Args:
        head: of the response.
        request_method: of the request that it answers; the answer to HEAD has no body whatever its fields say.
    """
    status = head.status
    if status == 101:
        return Framing.RAW
    if status < 200 or status == 204 or status == 304 or request_method == b"HEAD":
        return Framing.NONE
    if head.chunked:
        return Framing.CHUNKED
    return Framing.UNTIL_CLOSE if head.length is None else Framing.LENGTH


_LATER_VERSION: Final = re.compile(rb"HTTP/1\.[2-9] ")

_MAX_STATUS_LINES: Final = 256
"""Most status lines that are kept with their parts."""


def parse_request_head(data: bytes, limits: HeadLimits) -> RequestHead:
    """Parse and check the head of a request.

    Args:
        data: exactly one head, its empty line included.
        limits: what it is held to.

    Raises:
        Http1Error: 400, 414, 417, 431, 501 or 505.
    """
    end = data.find(b"\n")
    method, target, authority, version_11 = read_request_line(data[:end], limits.target_bytes)
    size = len(data)
    if size > limits.head_bytes or size - end + len(target) > limits.head_bytes:
        raise Http1Error(431, "head-too-large", "head is too large")
    try:
        fields, by_name, length, chunked, keep_alive, connection, upgrade = read_fields(
            data, end - 1, limits.fields, ONCE_IN_REQUESTS, version_11
        )
    except TooManyFieldsError as error:
        raise Http1Error(431, "head-too-large", str(error)) from None
    except FieldsError as error:
        raise bad_request(str(error)) from None
    host = by_name.get(b"host")
    if host is None:
        if version_11:
            raise bad_request("missing Host")
    else:
        host = HOSTS[host]
        if host is None:
            raise bad_request("bad Host")
    if b"expect" in by_name and version_11:
        _judge_expectations(fields)
    host = authority or host or None
    return RequestHead(
        method, target, version_11, host, fields, by_name, length, chunked, keep_alive, connection, upgrade
    )


def _judge_expectations(fields: Fields) -> None:
    """An expectation that a service may read in another way than we do is none that we can meet (RFC 9110 10.1.1)."""
    if [value.lower() for lower, _, value in fields if lower == b"expect"] != [b"100-continue"]:
        raise Http1Error(417, "expectation-failed", "the only expectation is one 100-continue")


def parse_response_head(data: bytes, limits: HeadLimits) -> ResponseHead:
    """Parse and check the head of a response.

    Args:
        data: exactly one head, its empty line included.
        limits: what it is held to; `target_bytes` is not used.

    Raises:
        Http1Error: 502.
    """
    end = data.find(b"\n")
    if end < 1 or data[end - 1] != 0x0D:
        raise bad_response("bad status line")
    line = data[: end - 1]
    status, reason, version_11 = _STATUS_LINES[line]
    if len(data) > limits.head_bytes:
        raise bad_response("head is too large")
    try:
        fields, by_name, length, chunked, keep_alive, connection, upgrade = read_fields(
            data, end - 1, limits.fields, ONCE_IN_RESPONSES, version_11
        )
    except FieldsError as error:
        raise bad_response(str(error)) from None
    if status < 200 or status == 204:
        length, chunked = None, False
        if status == 101 and upgrade is None:
            raise bad_response("a 101 that names no protocol")
    return ResponseHead(
        status, reason, version_11, fields, by_name, length, chunked, keep_alive, connection, upgrade, data
    )


def _read_status_line(line: bytes) -> tuple[int, bytes, bool]:
    version, digits, reason = line[:9], line[9:12], line[13:]
    if version == b"HTTP/1.1 ":
        version_11 = True
    elif version == b"HTTP/1.0 ":
        version_11 = False
    elif _LATER_VERSION.fullmatch(version):
        version_11 = True
    else:
        raise bad_response("bad status line")
    if not digits.isdigit() or line[12:13] not in (b"", b" ") or b"\r" in reason:
        raise bad_response("bad status line")
    status = int(digits)
    if len(digits) != 3 or status < 100:
        raise bad_response("status is not between 100 and 999")
    if reason.translate(None, LINE_BYTES):
        raise bad_response("control bytes in the head")
    return status, reason, version_11


_STATUS_LINES: Final = Memo(_read_status_line, _MAX_STATUS_LINES)
