"""What any server takes: each kind of frame, each kind of request, and each way to write a field (RFC 7541)."""

from __future__ import annotations

from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH

from tests.conformance.case import Cases
from tests.conformance.conversation import COMPRESSION, Conversation
from tests.peers import http2_frames as wire

GENERIC = Cases("generic")
HPACK = Cases("hpack")


@GENERIC.case("1/1", "a preface of the client", greets=False)
def _(peer: Conversation) -> None:
    peer.send(wire.PREFACE, wire.settings((wire.INITIAL_WINDOW, 65_535)))
    peer.until(lambda one: one.kind == wire.SETTINGS, "SETTINGS")


@GENERIC.case("2/1", "PRIORITY on an idle stream")
def _(peer: Conversation) -> None:
    peer.send(wire.priority(1, 0, 255))
    peer.lives()


@GENERIC.case("2/2", "WINDOW_UPDATE on a stream that is half closed")
def _(peer: Conversation) -> None:
    peer.send(wire.settings((wire.INITIAL_WINDOW, 0)), peer.get(), wire.window(1, 1))
    peer.body(length=1)


@GENERIC.case("2/3", "PRIORITY on a stream that is half closed")
def _(peer: Conversation) -> None:
    peer.send(wire.settings((wire.INITIAL_WINDOW, 0)), peer.get(), wire.priority(1, 0, 255), wire.window(1, 1))
    peer.body(length=1)


@GENERIC.case("2/4", "RST_STREAM on a stream that is half closed")
def _(peer: Conversation) -> None:
    peer.send(peer.get(), wire.rst(1))
    peer.lives()


@GENERIC.case("2/5", "PRIORITY on a stream that is over")
def _(peer: Conversation) -> None:
    peer.send(peer.get())
    peer.over()
    peer.send(wire.priority(1, 0, 255))
    peer.lives()


@GENERIC.case("3.1/1", "DATA")
def _(peer: Conversation) -> None:
    peer.send(peer.post(), wire.data(1, b"test", end=True))
    peer.answered()


@GENERIC.case("3.1/2", "DATA, twice")
def _(peer: Conversation) -> None:
    peer.send(peer.post(), wire.data(1, b"test"), wire.data(1, b"test", end=True))
    peer.answered()


@GENERIC.case("3.1/3", "DATA with padding")
def _(peer: Conversation) -> None:
    padded = wire.frame(wire.DATA, wire.END_STREAM | wire.PADDED, 1, b"\5test" + bytes(5))
    peer.send(peer.post(), padded)
    peer.answered()


@GENERIC.case("3.2/1", "HEADERS")
def _(peer: Conversation) -> None:
    peer.send(peer.get())
    peer.answered()


@GENERIC.case("3.2/2", "HEADERS with padding")
def _(peer: Conversation) -> None:
    block = b"\5" + wire.block(peer.fields()) + bytes(5)
    peer.send(wire.headers(1, block, flags=wire.END_HEADERS | wire.PADDED))
    peer.answered()


@GENERIC.case("3.2/3", "HEADERS with a priority")
def _(peer: Conversation) -> None:
    block = b"\0\0\0\0\xff" + wire.block(peer.fields())
    peer.send(wire.headers(1, block, flags=wire.END_HEADERS | wire.HAS_PRIORITY))
    peer.answered()


for _number, _says, _frame in (
    (1, "of weight 1", wire.priority(1, 0, 0)),
    (2, "of weight 256", wire.priority(1, 0, 255)),
    (3, "on another stream", wire.priority(3, 1, 255)),
    (4, "that is exclusive", wire.priority(1, 0, 255, exclusive=True)),
    (5, "of an idle stream, and HEADERS of a lower one", wire.priority(3, 0, 255)),
):

    @GENERIC.case(f"3.3/{_number}", f"PRIORITY {_says}")
    def _(peer: Conversation, frame: bytes = _frame) -> None:
        peer.send(frame, peer.get())
        peer.answered()


@GENERIC.case("3.4/1", "RST_STREAM")
def _(peer: Conversation) -> None:
    peer.send(peer.post(), wire.rst(1))
    peer.lives()


@GENERIC.case("3.5/1", "SETTINGS")
def _(peer: Conversation) -> None:
    peer.send(
        wire.settings((wire.HEADER_TABLE_SIZE, 4096), (wire.ENABLE_PUSH, 0), (wire.MAX_FRAME, 16_384), (0x4A4A, 7))
    )
    peer.acknowledged()


@GENERIC.case("3.7/1", "PING")
def _(peer: Conversation) -> None:
    peer.lives(b"12345678")


@GENERIC.case("3.8/1", "GOAWAY")
def _(peer: Conversation) -> None:
    peer.send(wire.goaway(0, 0, b"good bye"), wire.ping())
    peer.closed()


@GENERIC.case("3.9/1", "WINDOW_UPDATE of the connection")
def _(peer: Conversation) -> None:
    peer.send(wire.window(0, 1))
    peer.lives()


@GENERIC.case("3.9/2", "WINDOW_UPDATE of a stream")
def _(peer: Conversation) -> None:
    peer.send(peer.get(), wire.window(1, 1))
    peer.answered()


@GENERIC.case("3.10/1", "CONTINUATION")
def _(peer: Conversation) -> None:
    block = wire.block(peer.fields())
    peer.send(wire.headers(1, block[:5], flags=0), wire.continuation(1, block[5:]))
    peer.answered()


@GENERIC.case("3.10/2", "CONTINUATION, twice")
def _(peer: Conversation) -> None:
    block = wire.block(peer.fields())
    peer.send(wire.headers(1, block[:5], flags=0), wire.continuation(1, block[5:9], end=False))
    peer.send(wire.continuation(1, block[9:]))
    peer.answered()


@GENERIC.case("4/1", "GET")
def _(peer: Conversation) -> None:
    peer.send(peer.get())
    peer.over()


@GENERIC.case("4/2", "HEAD")
def _(peer: Conversation) -> None:
    peer.send(wire.headers(1, peer.fields(method=b"HEAD")))
    peer.over()


@GENERIC.case("4/3", "POST")
def _(peer: Conversation) -> None:
    peer.send(peer.post(), wire.data(1, b"test", end=True))
    peer.over()


@GENERIC.case("4/4", "POST with trailers")
def _(peer: Conversation) -> None:
    peer.send(peer.post(1, (b"trailer", b"x-test")), wire.data(1, b"test"), wire.headers(1, ((b"x-test", b"ok"),)))
    peer.over()


def _huffman(text: bytes) -> bytes:
    code = _ENCODER.encode(text)
    return wire.integer(len(code), 7, 0x80) + code


_ENCODER = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH)
_HUFFMAN_NAME, _HUFFMAN_VALUE = _huffman(b"x-asks"), _huffman(b"conformance")
_PLAIN_NAME, _PLAIN_VALUE = wire.integer(6, 7) + b"x-asks", wire.integer(11, 7) + b"conformance"
_USER_AGENT = 58  # of the static table

_INDEXED_NAME = [
    ("indexed name, plain value", _PLAIN_VALUE),
    ("indexed name, Huffman value", _HUFFMAN_VALUE),
]
_NEW_NAME = [("new name, plain", _PLAIN_NAME + _PLAIN_VALUE), ("new name, Huffman", _HUFFMAN_NAME + _HUFFMAN_VALUE)]

_REPRESENTATIONS: list[tuple[str, bytes]] = [("an indexed field", wire.indexed(_USER_AGENT))]
for _kind, _first, _prefix in (("indexed", 0x40, 6), ("not indexed", 0x00, 4), ("never indexed", 0x10, 4)):
    for _what, _rest in _INDEXED_NAME:
        _REPRESENTATIONS.append((f"{_kind}: {_what}", wire.integer(_USER_AGENT, _prefix, _first) + _rest))
    for _what, _rest in _NEW_NAME:
        _REPRESENTATIONS.append((f"{_kind}: {_what}", bytes((_first,)) + _rest))

for _index, (_says, _bytes) in enumerate(_REPRESENTATIONS, 1):

    @GENERIC.case(f"5/{_index}", f"a field that is {_says}")
    def _(peer: Conversation, field: bytes = _bytes) -> None:
        peer.send(wire.headers(1, wire.block(peer.fields()) + field))
        peer.answered()


@GENERIC.case("5/14", "an update of the size of the table")
def _(peer: Conversation) -> None:
    peer.send(wire.headers(1, wire.integer(128, 5, 0x20) + wire.block(peer.fields())))
    peer.answered()


@GENERIC.case("5/15", "several updates of the size of the table")
def _(peer: Conversation) -> None:
    peer.send(wire.headers(1, wire.integer(128, 5, 0x20) + wire.integer(4096, 5, 0x20) + wire.block(peer.fields())))
    peer.answered()


for _section, _says, _bytes in (
    ("2.3.3/1", "an index that no table has", wire.indexed(70)),
    ("2.3.3/2", "a name by an index that no table has", wire.integer(70, 6, 0x40) + _PLAIN_VALUE),
    ("4.2/1", "an update of the size of the table at the end", wire.integer(1, 5, 0x20)),
    ("5.2/1", "Huffman code with more than 7 bits of padding", b"\0\1a\x82\x1f\xff"),  # 00011 is an a
    ("5.2/2", "Huffman code padded by zeros", b"\0\1a\x81\x18"),
    ("5.2/3", "Huffman code with the end of a string in it", b"\0\1a\x85\x1f\xff\xff\xff\xff"),
    ("6.1/1", "index 0", wire.indexed(0)),
    ("6.3/1", "an update of the size of the table beyond what was allowed", wire.integer(4097, 5, 0x20)),
):

    @HPACK.case(_section, _says)
    def _(peer: Conversation, last: bytes = _bytes, section: str = _section) -> None:
        block = wire.block(peer.fields())
        peer.send(wire.headers(1, last + block if section == "6.3/1" else block + last))
        peer.connection_error(COMPRESSION)
