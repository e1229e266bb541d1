"""Chunked bodies (RFC 9112 7.1), strictly.

Parsers that were looked at let megabytes of chunk extensions and thousands of trailers pass, and do not tell where a
message ended. Here what is not body is bounded. Each chunk's line may be
`MAX_CHUNK_LINE` bytes; beyond that a message has `SPARE_OVERHEAD` bytes for good, and each chunk adds to them what a
chunk of its size may reasonably cost, so that signed chunks pass at any length and a flood of extensions does not.
Blanks behind a size are read over, as devices pad it with them. Trailers are checked like the fields of a head and held
to a head's limits; `trailers` says what goes on of them.
"""

from __future__ import annotations

import enum
import re
from typing import Final

from pico_twisted.core.http1.errors import Http1Error, bad_request, bad_response
from pico_twisted.core.http1.fields import NO_TOKENS
from pico_twisted.core.http1.head import HeadLimits
from pico_twisted.core.http1.trailers import write_block

MAX_CHUNK_LINE: Final = 1024
"""Most bytes of a chunk's line: its size and extensions, without the CRLF. The longest in use (signatures) need about
100."""

SPARE_OVERHEAD: Final = 16 * 1024
"""Most bytes that the chunk lines of one body may cost beyond what their data pays for."""

_CHUNK_ALLOWANCE: Final = 48
"""Bytes of overhead that come free with each chunk, beside twice its size: the framing of even one-byte chunks, with an
extension of forty bytes."""

LAST_CHUNK: Final = b"0\r\n\r\n"
"""The end of a body without trailers."""

_CHUNK_LINE: Final = re.compile(rb"(0*[0-9A-Fa-f]{1,16})[ \t]*(?:;[\t -~]*)?")
_MAX_SIZE: Final = 2**63 - 1
_SIMPLE_LINE_BYTES: Final = 8
_HEX: Final = b"0123456789abcdefABCDEF"

_TRAILER: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t -~\x80-\xff]*")


def last_chunk(block: bytes) -> bytes:
    """The end of a body, with trailers.

    Args:
        block: as `trailers` writes it; empty for none.
    """
    return b"0\r\n%b\r\n" % block


def encode_chunk(data: bytes) -> bytes:
    """One chunk of a body; nothing for no data, as an empty chunk would end the body."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


class _State(enum.Enum):
    LINE = enum.auto()  # a chunk's line comes next
    DATA = enum.auto()  # in a chunk
    DATA_END = enum.auto()  # the CRLF behind a chunk
    TRAILERS = enum.auto()  # behind the last chunk
    DONE = enum.auto()


_LINE = _State.LINE
_DATA = _State.DATA
_DATA_END = _State.DATA_END
_TRAILERS = _State.TRAILERS
_DONE = _State.DONE


class ChunkedDecoder:
    """Takes the chunks of one body apart.

    Args:
        limits: of a head; its trailers are held to them.
        request: the body is a request's, so what is wrong with it is a 400; else it is a response's and a 502.
        connection: what the head's Connection names: no trailer of such a name goes on (RFC 9110 7.6.1).
    """

    __slots__ = (
        "_connection",
        "_left",
        "_limits",
        "_overhead",
        "_request",
        "_state",
        "_trailer_bytes",
        "_trailer_scan",
        "_trailers",
    )

    def __init__(self, limits: HeadLimits, *, request: bool, connection: frozenset[bytes] = NO_TOKENS) -> None:
        self._limits = limits
        self._request = request
        self._connection = connection
        self._state = _LINE
        self._left = 0
        self._overhead = 0
        self._trailers: list[tuple[bytes, bytes]] = []
        self._trailer_bytes = 0
        self._trailer_scan = 0

    @property
    def done(self) -> bool:
        """Whether the body has ended, trailers included."""
        return self._state is _DONE

    @property
    def trailers(self) -> bytes:
        """The block of the trailers that go on, once the body has ended; empty for none."""
        return write_block(self._trailers, self._connection) if self._trailers else b""

    def decode(self, data: bytes | bytearray, at: int) -> tuple[bytes, int]:
        """Decode what can be decoded of `data` from `at` on.

        Args:
            data: what has arrived and was not taken yet, with anything before `at`.
            at: where to begin.

        Returns:
            (the body bytes found, where to go on when more has arrived). What is behind the body's end is not touched.

        Raises:
            Http1Error: 400 or 502; the decoder is of no use after it.
        """
        end = len(data)
        pieces: list[bytes | bytearray] = []
        while at < end:
            state = self._state
            if state is _DATA:
                stop = at + self._left
                if stop > end:
                    pieces.append(data[at:end])
                    self._left = stop - end
                    at = end
                    break
                pieces.append(data[at:stop])
                at = stop
                self._state = _DATA_END
                continue
            if state is _LINE:
                after = self._take_line(data, at)
            elif state is _DATA_END:
                after = self._take_data_end(data, at)
            elif state is _TRAILERS:
                after = self._take_trailer(data, at)
            else:
                break
            if after < 0:
                break
            at = after
        if not pieces:
            return b"", at
        if len(pieces) == 1:
            return bytes(pieces[0]), at
        return b"".join(pieces), at

    def _take_line(self, data: bytes | bytearray, at: int) -> int:
        stop = data.find(b"\n", at, at + MAX_CHUNK_LINE + 2)
        if stop < 0:
            if len(data) - at >= MAX_CHUNK_LINE + 2:
                raise self._broken("chunk line is too long")
            return -1
        if stop == at or data[stop - 1] != 0x0D:
            raise self._broken("bad chunk line")
        self._read_line(data[at : stop - 1])
        return stop + 1

    def _take_data_end(self, data: bytes | bytearray, at: int) -> int:
        if data.startswith(b"\r\n", at):
            self._state = _LINE
            return at + 2
        if data[at] == 0x0D and len(data) == at + 1:
            return -1
        raise self._broken("chunk is longer than its size")

    def _take_trailer(self, data: bytes | bytearray, at: int) -> int:
        stop = data.find(b"\n", at + self._trailer_scan)
        size = (len(data) if stop < 0 else stop) - at
        if self._trailer_bytes + size - 1 > self._limits.head_bytes:
            raise self._broken("trailers are too large")
        if stop < 0:
            self._trailer_scan = size
            return -1
        self._trailer_scan = 0
        if stop == at or data[stop - 1] != 0x0D:
            raise self._broken("bad trailer")
        if size == 1:
            self._state = _DONE
        else:
            self._read_trailer(data[at : stop - 1])
        return stop + 1

    def _read_line(self, line: bytes | bytearray) -> None:
        if len(line) <= _SIMPLE_LINE_BYTES and not line.translate(None, _HEX) and line:
            size = int(line, 16)
        else:
            match = _CHUNK_LINE.fullmatch(line)
            if match is None:
                raise self._broken("bad chunk line")
            size = int(match.group(1), 16)
            if size > _MAX_SIZE:
                raise self._broken("chunk is too large")
        overhead = self._overhead + len(line) + 4 - _CHUNK_ALLOWANCE - 2 * size
        if overhead > SPARE_OVERHEAD:
            raise self._broken("too much chunk overhead")
        self._overhead = max(0, overhead)
        self._left = size
        self._state = _DATA if size else _TRAILERS

    def _read_trailer(self, line: bytes | bytearray) -> None:
        if len(self._trailers) >= self._limits.fields:
            raise self._broken("too many trailers")
        self._trailer_bytes += len(line) + 2
        if not _TRAILER.fullmatch(line):
            raise self._broken("bad trailer")
        name, _, value = bytes(line).partition(b":")
        self._trailers.append((name, value))

    def _broken(self, message: str) -> Http1Error:
        return bad_request(message) if self._request else bad_response(message)
