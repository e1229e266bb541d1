"""Each kind of frame, and what it must not be (RFC 9113 6 and 7)."""

from __future__ import annotations

from tests.conformance.case import Cases
from tests.conformance.conversation import CLOSED, FLOW_CONTROL, FRAME_SIZE, PROTOCOL, Conversation
from tests.peers import http2_frames as wire

DEFINITIONS = Cases("http2")
_MOST = 2**31 - 1


@DEFINITIONS.case("6.1/1", "DATA on stream 0")
def _(peer: Conversation) -> None:
    peer.send(wire.data(0, b"test", end=True))
    peer.connection_error(PROTOCOL)


@DEFINITIONS.case("6.1/2", "DATA on a stream that the client has ended")
def _(peer: Conversation) -> None:
    peer.send(wire.headers(1, peer.fields(method=b"POST")), wire.data(1, b"test", end=True))
    peer.stream_error(CLOSED)


@DEFINITIONS.case("6.1/3", "DATA with more padding than payload")
def _(peer: Conversation) -> None:
    peer.send(peer.post(1, (b"content-length", b"4")))
    peer.send(wire.frame(wire.DATA, wire.PADDED | wire.END_STREAM, 1, b"\6test"))
    peer.connection_error(PROTOCOL)


@DEFINITIONS.case("6.2/1", "HEADERS that are not over, and PRIORITY")
def _(peer: Conversation) -> None:
    peer.send(wire.headers(1, peer.fields(), flags=0), wire.priority(1, 0, 255))
    peer.connection_error(PROTOCOL)


@DEFINITIONS.case("6.2/2", "HEADERS that are not over, and HEADERS of another stream")
def _(peer: Conversation) -> None:
    peer.send(wire.headers(1, peer.fields(), flags=0), peer.get(3))
    peer.connection_error(PROTOCOL)


@DEFINITIONS.case("6.2/3", "HEADERS on stream 0")
def _(peer: Conversation) -> None:
    peer.send(peer.get(0))
    peer.connection_error(PROTOCOL)


@DEFINITIONS.case("6.2/4", "HEADERS with more padding than payload")
def _(peer: Conversation) -> None:
    block = wire.block(peer.fields())
    peer.send(wire.headers(1, bytes((len(block) + 1,)) + block, flags=wire.END_HEADERS | wire.PADDED))
    peer.stream_error(PROTOCOL)


@DEFINITIONS.case("6.3/1", "PRIORITY on stream 0")
def _(peer: Conversation) -> None:
    peer.send(wire.priority(0, 0, 255))
    peer.connection_error(PROTOCOL)


@DEFINITIONS.case("6.3/2", "PRIORITY of another length than 5")
def _(peer: Conversation) -> None:
    peer.send(peer.post(), wire.frame(wire.PRIORITY, 0, 1, bytes(4)))
    peer.stream_error(FRAME_SIZE)


@DEFINITIONS.case("6.4/1", "RST_STREAM on stream 0")
def _(peer: Conversation) -> None:
    peer.send(wire.rst(0))
    peer.connection_error(PROTOCOL)


@DEFINITIONS.case("6.4/2", "RST_STREAM on an idle stream")
def _(peer: Conversation) -> None:
    peer.send(wire.rst(1))
    peer.connection_error(PROTOCOL)


@DEFINITIONS.case("6.4/3", "RST_STREAM of another length than 4")
def _(peer: Conversation) -> None:
    peer.send(peer.post(), wire.frame(wire.RST_STREAM, 0, 1, bytes(3)))
    peer.connection_error(FRAME_SIZE)


@DEFINITIONS.case("6.5/1", "an ACK of SETTINGS with a payload")
def _(peer: Conversation) -> None:
    peer.send(wire.frame(wire.SETTINGS, wire.ACK, 0, bytes(1)))
    peer.connection_error(FRAME_SIZE)


@DEFINITIONS.case("6.5/2", "SETTINGS on a stream")
def _(peer: Conversation) -> None:
    peer.send(wire.frame(wire.SETTINGS, 0, 1, b"\0\3\0\0\0\x64"))
    peer.connection_error(PROTOCOL)


@DEFINITIONS.case("6.5/3", "SETTINGS whose length is no multiple of 6")
def _(peer: Conversation) -> None:
    peer.send(wire.frame(wire.SETTINGS, 0, 0, bytes(3)))
    peer.connection_error(FRAME_SIZE)


for _number, _says, _setting, _code in (
    (1, "ENABLE_PUSH of 2", (wire.ENABLE_PUSH, 2), PROTOCOL),
    (2, "INITIAL_WINDOW_SIZE of 2^31", (wire.INITIAL_WINDOW, 2**31), FLOW_CONTROL),
    (3, "MAX_FRAME_SIZE of 2^14 - 1", (wire.MAX_FRAME, 2**14 - 1), PROTOCOL),
    (4, "MAX_FRAME_SIZE of 2^24", (wire.MAX_FRAME, 2**24), PROTOCOL),
):

    @DEFINITIONS.case(f"6.5.2/{_number}", _says)
    def _(peer: Conversation, setting: tuple[int, int] = _setting, code: int = _code) -> None:
        peer.send(wire.settings(setting))
        peer.connection_error(code)


@DEFINITIONS.case("6.5.2/5", "a setting that nobody knows")
def _(peer: Conversation) -> None:
    peer.send(wire.settings((0xFF, 1)))
    peer.acknowledged()
    peer.lives()


@DEFINITIONS.case("6.5.3/1", "INITIAL_WINDOW_SIZE twice: the second counts")
def _(peer: Conversation) -> None:
    peer.send(wire.settings((wire.INITIAL_WINDOW, 100), (wire.INITIAL_WINDOW, 1)), peer.get())
    peer.body(length=1)


@DEFINITIONS.case("6.5.3/2", "SETTINGS are acknowledged")
def _(peer: Conversation) -> None:
    peer.send(wire.settings((wire.ENABLE_PUSH, 0)))
    peer.acknowledged()


@DEFINITIONS.case("6.7/1", "PING is answered with its payload")
def _(peer: Conversation) -> None:
    peer.lives(b"h\0\xff\1\2\3\4\5")


@DEFINITIONS.case("6.7/2", "an ACK of PING is not answered")
def _(peer: Conversation) -> None:
    peer.send(wire.ping(b"not mine", ack=True), wire.ping(b"is asked"))
    first = peer.until(lambda one: one.kind == wire.PING, "PING")
    assert first.payload == b"is asked", first


@DEFINITIONS.case("6.7/3", "PING on a stream")
def _(peer: Conversation) -> None:
    peer.send(wire.frame(wire.PING, 0, 1, bytes(8)))
    peer.connection_error(PROTOCOL)


@DEFINITIONS.case("6.7/4", "PING of another length than 8")
def _(peer: Conversation) -> None:
    peer.send(wire.frame(wire.PING, 0, 0, bytes(6)))
    peer.connection_error(FRAME_SIZE)


@DEFINITIONS.case("6.8/1", "GOAWAY on a stream")
def _(peer: Conversation) -> None:
    peer.send(wire.frame(wire.GOAWAY, 0, 1, bytes(8)))
    peer.connection_error(PROTOCOL)


@DEFINITIONS.case("6.9/1", "WINDOW_UPDATE of 0")
def _(peer: Conversation) -> None:
    peer.send(wire.window(0, 0))
    peer.connection_error(PROTOCOL)


@DEFINITIONS.case("6.9/2", "WINDOW_UPDATE of 0 on a stream")
def _(peer: Conversation) -> None:
    peer.send(peer.post(), wire.window(1, 0))
    peer.stream_error(PROTOCOL)


@DEFINITIONS.case("6.9/3", "WINDOW_UPDATE of another length than 4")
def _(peer: Conversation) -> None:
    peer.send(wire.frame(wire.WINDOW_UPDATE, 0, 0, bytes(3)))
    peer.connection_error(FRAME_SIZE)


@DEFINITIONS.case("6.9.1/1", "a window of 1")
def _(peer: Conversation) -> None:
    peer.send(wire.settings((wire.INITIAL_WINDOW, 1)))
    peer.acknowledged()
    peer.send(peer.get())
    peer.body(length=1)


@DEFINITIONS.case("6.9.1/2", "a window of the connection above 2^31-1")
def _(peer: Conversation) -> None:
    peer.send(wire.window(0, _MOST), wire.window(0, _MOST))
    peer.connection_error(FLOW_CONTROL)


@DEFINITIONS.case("6.9.1/3", "a window of a stream above 2^31-1")
def _(peer: Conversation) -> None:
    peer.send(peer.post(), wire.window(1, _MOST), wire.window(1, _MOST))
    peer.stream_reset(FLOW_CONTROL)


@DEFINITIONS.case("6.9.2/1", "INITIAL_WINDOW_SIZE changes for streams that are open")
def _(peer: Conversation) -> None:
    peer.send(wire.settings((wire.INITIAL_WINDOW, 0)))
    peer.acknowledged()
    peer.send(peer.get())
    peer.answered()
    peer.send(wire.settings((wire.INITIAL_WINDOW, 1)))
    peer.body(length=1)


@DEFINITIONS.case("6.9.2/2", "a window that is negative")
def _(peer: Conversation) -> None:
    peer.send(wire.settings((wire.INITIAL_WINDOW, 3)))
    peer.acknowledged()
    peer.send(peer.get())
    peer.body(length=3)
    peer.send(wire.settings((wire.INITIAL_WINDOW, 2)))
    peer.acknowledged()
    peer.send(wire.window(1, 2))
    peer.body(length=1)


@DEFINITIONS.case("6.9.2/3", "INITIAL_WINDOW_SIZE above 2^31-1")
def _(peer: Conversation) -> None:
    peer.send(wire.settings((wire.INITIAL_WINDOW, 2**32 - 1)))
    peer.connection_error(FLOW_CONTROL)


_PART = wire.literal(b"x-more", b"yes")


@DEFINITIONS.case("6.10/1", "CONTINUATION, several")
def _(peer: Conversation) -> None:
    peer.send(wire.headers(1, peer.fields(), flags=0))
    peer.send(wire.continuation(1, _PART, end=False), wire.continuation(1, _PART))
    peer.answered()


@DEFINITIONS.case("6.10/2", "CONTINUATION that is not over, and DATA")
def _(peer: Conversation) -> None:
    peer.send(wire.headers(1, peer.fields(), flags=0, end=False), wire.continuation(1, _PART, end=False))
    peer.send(wire.data(1, b"test", end=True))
    peer.connection_error(PROTOCOL)


@DEFINITIONS.case("6.10/3", "CONTINUATION on stream 0")
def _(peer: Conversation) -> None:
    peer.send(wire.headers(1, peer.fields(), flags=0), wire.continuation(0, _PART))
    peer.connection_error(PROTOCOL)


@DEFINITIONS.case("6.10/4", "CONTINUATION behind HEADERS that are over")
def _(peer: Conversation) -> None:
    peer.send(peer.get(), wire.continuation(1, _PART))
    peer.connection_error(PROTOCOL)


@DEFINITIONS.case("6.10/5", "CONTINUATION behind CONTINUATION that is over")
def _(peer: Conversation) -> None:
    peer.send(wire.headers(1, peer.fields(), flags=0), wire.continuation(1, _PART), wire.continuation(1, _PART))
    peer.connection_error(PROTOCOL)


@DEFINITIONS.case("6.10/6", "CONTINUATION behind DATA")
def _(peer: Conversation) -> None:
    peer.send(peer.post(), wire.data(1, b"test", end=True), wire.continuation(1, _PART))
    peer.connection_error(PROTOCOL)


@DEFINITIONS.case("7/1", "GOAWAY with a code that nobody knows")
def _(peer: Conversation) -> None:
    peer.send(wire.goaway(0, 0xFF), wire.ping())
    peer.closed()


@DEFINITIONS.case("7/2", "RST_STREAM with a code that nobody knows")
def _(peer: Conversation) -> None:
    peer.send(peer.post(), wire.rst(1, 0xFF))
    peer.lives()
