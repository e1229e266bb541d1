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
from typing import Any, ClassVar, Final, Self

import attrs

from pico_twisted.core.http1.errors import Http1Error, bad_request, bad_response
from pico_twisted.core.http1.fields import (
    MASKED_CODING,
    NO_FIELDS,
    NO_TOKENS,
    ONCE_IN_REQUESTS,
    ONCE_IN_RESPONSES,
    ByName,
    Fields,
    FieldsError,
    TooManyFieldsError,
    first_values,
    read_fields,
    split_fields,
)
from pico_twisted.core.http1.plain import PLAIN_RESPONSE, gathered, without_told
from pico_twisted.core.http1.target import COMMON_METHODS, HOSTS, STATUS_LINES, read_request_line

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
        small_bytes: a plain head of so few bytes keeps to all of them, as none of its fields has less than six.
    """

    head_bytes: int = MAX_HEAD_BYTES
    fields: int = MAX_FIELDS
    target_bytes: int = MAX_TARGET_BYTES
    small_bytes: int = attrs.field(init=False)

    @small_bytes.default
    def _small_bytes(self) -> int:
        return min(self.head_bytes, self.fields * 6, self.target_bytes)


class Framing(enum.Enum):
    """Where the body of a message ends (RFC 9112 6.3)."""

    __hash__ = object.__hash__  # members are singletons; Enum's own hash is a call of Python's

    NO_BODY = "none"
    BY_LENGTH = "length"
    IN_CHUNKS = "chunked"
    BY_CLOSE = "until-close"
    RAW = "raw"  # behind a 101: what comes is no HTTP


# By names of their own, for the way of each message: looking one up in the class costs four times as much.
NO_BODY: Final = Framing.NO_BODY
BY_LENGTH: Final = Framing.BY_LENGTH
IN_CHUNKS: Final = Framing.IN_CHUNKS
BY_CLOSE: Final = Framing.BY_CLOSE
RAW: Final = Framing.RAW


# Heads are values: nothing may be assigned to one that was made. They are no frozen class of attrs, as four are made
# for a request, and those take four times as long to make. Each of the two sets what they have in common by itself: a
# call for that would be a fifth of the time.


class _Head:
    """What heads of requests and of responses have in common.

    Attributes:
        length: Content-Length; None when absent.
        chunked: the body comes in chunks.
        keep_alive: what the sender asks for or allows, by its version and Connection.
        connection: the lower-case tokens that Connection names.
        special: the first value of each field that some hop acts on, by lower-case name: of a plain head those that
            tell a node something. Others may be among them. It is what the way of each request asks; all else asks
            `by_name`.
        raw: the head as it was read; empty when it was made or changed by us.
        plain: the first line and the fields, as they go on whatever the next hop is (see `plain`); None when those are
            to be written one by one.
    """

    __slots__ = ("_by_name", "_fields", "chunked", "connection", "keep_alive", "length", "plain", "raw", "special")

    _parts: ClassVar[tuple[str, ...]]  # what it says besides its fields
    _by_name: ByName | None
    _fields: Fields | None
    plain: bytes | None
    raw: bytes
    special: ByName

    @property
    def fields(self) -> Fields:
        """All of them, in order. Those of a plain head are read when somebody asks."""
        if self._fields is None:
            self._fields = split_fields(self.raw, 0)
        return self._fields

    @property
    def by_name(self) -> ByName:
        """The first value of each field by lower-case name."""
        if self._by_name is None:
            self._by_name = first_values(self.fields)
        return self._by_name

    def get(self, lower_name: bytes) -> bytes | None:
        """The first value of a field, by its lower-case name."""
        return self.by_name.get(lower_name)

    def replace(self, **changes: Any) -> Self:
        """The head with other parts, named as its class takes them. It is neither plain any more nor what was read,
        unless all that changes is the length."""
        parts = {name: getattr(self, name) for name in self._parts}
        if changes.keys() == {"length"} and not (self.plain is not None and self.special):
            parts.update(fields=self._fields, by_name=self._by_name, raw=self.raw, plain=self.plain)
        else:
            parts.update(fields=self.fields, by_name=self.by_name)
        return type(self)(**{**parts, **changes})

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, type(self)):
            return NotImplemented
        names = (*self._parts, "fields", "by_name")
        return all(getattr(self, name) == getattr(other, name) for name in names)

    __hash__ = None  # type: ignore[assignment]


class RequestHead(_Head):
    """The head of a request, checked.

    Attributes:
        method: as received; methods compare with case.
        target: in origin-form, or `*`. The authority of an absolute-form target is in `host`.
        version_11: HTTP/1.1, else HTTP/1.0.
        host: the effective Host: the authority of an absolute-form target, else the field's value. None when that is
            empty, and for HTTP/1.0 without one.
        upgrade: the protocols that the client offers to change to, `h2c` left out; None when it offers none.
    """

    __slots__ = ("host", "method", "target", "upgrade", "version_11")

    _parts = ("method", "target", "version_11", "host", "length", "chunked", "keep_alive", "connection", "upgrade")

    def __init__(
        self,
        method: bytes,
        target: bytes,
        version_11: bool = True,
        host: bytes | None = None,
        fields: Fields | None = (),
        by_name: ByName | None = NO_FIELDS,
        length: int | None = None,
        chunked: bool = False,
        keep_alive: bool = True,
        connection: frozenset[bytes] = NO_TOKENS,
        upgrade: bytes | None = None,
        raw: bytes = b"",
        plain: bytes | None = None,
        told: ByName = NO_FIELDS,
    ) -> None:
        self.method: Final = method
        self.target: Final = target
        self.version_11: Final = version_11
        self.host: Final = host
        self._fields = fields
        self._by_name = by_name
        self.special = told if by_name is None else by_name
        self.length: Final = length
        self.chunked: Final = chunked
        self.keep_alive: Final = keep_alive
        self.connection: Final = connection
        self.upgrade: Final = upgrade
        self.raw = raw
        self.plain = plain

    @property
    def has_body(self) -> bool:
        """Whether bytes of a body follow the head."""
        return self.chunked or bool(self.length)

    @property
    def expect_continue(self) -> bool:
        """Whether the client waits for a 100 before its body."""
        return self.version_11 and self.special.get(b"expect", b"").lower() == b"100-continue"


class ResponseHead(_Head):
    """The head of a response, checked. `response_framing` says what follows it.

    Attributes:
        status: 100 to 999; over 599 only from a service whose listener is `lenient`.
        reason: may be empty; may hold bytes over 0x7F.
        version_11: HTTP/1.1, else HTTP/1.0.
        length: Content-Length; None when absent, and for 1xx and 204, where it means nothing.
        chunked: the body comes in chunks; False for 1xx and 204 whatever the fields say.
        upgrade: for a 101 the protocol that begins; for others what the service could change to, or None.
        raw: the head as it was read, to go on over a node link as it is; empty when it was made or changed by us.
    """

    __slots__ = ("reason", "status", "upgrade", "version_11")

    _parts = ("status", "reason", "version_11", "length", "chunked", "keep_alive", "connection", "upgrade")

    def __init__(
        self,
        status: int,
        reason: bytes = b"",
        version_11: bool = True,
        fields: Fields | None = (),
        by_name: ByName | None = NO_FIELDS,
        length: int | None = None,
        chunked: bool = False,
        keep_alive: bool = True,
        connection: frozenset[bytes] = NO_TOKENS,
        upgrade: bytes | None = None,
        raw: bytes = b"",
        plain: bytes | None = None,
    ) -> None:
        self.status: Final = status
        self.reason: Final = reason
        self.version_11: Final = version_11
        self._fields = fields
        self._by_name = by_name
        self.special = NO_FIELDS if by_name is None else by_name
        self.length: Final = length
        self.chunked: Final = chunked
        self.keep_alive: Final = keep_alive
        self.connection: Final = connection
        self.upgrade: Final = upgrade
        self.raw = raw
        self.plain = plain


def response_framing(head: ResponseHead, request_method: bytes) -> Framing:
    """How the body of a response is framed.

    Args:
        head: of the response.
        request_method: of the request that it answers; the answer to HEAD has no body whatever its fields say.
    """
    status = head.status
    if status == 101:
        return RAW
    if status < 200 or status == 204 or status == 304 or request_method == b"HEAD":
        return NO_BODY
    if head.chunked:
        return IN_CHUNKS
    return BY_CLOSE if head.length is None else BY_LENGTH


def parse_request_head(data: bytes, limits: HeadLimits, plain: re.Pattern[bytes] | None = None) -> RequestHead:
    """Parse and check the head of a request.

    Args:
        data: exactly one head, its empty line included.
        limits: what it is held to.
        plain: what matches a plain head of its sender (see `plain`); None when none is plain.

    Raises:
        Http1Error: 400, 414, 417, 431, 501 or 505.
    """
    told, rest = NO_FIELDS, data
    if plain is not None and (b"\r\nx-pico-" in data or b"\r\nX-Pico-" in data):
        rest, told = without_told(data)
    if plain is not None and (match := plain.fullmatch(rest)) is not None:
        onward, method, target, host, kept, digits, behind, coded, last = match.groups()
        within = len(data) <= limits.small_bytes or (_is_within(data, limits) and len(target) <= limits.target_bytes)
        if within and method in COMMON_METHODS and HOSTS[host] == host:
            onward, length, chunked, tokens = gathered(onward, kept, digits, behind, coded, last)
            return RequestHead(
                method, target, True, host, None, None, length, chunked, True, tokens, None, data, onward, told
            )
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
    if chunked and MASKED_CODING.search(data) is not None:
        raise bad_request("a tab behind Transfer-Encoding")
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


def _is_within(data: bytes, limits: HeadLimits) -> bool:
    """Whether a head has no more bytes and fields than it may."""
    return len(data) <= limits.head_bytes and data.count(b"\n") - 2 <= limits.fields


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
    if (match := PLAIN_RESPONSE.fullmatch(data)) is not None:
        onward, line, kept, digits, behind, coded, last = match.groups()
        status, reason, _ = STATUS_LINES[line]
        if status != 204 and (len(data) <= limits.small_bytes or _is_within(data, limits)):
            onward, length, chunked, tokens = gathered(onward, kept, digits, behind, coded, last)
            return ResponseHead(status, reason, True, None, None, length, chunked, True, tokens, None, data, onward)
    end = data.find(b"\n")
    if end < 1 or data[end - 1] != 0x0D:
        raise bad_response("bad status line")
    status, reason, version_11 = STATUS_LINES[data[: end - 1]]
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
