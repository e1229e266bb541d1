"""Responses of small devices, for listeners with `lenient: true`.

What is needed: lines that end in LF alone, empty lines before the status line, statuses from 600 to 999, and a
Content-Length that is repeated with the same value are served, as other proxies do. What can go wrong: that a reader
behind us sees another message. So a head is mended before it is read, and then held to every rule of other heads; what
goes on is written anew, like all heads. Nothing of this holds for requests: those come from strangers.
"""

from __future__ import annotations

import re
from typing import Final

from pico_twisted.core.http1.client import ClientConnection
from pico_twisted.core.http1.errors import bad_response
from pico_twisted.core.http1.head import HeadLimits
from pico_twisted.core.http1.server import MAX_EMPTY_LINES

_END: Final = re.compile(rb"\n\r?\n")
_EMPTY_LINE: Final = re.compile(rb"\r?\n")


def mend_head(data: bytes) -> bytes:
    """The head that a service meant: lines end in CRLF, and equal values of Content-Length stand once.

    Args:
        data: one head, whose lines end in LF or CRLF, its empty line included.
    """
    lines: list[bytes] = []
    length = b""
    for line in data.split(b"\n"):
        line = line.removesuffix(b"\r")
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            values = {part.strip(b" \t") for part in value.split(b",")}
            if len(values) == 1:
                line = b"Content-Length: " + values.pop()
            if line == length:
                continue
            length = line
        lines.append(line)
    return b"\r\n".join(lines)


class LenientConnection(ClientConnection):
    """Reads the responses of a service that is not held to every rule. Used like its base."""

    __slots__ = ("_empty_lines",)

    most_status = 999

    def __init__(self, limits: HeadLimits) -> None:
        super().__init__(limits)
        self._empty_lines = 0

    def expect(self, method: bytes, *, upgrade: bool = True) -> None:
        """See `ClientConnection.expect`."""
        super().expect(method, upgrade=upgrade)
        self._empty_lines = 0

    def _take_head(self) -> bytes | None:
        while match := _EMPTY_LINE.match(self._data, self._at):
            self._pass(match.end())
            self._empty_lines += 1
            if self._empty_lines > MAX_EMPTY_LINES:
                raise bad_response("too many empty lines before the status line")
        match = _END.search(self._data, self._scan, self._at + self._limits.head_bytes)
        if match is None:
            self._scan = max(self._at, len(self._data) - 3)
            return None
        return mend_head(self._take(match.end()))

    def _judge_partial_head(self, scan: int) -> None:
        if self._data[self._at :] != b"\r":
            super()._judge_partial_head(self._scan)
