"""HTTP/1.1 over a Pipe, read strictly: what is not well formed is a finding, never repaired.

Used on both sides of the product: as the proxy client, and by the recording service to read what reached it.
"""

from __future__ import annotations

import re
import ssl
import time
from dataclasses import dataclass, field

from tests.peers.pipe import PATIENCE_S, Ended, Pipe, dial

_MAX_HEAD_BYTES = 128 * 1024
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*\Z")
_TARGET = re.compile(rb"[\x21\x22\x24-\x7e]+\Z")
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9][0-9]) ([\t\x20-\x7e\x80-\xff]*)\Z")
_REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([^ ]+) HTTP/1\.([01])\Z")

Fields = list[tuple[bytes, bytes]]


class Malformed(Exception):
    """The other side sent something that is not well-formed HTTP/1.1."""


class Broken(Exception):
    """The other side ended the connection in the middle of a message."""


@dataclass
class Message:
    """What requests and responses have in common."""

    fields: Fields
    minor: int
    body: bytes = b""
    trailers: Fields = field(default_factory=list, kw_only=True)

    def all(self, name: str) -> list[bytes]:
        """Every value of a header."""
        wanted = name.lower().encode()
        return [value for key, value in self.fields if key.lower() == wanted]

    def get(self, name: str) -> bytes | None:
        """The value of a header. A header that comes twice is a finding."""
        values = self.all(name)
        if len(values) > 1:
            raise Malformed(f"{name} comes {len(values)} times")
        return values[0] if values else None

    @property
    def names(self) -> set[bytes]:
        """The lower-case names of all headers."""
        return {key.lower() for key, _ in self.fields}

    @property
    def length(self) -> int | None:
        """Content-Length."""
        value = self.get("content-length")
        if value is None:
            return None
        if not re.fullmatch(rb"[0-9]{1,18}", value):
            raise Malformed(f"Content-Length {value!r}")
        return int(value)

    @property
    def chunked(self) -> bool:
        """Is the body chunked?"""
        value = self.get("transfer-encoding")
        if value is None:
            return False
        if value.lower() != b"chunked":
            raise Malformed(f"Transfer-Encoding {value!r}")
        if self.length is not None:
            raise Malformed("Content-Length beside Transfer-Encoding")
        return True


@dataclass
class Request(Message):
    """A request."""

    method: bytes = b""
    target: bytes = b""
    raw_head: bytes = b""


@dataclass
class Response(Message):
    """A response, with the 1xx heads that came before it."""

    status: int = 0
    reason: bytes = b""
    interim: list[Response] = field(default_factory=list)


def _fields(lines: list[bytes]) -> Fields:
    fields = []
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not _NAME.match(name) or not _VALUE.match(value):
            raise Malformed(f"header line {line!r}")
        fields.append((name, value.strip(b" \t")))
    return fields


def parse_head(head: bytes) -> tuple[bytes, Fields]:
    """Start line and headers of a head that ends in an empty line."""
    assert head.endswith(b"\r\n\r\n")
    lines = head[:-4].split(b"\r\n")
    for line in lines:
        if b"\r" in line or b"\n" in line or b"\x00" in line:
            raise Malformed(f"bare CR, LF or NUL in {line!r}")
    return lines[0], _fields(lines[1:])


def parse_request(head: bytes) -> Request:
    """A request from its head. Host is wanted exactly once, for HTTP/1.1."""
    line, fields = parse_head(head)
    match = _REQUEST_LINE.match(line)
    if match is None or not _TARGET.match(match[2]):
        raise Malformed(f"request line {line!r}")
    request = Request(fields, int(match[3]), b"", match[1], match[2], head)
    if request.get("host") is None and request.minor == 1:
        raise Malformed("no Host")
    return request


def parse_response(head: bytes) -> Response:
    """A response from its head."""
    line, fields = parse_head(head)
    match = _STATUS_LINE.match(line)
    if match is None:
        raise Malformed(f"status line {line!r}")
    return Response(fields, int(match[1]), b"", int(match[2]), match[3])


class Stream:
    """Messages one after the other over one connection.

    `received` holds every byte that ever came.
    """

    def __init__(self, pipe: Pipe) -> None:
        self.pipe = pipe
        self.received = bytearray()
        self._buffer = bytearray()
        self._left: int | None = 0  # of the current body; None: until the end of the connection
        self._chunked = False
        self.trailers: Fields = []

    # -- bytes

    def send(self, data: bytes, timeout: float = PATIENCE_S) -> None:
        """Send bytes as they are."""
        self.pipe.send(data, timeout)

    def _more(self, deadline: float) -> None:
        data = self.pipe.recv(deadline - time.monotonic())
        self.received += data
        self._buffer += data

    def _line(self, deadline: float) -> bytes:
        while (end := self._buffer.find(b"\r\n")) < 0:
            if len(self._buffer) > _MAX_HEAD_BYTES:
                raise Malformed("a line without end")
            self._more(deadline)
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        return line

    def read(self, size: int, timeout: float = PATIENCE_S) -> bytes:
        """Exactly so many raw bytes, for what follows an upgrade."""
        deadline = time.monotonic() + timeout
        while len(self._buffer) < size:
            self._more(deadline)
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data

    def read_rest(self, timeout: float = PATIENCE_S) -> bytes:
        """All raw bytes until the end of the connection."""
        deadline = time.monotonic() + timeout
        try:
            while True:
                self._more(deadline)
        except Ended:
            data = bytes(self._buffer)
            self._buffer.clear()
            return data

    def ended(self, timeout: float = PATIENCE_S) -> bool:
        """Wait for the end of the connection; False when bytes come instead."""
        if self._buffer:
            return False
        try:
            self._more(time.monotonic() + timeout)
        except Ended:
            return True
        return False

    def wait_gone(self, timeout: float = PATIENCE_S) -> None:
        """Wait for the end of the connection, whatever still comes before it."""
        deadline = time.monotonic() + timeout
        try:
            while True:
                self._more(deadline)
        except Ended:
            return

    # -- messages

    def read_head(self, timeout: float = PATIENCE_S) -> bytes:
        """The next head, up to its empty line. Raises Ended when the connection ends cleanly before it."""
        deadline = time.monotonic() + timeout
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            if len(self._buffer) > _MAX_HEAD_BYTES:
                raise Malformed("a head without end")
            try:
                self._more(deadline)
            except Ended as ended:
                if self._buffer:
                    raise Broken(f"in the head, after {bytes(self._buffer[:200])!r}") from ended
                raise
        head = bytes(self._buffer[: end + 4])
        del self._buffer[: end + 4]
        return head

    def request_head(self, timeout: float = PATIENCE_S) -> Request:
        """The next request's head; its body is then to be read."""
        request = parse_request(self.read_head(timeout))
        self.trailers = []
        self._chunked = request.chunked
        self._left = None if self._chunked else request.length or 0
        return request

    def response_head(self, method: str = "GET", timeout: float = PATIENCE_S) -> Response:
        """The next response's head, 1xx ones included; its body is then to be read."""
        response = parse_response(self.read_head(timeout))
        self.trailers = []
        self._chunked = False
        if response.status < 200 or response.status in (204, 304) or method == "HEAD":
            self._left = 0
            if response.status == 204 and (response.chunked or response.length is not None):
                raise Malformed("204 with a body's framing")
        elif response.chunked:
            self._chunked, self._left = True, None
        else:
            self._left = response.length
        return response

    def body_piece(self, timeout: float = PATIENCE_S) -> bytes:
        """Some bytes of the current body as they come, b"" at its end. Raises Broken when it is cut short."""
        deadline = time.monotonic() + timeout
        try:
            if self._chunked and self._left is None:
                line = self._line(deadline)
                if not re.fullmatch(rb"[0-9A-Fa-f]{1,16}", line):
                    raise Malformed(f"chunk size {line!r}")
                self._left = int(line, 16)
                if self._left == 0:
                    self.trailers = []
                    while line := self._line(deadline):
                        self.trailers += _fields([line])
                    self._chunked = False
            if self._left == 0:
                return b""
            if not self._buffer:
                self._more(deadline)
        except Ended as ended:
            if self._left is None and not self._chunked and not ended.broken:
                self._left = 0
                return b""
            raise Broken(f"in the body: {ended}") from ended
        size = len(self._buffer) if self._left is None else min(self._left, len(self._buffer))
        piece = bytes(self._buffer[:size])
        del self._buffer[:size]
        if self._left is not None:
            self._left -= size
            if self._chunked and self._left == 0:
                try:
                    if self._line(deadline):
                        raise Malformed("a chunk longer than its size")
                except Ended as ended:
                    raise Broken(f"behind a chunk: {ended}") from ended
                self._left = None
        return piece

    def body_bytes(self, size: int, timeout: float = PATIENCE_S) -> bytes:
        """The next so many bytes of the body, in however many pieces."""
        data = bytearray()
        while len(data) < size:
            piece = self.body_piece(timeout)
            if not piece:
                raise Broken(f"the body ended after {len(data)} of {size} bytes")
            data += piece
        if len(data) > size:
            raise Malformed(f"{len(data)} bytes where {size} were sent")
        return bytes(data)

    def body(self, timeout: float = PATIENCE_S) -> bytes:
        """The whole body."""
        deadline = time.monotonic() + timeout
        pieces = []
        while piece := self.body_piece(deadline - time.monotonic()):
            pieces.append(piece)
        return b"".join(pieces)

    def read_request(self, timeout: float = PATIENCE_S) -> Request:
        """The next request, whole."""
        request = self.request_head(timeout)
        request.body = self.body(timeout)
        request.trailers = self.trailers
        return request

    def read_response(self, method: str = "GET", timeout: float = PATIENCE_S) -> Response:
        """The next final response, whole, with the 1xx heads before it."""
        interim = []
        while True:
            response = self.response_head(method, timeout)
            if response.status >= 200 or response.status == 101:
                break
            interim.append(response)
        response.interim = interim
        response.body = self.body(timeout) if response.status != 101 else b""
        response.trailers = self.trailers
        return response

    def close(self) -> None:
        """End the connection."""
        self.pipe.close()


def connect(
    address: tuple[str, int],
    *,
    tls: ssl.SSLContext | None = None,
    name: str = "localhost",
    receive_buffer: int | None = None,
) -> Stream:
    """A stream to an address."""
    return Stream(dial(address, tls=tls, name=name, receive_buffer=receive_buffer))


def parse_requests(data: bytes) -> list[Request]:
    """All requests in a recording. Raises Malformed or Broken unless it is whole, well-formed requests and no more."""
    requests = []
    rest = data
    while rest:
        end = rest.find(b"\r\n\r\n")
        if end < 0:
            raise Broken(f"half a head: {rest[:200]!r}")
        request = parse_request(rest[: end + 4])
        rest = rest[end + 4 :]
        if request.chunked:
            pieces = []
            while True:
                line, crlf, rest = rest.partition(b"\r\n")
                if not crlf:
                    raise Broken("half a chunk size")
                if not re.fullmatch(rb"[0-9A-Fa-f]{1,16}", line):
                    raise Malformed(f"chunk size {line!r}")
                size = int(line, 16)
                if size == 0:
                    break
                if len(rest) < size + 2:
                    raise Broken("half a chunk")
                if rest[size : size + 2] != b"\r\n":
                    raise Malformed("a chunk longer than its size")
                pieces.append(rest[:size])
                rest = rest[size + 2 :]
            trailers, empty_line, rest = (b"\r\n" + rest).partition(b"\r\n\r\n")
            if not empty_line:
                raise Broken("half a last chunk")
            request.trailers = _fields([line for line in trailers.split(b"\r\n") if line])
            request.body = b"".join(pieces)
        else:
            size = request.length or 0
            if len(rest) < size:
                raise Broken("half a body")
            request.body, rest = rest[:size], rest[size:]
        requests.append(request)
    return requests
