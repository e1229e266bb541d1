"""A second reader of heads, to compare ours with: llhttp for the shape, and around it the checks of what it lets pass.

What both readers share is only what a request line, a Host and the fields of framing may say: llhttp lets much of it
pass. It is never shown a first line of the peer: it knows a list of methods, and stops at a 101.
"""

from __future__ import annotations

import re

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser, HttpResponseParser

from pico_twisted.core.http1.errors import Http1Error, bad_request, bad_response
from pico_twisted.core.http1.fields import FieldsError, all_values, read_framing
from pico_twisted.core.http1.head import HeadLimits
from pico_twisted.core.http1.target import HOSTS, read_request_line

Facts = dict[str, object]
"""What a head says, by the names of its attributes."""

_LINE_BYTES = b"\t" + bytes(range(0x20, 0x7F)) + bytes(range(0x80, 0x100))
_PROTOCOL = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+(?:/[!#$%&'*+\-.^_`|~0-9A-Za-z]+)?")
_STATUS_LINE = re.compile(rb"HTTP/1\.([0-9]) ([1-9][0-9]{2})(?: ([\t -~\x80-\xff]*))?")
_ONCE = {b"content-length", b"transfer-encoding"}
_ONCE_IN_REQUESTS = _ONCE | {b"host", b"x-pico-authorization", b"x-pico-endpoint"}


class _Reader:
    def __init__(self) -> None:
        self.fields: list[tuple[bytes, bytes, bytes]] = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name.lower(), name, value.rstrip(b" \t")))


def request(data: bytes, limits: HeadLimits) -> Facts:
    """What one head of a request says.

    Raises:
        Http1Error: it is refused.
    """
    end = data.find(b"\n")
    method, target, authority, version_11 = read_request_line(data[:end], limits.target_bytes)
    if max(len(data), len(data) - end + len(target)) > limits.head_bytes:
        raise Http1Error(431, "head-too-large", "head is too large")
    if (count := _lines(data)) is None:
        raise bad_request("bare line ends")
    if count > limits.fields:
        raise Http1Error(431, "head-too-large", "too many fields")
    try:
        facts = _fields(data, end, count, version_11, HttpRequestParser)
    except (FieldsError, HttpParserError) as error:
        raise bad_request(str(error)) from None
    by_name = facts["by_name"]
    assert isinstance(by_name, dict)
    host = HOSTS[by_name[b"host"]] if b"host" in by_name else b""
    if host is None or (version_11 and b"host" not in by_name):
        raise bad_request("bad Host")
    expectations = [value.lower() for lower, _, value in facts["fields"] if lower == b"expect"]  # type: ignore[attr-defined]
    if version_11 and expectations not in ([], [b"100-continue"]):
        raise Http1Error(417, "expectation-failed", "")
    return {"method": method, "target": target, "version_11": version_11, "host": authority or host or None, **facts}


def response(data: bytes, limits: HeadLimits) -> Facts:
    """What one head of a response says.

    Raises:
        Http1Error: it is refused.
    """
    end = data.find(b"\n")
    line = _STATUS_LINE.fullmatch(data[: end - 1])
    count = _lines(data)
    if end < 1 or data[end - 1] != 0x0D or line is None or count is None:
        raise bad_response("bad status line or line ends")
    if len(data) > limits.head_bytes or count > limits.fields:
        raise bad_response("too large")
    minor, digits, reason = line.groups()
    try:
        facts = _fields(data, end, count, minor != b"0", HttpResponseParser)
    except (FieldsError, HttpParserError) as error:
        raise bad_response(str(error)) from None
    status = int(digits)
    if status < 200 or status == 204:
        facts.update(length=None, chunked=False)
    if status == 101 and facts["upgrade"] is None:
        raise bad_response("a 101 that names no protocol")
    return {"status": status, "reason": reason or b"", "version_11": minor != b"0", "raw": data, **facts}


def _lines(data: bytes) -> int | None:
    """How many lines there are between the first and the last, empty one; None when it is not a head of lines."""
    line_ends = data.translate(None, _LINE_BYTES)
    lines = len(line_ends) // 2
    return lines - 2 if line_ends == b"\r\n" * lines and data.endswith(b"\r\n\r\n") else None


def _fields(
    data: bytes, end: int, count: int, version_11: bool, parser: type[HttpRequestParser | HttpResponseParser]
) -> Facts:
    reader = _Reader()
    is_request = parser is HttpRequestParser
    try:
        parser(reader).feed_data((b"GET / HTTP/1.1\r\n" if is_request else b"HTTP/1.1 200 OK\r\n") + data[end + 1 :])
    except HttpParserUpgrade:
        pass
    fields = reader.fields
    if len(fields) != count:
        raise FieldsError("lines and fields do not match")
    names = [lower for lower, _, _ in fields]
    if any(names.count(name) > 1 for name in (_ONCE_IN_REQUESTS if is_request else _ONCE)):
        raise FieldsError("repeated")
    by_name = {lower: value for lower, _, value in reversed(fields)}
    length, chunked = read_framing(by_name, version_11)
    tokens = {token.strip(b" \t").lower() for token in all_values(fields, b"connection").split(b",")} - {b""}
    return {
        "fields": fields,
        "by_name": by_name,
        "length": length,
        "chunked": chunked,
        "keep_alive": b"close" not in tokens and (version_11 or b"keep-alive" in tokens),
        "connection": tokens,
        "upgrade": _upgrade(fields) if version_11 and b"upgrade" in tokens else None,
    }


def _upgrade(fields: list[tuple[bytes, bytes, bytes]]) -> bytes | None:
    offered = [protocol.strip(b" \t") for protocol in all_values(fields, b"upgrade").split(b",")]
    protocols = [protocol for protocol in offered if protocol and protocol.lower() != b"h2c"]
    if not all(map(_PROTOCOL.fullmatch, protocols)):
        raise FieldsError("bad Upgrade")
    return b", ".join(protocols) or None
