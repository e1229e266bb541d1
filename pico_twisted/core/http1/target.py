"""The first lines of heads, and the Host (RFC 9112 3 and 4, RFC 3986 3.2).

A request line is judged by rules in a fixed order, and a line that has not ended yet by the first of them. So the
answer to a bad line is the same however its bytes were cut, and a client that will never finish its line is told at
once.
"""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv6Address
from typing import Final

from pico_twisted.core.http1.errors import Http1Error, bad_request, bad_response
from pico_twisted.core.http1.grammar import COMMON_REQUEST_LINE, LINE_BYTES
from pico_twisted.core.http1.memo import Memo

IDEMPOTENT: Final = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"))
"""Methods that may be sent twice (RFC 9110 9.2.2). Of one that is not known this cannot be known either."""

COMMON_METHODS: Final = IDEMPOTENT | {b"POST", b"PATCH"}
"""Methods that need no look at their bytes."""

MAX_METHOD_BYTES: Final = 64
"""Most bytes of a method. No known one is nearly as long, and without this bound the target's would not hold."""

_MAX_VERSION_BYTES: Final = 16
"""Most bytes behind the target: `HTTP/1.1` and no more, with room for a wrong version to be named as one."""

_LINE_BYTES: Final = bytes(byte for byte in range(0x21, 0x7F) if byte != 0x23)
"""Bytes of a request line beside its two spaces: visible ASCII but `#`."""

_COMMON_LINE: Final = re.compile(COMMON_REQUEST_LINE)

_HIGH_BYTE: Final = re.compile(rb"[\x80-\xff]")

_TOKEN_BYTES: Final = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_VERSION: Final = re.compile(rb"HTTP/[0-9]\.[0-9]")
_LATER_VERSION: Final = re.compile(rb"HTTP/1\.[2-9]")
_ABSOLUTE: Final = re.compile(rb"[Hh][Tt][Tt][Pp][Ss]?://([^/?]*)(.*)")
_HOST: Final = re.compile(
    rb"((?:[0-9A-Za-z._~!$&'()*+-]|%[0-9A-Fa-f]{2}){1,255}|\[([0-9A-Fa-f:.]{2,45})(?:%[0-9A-Za-z._~-]{1,32})?\])"
    rb"(?::([0-9]{0,5}))?"
)

_MAX_HOSTS: Final = 1024
"""Most hosts that are kept as they go on: clients name the same few again and again."""

_MAX_STATUS_LINES: Final = 256
"""Most status lines that are kept with their parts."""

RequestLine = tuple[bytes, bytes, "bytes | None", bool]
"""(method, target in origin-form or `*`, authority of an absolute-form target, HTTP/1.1)"""


def _read_host(value: bytes) -> bytes | None:
    if not value:
        return value
    match = _HOST.fullmatch(value)
    if match is None:
        return None
    name, address, port = match.groups()
    if port and int(port) > 0xFFFF:
        return None
    if address is not None:
        try:
            IPv6Address(address.decode("ascii"))
        except AddressValueError:
            return None
    return name if port == b"" else value


HOSTS: Final = Memo(_read_host, _MAX_HOSTS, longest_bytes=264)
"""By the value of a Host field or an authority: the host as it goes on, or None when it is no host.

A host is a name, an IPv4 address, or an IPv6 address in brackets, which may have a zone; with or without a port. A
colon without a port is left out (RFC 3986 6.2.3). An empty value stays empty: such a request names no host.
"""


def read_request_line(line: bytes, target_bytes: int) -> RequestLine:
    """The parts of a whole request line, given without its LF.

    A method is any token (RFC 9110 16.1), and compares with case. A later minor version is read as 1.1 (RFC 9110 2.5).
    Bytes over 0x7F in a path or query come out percent-encoded (RFC 3986 2.1), so that every hop behind us, and the
    log, read one and the same target.

    Raises:
        Http1Error: 400, 414 (target over `target_bytes`, as received or encoded), 501 or 505.
    """
    if (match := _COMMON_LINE.fullmatch(line)) is not None:
        method, target = match.groups()
        if method in COMMON_METHODS and len(target) <= target_bytes:
            return method, target, None, True
    if not line.endswith(b"\r"):
        refuse_line_start(line, target_bytes)
        raise bad_request("bad request line")
    line = line[:-1]
    if line.translate(None, _LINE_BYTES) != b"  ":
        refuse_line_start(line, target_bytes)
        line = _with_encoded_target(line)
    method, target, version = line.split(b" ")
    if len(target) > target_bytes or len(version) != 8 or method not in COMMON_METHODS:
        refuse_line_start(line, target_bytes)
    if version == b"HTTP/1.1":
        version_11 = True
    elif version == b"HTTP/1.0":
        version_11 = False
    elif _LATER_VERSION.fullmatch(version):
        version_11 = True
    elif _VERSION.fullmatch(version):
        raise Http1Error(505, "version", "only HTTP/1.0 and HTTP/1.1 are spoken here")
    else:
        raise bad_request("bad request line")
    if method not in COMMON_METHODS:
        _judge_method(method)
    if target.startswith(b"/"):
        return method, target, None, version_11
    if target == b"*":
        if method != b"OPTIONS":
            raise bad_request("target * is for OPTIONS alone")
        return method, target, None, version_11
    return _absolute_form(method, target, version_11)


def _with_encoded_target(line: bytes) -> bytes:
    """A request line with an odd byte: those over 0x7F in its target are percent-encoded, but not in an authority.

    Raises:
        Http1Error: 400, it has not three parts, or its target has another byte that it may not have.
    """
    parts = line.split(b" ")
    if len(parts) != 3:
        raise bad_request("bad request line")
    target = path = parts[1]
    if not target.startswith(b"/") and (match := _ABSOLUTE.fullmatch(target)) is not None:
        path = match.group(2)
    target = target.removesuffix(path) + _HIGH_BYTE.sub(lambda byte: b"%%%02X" % byte[0][0], path)
    if target.translate(None, _LINE_BYTES):
        raise bad_request("bad request line")
    parts[1] = target
    return b" ".join(parts)


def _judge_method(method: bytes) -> None:
    if not method or method.translate(None, _TOKEN_BYTES):
        raise bad_request("bad method")
    in_capitals = method.upper()
    if in_capitals == b"CONNECT":
        raise Http1Error(501, "not-implemented", "CONNECT is not supported")
    if in_capitals == b"HEAD":  # whether its answer has a body would depend on who reads it
        raise Http1Error(501, "not-implemented", "HEAD is written in capitals")


def _absolute_form(method: bytes, target: bytes, version_11: bool) -> RequestLine:
    match = _ABSOLUTE.fullmatch(target)
    if match is None:
        raise bad_request("bad target")
    authority, rest = match.groups()
    authority = HOSTS[authority] or b""
    if not authority:
        raise bad_request("bad authority in the target")
    if not rest:
        rest = b"*" if method == b"OPTIONS" else b"/"
    elif rest.startswith(b"?"):
        rest = b"/" + rest
    return method, rest, authority, version_11


def refuse_line_start(line: bytes, target_bytes: int) -> None:
    """Judge a request line by what holds for its beginning alone: for a line that has not ended, given without a CR at
    its end, and first of all for one that has.

    Raises:
        Http1Error: 400 or 414.
    """
    if line[:1].translate(None, _TOKEN_BYTES):
        raise bad_request("not an HTTP request")
    space = line.find(b" ", 0, MAX_METHOD_BYTES + 1)
    if space < 0:
        if len(line) > MAX_METHOD_BYTES:
            raise bad_request("bad method")
        return
    second = line.find(b" ", space + 1)
    end = len(line) if second < 0 else second
    if end - space - 1 > target_bytes:
        raise Http1Error(414, "uri-too-long", "target is too long")
    if second >= 0 and len(line) - second - 1 > _MAX_VERSION_BYTES:
        raise bad_request("bad request line")


def longest_line(target_bytes: int) -> int:
    """How many bytes of a request line `refuse_line_start` needs at most to refuse one that is too long."""
    return MAX_METHOD_BYTES + target_bytes + _MAX_VERSION_BYTES + 8


def _read_status_line(line: bytes) -> tuple[int, bytes, bool]:
    version, digits, reason = line[:9], line[9:12], line[13:]
    if version == b"HTTP/1.1 ":
        version_11 = True
    elif version == b"HTTP/1.0 ":
        version_11 = False
    elif _LATER_VERSION.fullmatch(version.removesuffix(b" ")):
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


STATUS_LINES: Final = Memo(_read_status_line, _MAX_STATUS_LINES)
"""By a status line without its CRLF: the status, the reason, and whether it says HTTP/1.1; or the 502 that what is none
is answered with."""
