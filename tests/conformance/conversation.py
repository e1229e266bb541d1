"""One connection to a server of HTTP/2, in which a case sends frames by hand and says what has to come back."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from tests.peers import http2_frames as wire
from tests.peers.http2_frames import Frame

NO_ERROR, PROTOCOL, INTERNAL, FLOW_CONTROL, _, CLOSED, FRAME_SIZE, REFUSED, CANCEL, COMPRESSION = range(10)


class Wire(Protocol):
    """A connection, seen by a client."""

    def send(self, data: bytes) -> None:
        """Send bytes; nothing happens when it is closed."""

    def read(self) -> bytes | None:
        """What has come, or b"" once the server closed; None when nothing comes."""


class Unexpected(Exception):
    """The server did something else than was asked for."""


class Conversation:
    """See the module.

    Args:
        connection: fresh.
        authority: of an endpoint that answers `GET /` and `POST /` with 200 and a body of at least five bytes.
        scheme: `http` or `https`.
    """

    def __init__(self, connection: Wire, authority: bytes, scheme: bytes) -> None:
        self._connection = connection
        self._authority = authority
        self._scheme = scheme
        self._rest = b""
        self._frames: list[Frame] = []  # that came, and were not asked for yet
        self._seen: list[Frame] = []
        self.streams = 0  # that the server allows at once

    # What is sent

    def send(self, *frames: bytes) -> None:
        """Send frames in one piece."""
        self._connection.send(b"".join(frames))

    def greet(self, *settings: tuple[int, int]) -> None:
        """The prefaces of both sides, settled."""
        self.send(wire.PREFACE, wire.settings(*settings))
        theirs = self.until(lambda one: one.kind == wire.SETTINGS and not one.flags, "SETTINGS")
        values = {
            theirs.payload[at : at + 2]: theirs.payload[at + 2 : at + 6] for at in range(0, len(theirs.payload), 6)
        }
        self.streams = int.from_bytes(values.get(b"\0\3", bytes(4)), "big")
        self.send(wire.settings(ack=True))
        self.acknowledged()

    def fields(self, *more: wire.Field, method: bytes = b"GET", without: bytes = b"") -> list[wire.Field]:
        """The fields of a request that is served."""
        some = [(b":method", method), (b":scheme", self._scheme), (b":path", b"/"), (b":authority", self._authority)]
        return [field for field in some if field[0] != without] + list(more)

    def get(self, stream: int = 1, *more: wire.Field) -> bytes:
        """HEADERS of a whole request."""
        return wire.headers(stream, self.fields(*more))

    def post(self, stream: int = 1, *more: wire.Field) -> bytes:
        """HEADERS of a request that goes on."""
        return wire.headers(stream, self.fields(*more, method=b"POST"), end=False)

    # What has to come

    def _read(self) -> bool:
        """Read more. Returns whether the connection is open."""
        data = self._connection.read()
        if data is None:
            raise Unexpected(f"nothing more came; before: {wire.described(self._seen) or 'nothing'}")
        if not data:
            return False
        new, self._rest = wire.read_frames(self._rest + data)
        self._frames += new
        self._seen += new
        return True

    def _next(self) -> Frame | None:
        """The next frame, or None when the connection is closed."""
        while not self._frames:
            if not self._read():
                return None
        return self._frames.pop(0)

    def until(self, wanted: Callable[[Frame], bool], name: str) -> Frame:
        """Wait for a frame, whatever comes before."""
        while (one := self._next()) is not None:
            if wanted(one):
                return one
        raise Unexpected(f"closed before {name}; what came: {wire.described(self._seen) or 'nothing'}")

    def acknowledged(self) -> None:
        """Our SETTINGS are."""
        self.until(lambda one: one.kind == wire.SETTINGS and bool(one.flags & wire.ACK), "the ACK of SETTINGS")

    def answered(self, stream: int = 1) -> None:
        """A response begins on a stream."""
        self.until(lambda one: one.kind == wire.HEADERS and one.stream == stream, f"HEADERS of stream {stream}")

    def body(self, stream: int = 1, length: int | None = None) -> None:
        """DATA comes on a stream; the next piece has a length."""
        one = self.until(lambda one: one.kind == wire.DATA and one.stream == stream, f"DATA of stream {stream}")
        if length is not None and len(one.payload) != length:
            raise Unexpected(f"{len(one.payload)} bytes of DATA instead of {length}")

    def over(self, stream: int = 1) -> None:
        """A response has come whole."""

        def ends(one: Frame) -> bool:
            return one.kind in (wire.DATA, wire.HEADERS) and bool(one.flags & wire.END_STREAM) and one.stream == stream

        self.until(ends, f"the end of stream {stream}")

    def lives(self, payload: bytes = b"conforms") -> None:
        """The connection goes on: a PING is answered."""
        self.send(wire.ping(payload))

        def pong(one: Frame) -> bool:
            if one.kind == wire.GOAWAY and one.code:
                raise Unexpected(f"GOAWAY with code {one.code}")
            return one.kind == wire.PING and bool(one.flags & wire.ACK) and one.payload == payload

        self.until(pong, "the answer to a PING")

    def connection_error(self, *codes: int) -> None:
        """The server ends the connection and says why."""
        one = self.until(lambda one: one.kind == wire.GOAWAY, "GOAWAY")
        _check(one, codes)
        self.closed()

    def stream_error(self, *codes: int) -> None:
        """The server ends the stream, or the connection (RFC 9113 5.4), and says why."""
        one = self.until(lambda one: one.kind in (wire.GOAWAY, wire.RST_STREAM), "RST_STREAM or GOAWAY")
        _check(one, codes)

    def stream_reset(self, *codes: int) -> None:
        """The server ends the stream and nothing else, and says why."""
        _check(self.until(lambda one: one.kind in (wire.GOAWAY, wire.RST_STREAM), "RST_STREAM"), codes, wire.RST_STREAM)

    def closed(self) -> None:
        """The connection is, whatever comes before."""
        while self._next() is not None:
            pass


def _check(one: Frame, codes: Iterable[int], kind: int | None = None) -> None:
    if one.code not in codes or kind not in (None, one.kind):
        raise Unexpected(f"{one.name} with code {one.code} instead of {tuple(codes)}")
