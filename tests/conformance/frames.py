"""Prefaces, frames as such, states of streams and errors (RFC 9113 3 to 5)."""

from __future__ import annotations

from tests.conformance.case import Cases
from tests.conformance.conversation import (
    CLOSED,
    COMPRESSION,
    FRAME_SIZE,
    PROTOCOL,
    REFUSED,
    Conversation,
)
from tests.peers import http2_frames as wire

FRAMES = Cases("http2")
_UNKNOWN = wire.frame(0x16, 0, 0, bytes(8))


@FRAMES.case("3.5/1", "a preface of the client: SETTINGS are the first frame of the server", greets=False)
def _(peer: Conversation) -> None:
    peer.send(wire.PREFACE, wire.settings((wire.INITIAL_WINDOW, 65_535)))
    first = peer.until(lambda one: True, "any frame")
    assert first.kind == wire.SETTINGS and not first.flags, first


@FRAMES.case("3.5/2", "a preface that is none", greets=False)
def _(peer: Conversation) -> None:
    peer.send(b"PRI * HTTP/2.0\r\n\r\nSN\r\n\r\n")
    peer.closed()


@FRAMES.case("4.1/1", "a frame of an unknown kind")
def _(peer: Conversation) -> None:
    peer.send(_UNKNOWN)
    peer.lives()


@FRAMES.case("4.1/2", "a frame with flags that it does not have")
def _(peer: Conversation) -> None:
    peer.send(wire.frame(wire.PING, 0x16, 0, bytes(8)))
    peer.until(lambda one: one.kind == wire.PING, "PING")


@FRAMES.case("4.1/3", "a frame with the reserved bit")
def _(peer: Conversation) -> None:
    peer.send(wire.frame(wire.PING, 0x16, 1 << 31, bytes(8)))
    peer.until(lambda one: one.kind == wire.PING, "PING")


@FRAMES.case("4.2/1", "DATA of 2^14 bytes")
def _(peer: Conversation) -> None:
    peer.send(peer.post(), wire.data(1, bytes(1 << 14), end=True))
    peer.answered()


@FRAMES.case("4.2/2", "DATA of more than 2^14 bytes")
def _(peer: Conversation) -> None:
    peer.send(peer.post(), wire.data(1, bytes((1 << 14) + 1), end=True))
    peer.stream_error(FRAME_SIZE)


@FRAMES.case("4.2/3", "HEADERS of more than 2^14 bytes")
def _(peer: Conversation) -> None:
    peer.send(peer.get(1, *[(b"x-%d" % number, bytes(b"v" * 5000)) for number in range(4)]))
    peer.connection_error(FRAME_SIZE)


@FRAMES.case("4.3/1", "a field section that is none")
def _(peer: Conversation) -> None:
    peer.send(wire.headers(1, b"\x40"))
    peer.connection_error(COMPRESSION)


@FRAMES.case("4.3/2", "PRIORITY within a field section")
def _(peer: Conversation) -> None:
    peer.send(wire.headers(1, peer.fields(), flags=0), wire.priority(1, 0, 255), wire.continuation(1, b""))
    peer.connection_error(PROTOCOL)


@FRAMES.case("4.3/3", "HEADERS of another stream within a field section")
def _(peer: Conversation) -> None:
    peer.send(wire.headers(1, peer.fields(), flags=0), peer.get(3), wire.continuation(1, b""))
    peer.connection_error(PROTOCOL)


for _number, _says, _frame in (
    (1, "DATA", wire.data(1, b"test", end=True)),
    (2, "RST_STREAM", wire.rst(1)),
    (3, "WINDOW_UPDATE", wire.window(1, 100)),
    (4, "CONTINUATION", wire.continuation(1, wire.block(wire.request()))),
):

    @FRAMES.case(f"5.1/{_number}", f"{_says} on an idle stream")
    def _(peer: Conversation, frame: bytes = _frame) -> None:
        peer.send(frame)
        peer.connection_error(PROTOCOL)


_AFTER = (
    ("DATA", wire.data(1, b"test", end=True), (CLOSED,)),
    ("HEADERS", None, (CLOSED,)),
    ("CONTINUATION", wire.continuation(1, wire.block(wire.request())), (CLOSED, PROTOCOL)),
)

for _number, (_says, _late, _codes) in enumerate(_AFTER):

    @FRAMES.case(f"5.1/{5 + _number}", f"{_says} on a stream that is half closed")
    def _(peer: Conversation, late: bytes | None = _late, codes: tuple[int, ...] = _codes) -> None:
        peer.send(peer.get(), late or peer.get())
        peer.stream_error(*codes)

    @FRAMES.case(f"5.1/{8 + _number}", f"{_says} behind RST_STREAM")
    def _(peer: Conversation, late: bytes | None = _late, codes: tuple[int, ...] = _codes) -> None:
        peer.send(peer.post(), wire.rst(1), late or peer.get())
        peer.stream_error(*codes)

    @FRAMES.case(f"5.1/{11 + _number}", f"{_says} on a stream that is over")
    def _(peer: Conversation, late: bytes | None = _late, codes: tuple[int, ...] = _codes) -> None:
        peer.send(peer.get())
        peer.over()
        peer.send(late or peer.get())
        peer.connection_error(*codes)


@FRAMES.case("5.1.1/1", "a stream with an even number")
def _(peer: Conversation) -> None:
    peer.send(peer.get(2))
    peer.connection_error(PROTOCOL)


@FRAMES.case("5.1.1/2", "a stream with a lower number than the one before")
def _(peer: Conversation) -> None:
    peer.send(peer.get(5), peer.get(3))
    peer.connection_error(PROTOCOL)


@FRAMES.case("5.1.2/1", "more streams than the server takes")
def _(peer: Conversation) -> None:
    assert peer.streams, "no limit"
    peer.send(wire.settings((wire.INITIAL_WINDOW, 0)))
    peer.send(*[peer.post(2 * number + 1) for number in range(peer.streams + 1)])
    peer.stream_error(PROTOCOL, REFUSED)


@FRAMES.case("5.3.1/1", "HEADERS of a stream that hangs on itself")
def _(peer: Conversation) -> None:
    block = b"\0\0\0\1\xff" + wire.block(peer.fields())
    peer.send(wire.headers(1, block, flags=wire.END_HEADERS | wire.HAS_PRIORITY))
    peer.stream_error(PROTOCOL)


@FRAMES.case("5.3.1/2", "PRIORITY of a stream that hangs on itself")
def _(peer: Conversation) -> None:
    peer.send(wire.priority(2, 2))
    peer.stream_error(PROTOCOL)


@FRAMES.case("5.4.1/1", "a fault of the connection: it is closed")
def _(peer: Conversation) -> None:
    peer.send(wire.frame(wire.PING, 0, 3, bytes(8)))
    peer.closed()


@FRAMES.case("5.4.1/2", "a fault of the connection: GOAWAY says which")
def _(peer: Conversation) -> None:
    peer.send(wire.frame(wire.PING, 0, 3, bytes(8)))
    peer.connection_error(PROTOCOL)


@FRAMES.case("5.5/1", "a frame of an extension")
def _(peer: Conversation) -> None:
    peer.send(_UNKNOWN)
    peer.lives()


@FRAMES.case("5.5/2", "a frame of an extension within a field section")
def _(peer: Conversation) -> None:
    peer.send(wire.headers(1, peer.fields(), flags=0), _UNKNOWN)
    peer.connection_error(PROTOCOL)
