"""Chunked bodies: strict, bounded, and of one mind with llhttp."""

from __future__ import annotations

import time

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pico_twisted.core.http1.chunked import LAST_CHUNK, MAX_CHUNK_LINE, SPARE_OVERHEAD, ChunkedDecoder, encode_chunk
from pico_twisted.core.http1.errors import Http1Error
from pico_twisted.core.http1.head import HeadLimits
from tests.core.http1.pieces import cut

LIMITS = HeadLimits()


def decode(data: bytes, limits: HeadLimits = LIMITS, *, request: bool = True) -> tuple[bytes, bool, bytes]:
    """(body, whether it ended, what is left over)"""
    decoder = ChunkedDecoder(limits, request=request)
    body, at = decoder.decode(data, 0)
    return body, decoder.done, data[at:]


def decode_split(data: bytes, cuts: list[int], limits: HeadLimits = LIMITS) -> tuple[bytes, bool, bytes, str]:
    """The same in pieces; with the text of the error, if there is one."""
    decoder = ChunkedDecoder(limits, request=True)
    body = b""
    held = bytearray()
    try:
        for part in cut(data, cuts):
            held += part
            piece, at = decoder.decode(held, 0)
            assert isinstance(piece, bytes)
            body += piece
            del held[:at]
    except Http1Error as error:
        return body, False, b"", error.message
    return body, decoder.done, bytes(held), ""


def refused(data: bytes, limits: HeadLimits = LIMITS) -> str:
    with pytest.raises(Http1Error) as caught:
        decode(data, limits)
    assert (caught.value.status, caught.value.code) == (400, "bad-request")
    with pytest.raises(Http1Error) as caught:
        decode(data, limits, request=False)
    assert (caught.value.status, caught.value.code) == (502, "bad-response")
    return caught.value.message


def test_a_body() -> None:
    """Chunks come out joined, and what is behind the last one is left alone."""
    data = b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\nGET /"
    assert decode(data) == (b"hello world", True, b"GET /")


@pytest.mark.parametrize(
    "line",
    [
        b"5",
        b"05",
        b"0" * 40 + b"5",
        b"0" * 1000 + b"5",
        b"5;a",
        b"5;a=b;c",
        b'5;a="b c"',
        b"5 ;a",
        b"5\t; a = b",
        b"5;",
        b"00005;x",
        b"5 ",
        b"5\t",
        b"5" + b" " * 12,
        b"05 \t ",
    ],
)
def test_chunk_lines(line: bytes) -> None:
    """Leading zeros, extensions, and the blanks that devices pad a size with are taken and dropped."""
    assert decode(line + b"\r\nhello\r\n" + LAST_CHUNK) == (b"hello", True, b"")


def test_hexadecimal_sizes() -> None:
    """Sizes are hexadecimal in either case."""
    assert decode(b"0a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n")[0] == b"01234567890123456789"


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b" 5",
        b"5\x0b",
        b"5\x0c",
        b"5\x85",
        b"5\xa0",
        b"5 \r",
        b" ",
        b"+5",
        b"-5",
        b"0x5",
        b"5_0",
        b"5 5",
        b"g",
        b"5,5",
        b"5\r",
        b"\r5",
        b"5;a\x00",
        b"5;a\x7f",
        b"5;a\xff",
        b"5;a\rb",
        b"5 a",
        b";a",
        b"5.",
        b"\xb2",
        b"8000000000000000",
        b"FFFFFFFFFFFFFFFF",
        b"10000000000000000",
        b"1" * 33,
        b"0" * 40 + b"1" * 17,
        b"0" * 1000 + b"g",
    ],
)
def test_chunk_lines_that_are_refused(line: bytes) -> None:
    """A size is hexadecimal digits and below 2^63; extensions hold no control bytes."""
    refused(line + b"\r\nhello\r\n" + LAST_CHUNK)


@pytest.mark.parametrize(
    "data",
    [
        b"5\nhello\r\n0\r\n\r\n",
        b"5\r\nhello\n0\r\n\r\n",
        b"5\r\nhello\r0\r\n\r\n",
        b"5\r\nhello0\r\n\r\n",
        b"5\r\nhellox\r\n0\r\n\r\n",
        b"4\r\nhello\r\n0\r\n\r\n",
        b"5\r\nhello\r\n\r\n0\r\n\r\n",
        b"5\r\nhello\r\n0\n\r\n",
        b"5\r\nhello\r\n0\r\n\n",
        b"\r\n0\r\n\r\n",
        b"6\r\nhello\r\n0\r\n\r\n",
    ],
)
def test_line_ends_that_are_refused(data: bytes) -> None:
    """Every line ends in CRLF, the one behind a chunk's data too. A bare LF is refused without waiting for more."""
    refused(data)
    assert decode_split(data, list(range(len(data))))[3]


def test_trailers_are_not_in_the_body() -> None:
    """Trailers are no part of the body."""
    assert decode(b"1\r\na\r\n0;x\r\nA: b\r\nC:\r\n\r\nrest") == (b"a", True, b"rest")


@pytest.mark.parametrize(
    "trailer",
    [
        b"A",
        b": a",
        b"A : b",
        b" A: b",
        b"A: b\r\n c",
        b"A: \x00",
        b"A: b\rC: d",
        b"A: b\nC: d",
        b"A: \x7f",
        b"A(: b",
        b"A:\x0b",
    ],
)
def test_trailers_that_are_refused(trailer: bytes) -> None:
    """Trailers are held to the rules of fields, whether they go on or not."""
    refused(b"0\r\n" + trailer + b"\r\n\r\n")


def test_bytes_over_7f_in_trailers() -> None:
    """Trailers may hold opaque bytes as fields may, in their values alone."""
    for request in (False, True):
        assert decode(b"0\r\nA: \xe4\r\n\r\n", request=request)[1]
        with pytest.raises(Http1Error):
            decode(b"0\r\nA\xe4: b\r\n\r\n", request=request)


def test_a_flood_of_trailers() -> None:
    """llhttp takes ten thousand trailers; here they are held to the number of fields and to the size of a head."""
    limits = HeadLimits(fields=3, head_bytes=30)
    assert decode(b"0\r\n" + b"A: b\r\n" * 3 + b"\r\n", limits)[1]
    assert refused(b"0\r\n" + b"A: b\r\n" * 4 + b"\r\n", limits) == "too many trailers"
    assert decode(b"0\r\nA: " + b"b" * 25 + b"\r\n\r\n", limits)[1]
    assert refused(b"0\r\nA: " + b"b" * 26 + b"\r\n\r\n", limits) == "trailers are too large"
    assert refused(b"0\r\nA: " + b"b" * 40, limits) == "trailers are too large"
    assert refused(b"0\r\n" + b"A: b\r\n" * 10_000) == "too many trailers"
    assert refused(b"0\r\nA: " + b"b" * 40_000) == "trailers are too large"


def test_a_long_chunk_line() -> None:
    """A chunk's line is bounded, ended or not."""
    assert decode(b"1;" + b"a" * (MAX_CHUNK_LINE - 2) + b"\r\nx\r\n0\r\n\r\n")[0] == b"x"
    assert refused(b"1;" + b"a" * (MAX_CHUNK_LINE - 1) + b"\r\nx\r\n0\r\n\r\n") == "chunk line is too long"
    assert refused(b"1;" + b"a" * 2000) == "chunk line is too long"
    assert decode(b"1;" + b"a" * 500) == (b"", False, b"1;" + b"a" * 500)


def test_a_flood_of_extensions() -> None:
    """llhttp takes 64 MB of extensions; here little data with much around it is refused."""
    chunk = b"1;" + b"a" * 1000 + b"\r\nx\r\n"
    assert refused(chunk * 64) == "too much chunk overhead"
    assert not decode(chunk * (SPARE_OVERHEAD // 1024))[1]


def test_small_and_signed_chunks_go_on_for_ever() -> None:
    """Chunks of one byte, bare or with an extension of forty, and chunks with a signature each pass in any number."""
    for chunk in (b"1\r\nx\r\n", b"1;" + b"a" * 40 + b"\r\nx\r\n", b"000001            \r\nx\r\n"):
        assert decode(chunk * 20_000 + LAST_CHUNK)[0] == b"x" * 20_000
    signed = b"1000;chunk-signature=" + b"f" * 64 + b"\r\n" + b"x" * 4096 + b"\r\n"
    assert len(decode(signed * 2000 + LAST_CHUNK)[0]) == 4096 * 2000


def test_a_large_body_costs_time_in_proportion() -> None:
    """64 MB in chunks of 4 KiB, all there at once, are decoded by one pass."""
    data = encode_chunk(b"x" * 4096) * (16 * 1024) + LAST_CHUNK
    start = time.process_time()
    body, done, rest = decode(data)
    assert (len(body), done, rest) == (64 << 20, True, b"")
    assert time.process_time() - start < 10


@given(st.lists(st.binary(max_size=300)), st.binary(max_size=20), st.lists(st.integers(0, 5000), max_size=20))
def test_round_trip(pieces: list[bytes], rest: bytes, cuts: list[int]) -> None:
    """What is encoded is decoded, however it is cut; nothing encodes to nothing, so it ends no body."""
    data = b"".join(map(encode_chunk, pieces)) + LAST_CHUNK
    body = b"".join(pieces)
    assert decode(data + rest) == (body, True, rest)
    assert decode_split(data + rest, cuts) == (body, True, rest, "")
    assert encode_chunk(b"") == b""


SNIPPETS = st.sampled_from(
    [
        b"\r\n",
        b"\r",
        b"\n",
        b"0\r\n",
        b"0\r\n\r\n",
        b"5\r\nhello\r\n",
        b"a;b=c\r\n",
        b";",
        b" ",
        b"A: b\r\n",
        b"5",
        b"f",
    ]
)


@given(st.lists(SNIPPETS | st.binary(max_size=5), max_size=12).map(b"".join), st.lists(st.integers(0, 60), max_size=10))
def test_any_split_gives_the_same(data: bytes, cuts: list[int]) -> None:
    """However bytes are cut, good or bad, the same comes out; before an error at most less of the body."""
    limits = HeadLimits(fields=2, head_bytes=12)
    body, done, rest, error = decode_split(data, [], limits)
    body_cut, done_cut, rest_cut, error_cut = decode_split(data, cuts, limits)
    assert (done, rest, error) == (done_cut, rest_cut, error_cut)
    assert body == body_cut or (error and body_cut.startswith(body))


class _Reader:
    def __init__(self) -> None:
        self.body = b""
        self.done = False

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.done = True


def by_llhttp(data: bytes) -> tuple[bytes, bool, bool]:
    """(body, whether the message ended, whether llhttp was content)"""
    reader = _Reader()
    parser = httptools.HttpRequestParser(reader)
    parser.feed_data(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    try:
        parser.feed_data(data)
    except httptools.HttpParserError:
        return reader.body, reader.done, False
    return reader.body, reader.done, True


EXTENSIONS = st.sampled_from([b"", b"", b"", b";a", b";a=b", b';a="b c"', b";a=b;c=d"])


@given(
    st.lists(st.tuples(st.binary(min_size=1, max_size=40), EXTENSIONS, st.integers(0, 3), st.booleans())),
    st.lists(st.sampled_from([b"A: b\r\n", b"X-Y:\r\n"]), max_size=3),
)
def test_what_is_valid_llhttp_reads_the_same(
    chunks: list[tuple[bytes, bytes, int, bool]], trailers: list[bytes]
) -> None:
    """All that RFC 9112 7.1 allows is read as llhttp reads it."""
    data = b""
    for body, extension, zeros, upper in chunks:
        size = b"%X" % len(body) if upper else b"%x" % len(body)
        data += b"0" * zeros + size + extension + b"\r\n" + body + b"\r\n"
    data += b"0\r\n" + b"".join(trailers) + b"\r\n"
    body, done, rest = decode(data)
    assert (done, rest) == (True, b"")
    assert by_llhttp(data) == (body, True, True)


@given(st.lists(SNIPPETS | st.binary(max_size=5), max_size=12).map(b"".join))
def test_what_we_take_llhttp_never_reads_otherwise(data: bytes) -> None:
    """When both take a body they agree on every byte; and what we refuse, llhttp never sees as whole before that."""
    try:
        body, done, rest = decode(data)
    except Http1Error:
        return
    theirs, their_done, content = by_llhttp(data[: len(data) - len(rest)])
    if content:
        assert (theirs, their_done) == (body, done)
    else:
        assert body.startswith(theirs)
        assert not their_done
