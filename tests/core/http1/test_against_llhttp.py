"""Our reader of heads and llhttp are of one mind: about what a head says, and about what is none."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pico_twisted.core.http1.errors import Http1Error
from pico_twisted.core.http1.head import HeadLimits, RequestHead, ResponseHead, parse_request_head, parse_response_head
from pico_twisted.core.http1.plain import PLAIN_FOR_AGENT, PLAIN_FOR_NODE
from tests.core.http1 import llhttp_reader
from tests.core.http1.pieces import BAD_LINES

LIMITS = HeadLimits(head_bytes=2048, fields=12, target_bytes=64)
SEEDS = 4
CHANGED_HEADS = 1500
"""Of each seed, each way."""

REQUEST_LINES = [
    *(b"GET / HTTP/1.1", b"POST /a?b=%20&c HTTP/1.1", b"OPTIONS * HTTP/1.0", b"PUT http://a.example:80/x HTTP/1.1"),
    *(
        b"GET /\xe4 HTTP/1.2",
        b"HEAD / HTTP/1.0",
        b"GET /# HTTP/1.1",
        b"get / HTTP/1.1",
        b"PRI * HTTP/2.0",
        b"GET  / HTTP/1.1",
    ),
]
STATUS_LINES = [
    *(b"HTTP/1.1 200 OK", b"HTTP/1.1 304 Not Modified", b"HTTP/1.0 404 ", b"HTTP/1.1 101 Switching Protocols"),
    *(
        b"HTTP/1.1 204",
        b"HTTP/1.1 100 Continue",
        b"HTTP/1.9 599 \xe4",
        b"HTTP/1.1 999 X",
        b"HTTP/1.1 099 X",
        b"HTTP/2 200",
    ),
]
NAMES = [
    *(b"Host", b"host", b"Connection", b"connection", b"Upgrade", b"TE", b"Trailer", b"Transfer-Encoding", b"Expect"),
    *(b"Content-Length", b"content-length", b"CONTENT-LENGTH", b"Keep-Alive", b"Proxy-Connection", b"HTTP2-Settings"),
    *(b"Via", b"CDN-Loop", b"x-request-id", b"x-pico-endpoint", b"X-Pico-Error", b"x_pico_error", b"Content_Length"),
    *(b"Accept", b"Cookie", b"Set-Cookie", b"X-A", b"x!#$%&'*+-.^_`|~1", b"Forwarded", b"WWW-Authenticate"),
]
VALUES = [
    *(
        b"a.example",
        b"close",
        b"keep-alive",
        b"Keep-Alive, close",
        b"upgrade",
        b"Upgrade, x",
        b"websocket",
        b"h2c, x/1",
    ),
    *(
        b"chunked",
        b"gzip, chunked",
        b"chunked, chunked",
        b"xchunked",
        b"identity",
        b"CHUNKED",
        b"100-continue",
        b"trailers",
    ),
    *(b"0", b"5", b"+5", b"-1", b"5, 5", b"5 5", b"0x5", b"05", b"9" * 18, b"9" * 19, b"9" * 20, b"5a", b"", b"\xb2"),
    *(
        b"trailers",
        b"h2c, x/1",
        b"a b",
        b"a\tb",
        b"\xe4\xff",
        b'"q"',
        b"a: b",
        b" \t",
        b"1.1 pico-x",
        b"a\x0bb",
        b"a\x0cb",
        b"a\x85b",
    ),
]
BEHIND_A_COLON = [b" ", b" ", b" ", b"", b"\t", b"  \t"]
BEHIND_A_VALUE = [
    b"\r\n",
    b"\r\n",
    b"\r\n",
    b"\r\n",
    b" \r\n",
    b"\t\r\n",
    b"\n",
    b"\r",
    b"\r\r\n",
    b"\r\n ",
    b"\x00\r\n",
]

LINE = st.builds(
    lambda *parts: b"".join(parts),
    st.sampled_from(NAMES) | st.text("aAX-_ :\t", min_size=0, max_size=4).map(str.encode),
    st.sampled_from([b":", b":", b":", b":", b" :", b"\t:", b"::", b""]),
    st.sampled_from(BEHIND_A_COLON),
    st.sampled_from(VALUES) | st.binary(max_size=3),
    st.sampled_from(BEHIND_A_VALUE),
) | st.sampled_from(BAD_LINES).map(lambda line: line + b"\r\n")


def outcome(read: Callable[[], llhttp_reader.Facts]) -> llhttp_reader.Facts | tuple[int, str]:
    """What a head says, or how it is answered."""
    try:
        return read()
    except Http1Error as error:
        return error.status, error.code


def compare(data: bytes, is_request: bool) -> bool:
    """Fails when the readers see different things. Returns whether the head was taken."""
    if is_request:
        theirs = outcome(lambda: llhttp_reader.request(data, LIMITS))
    else:
        theirs = outcome(lambda: llhttp_reader.response(data, LIMITS))
    # Of a head that is to be refused one attribute is asked for, to show what was taken.
    names = list(theirs) if isinstance(theirs, dict) else ["version_11"]
    ways: list[Callable[[], RequestHead | ResponseHead]] = [lambda: parse_response_head(data, LIMITS)]
    if is_request:
        ways = [partial(parse_request_head, data, LIMITS, plain) for plain in (None, PLAIN_FOR_NODE, PLAIN_FOR_AGENT)]

    def facts(way: Callable[[], RequestHead | ResponseHead]) -> llhttp_reader.Facts:
        head = way()
        return {name: getattr(head, name) for name in names}

    for way in ways:
        assert outcome(partial(facts, way)) == theirs, data
    return isinstance(theirs, dict)


LINES = st.lists(LINE, max_size=5).map(b"".join)


@given(st.sampled_from(REQUEST_LINES), st.sampled_from([b"Host: a.example\r\n", b""]), LINES)
def test_of_one_mind_about_lines_of_requests(first: bytes, host: bytes, lines: bytes) -> None:
    """Whatever lines stand in a head, well made or not: both readers take it and see the same, or both refuse it."""
    compare(first + b"\r\n" + host + lines + b"\r\n", is_request=True)


@given(st.sampled_from(STATUS_LINES), LINES)
def test_of_one_mind_about_lines_of_responses(first: bytes, lines: bytes) -> None:
    """The same holds for responses."""
    compare(first + b"\r\n" + lines + b"\r\n", is_request=False)


def good_head(random: Random, is_request: bool) -> bytes:
    """A head that is taken, or nearly one."""
    first = random.choice((REQUEST_LINES if is_request else STATUS_LINES)[:7])
    host = [b"Host: a.example"] if is_request else []
    lines = [
        random.choice(NAMES) + b":" + random.choice(BEHIND_A_COLON) + random.choice(VALUES)
        for _ in range(random.randrange(6))
    ]
    return b"\r\n".join([first, *host, *lines, b"", b""])


def changed(random: Random, head: bytes) -> bytes:
    """The same with a few bytes or pieces changed, moved, doubled or taken away."""
    data = bytearray(head)
    for _ in range(random.choice((0, 1, 1, 1, 2, 3))):
        at, size = random.randrange(len(data) + 1), random.choice((0, 1, 1, 2, 8))
        piece = random.choice(
            (
                bytes([random.randrange(256)]),
                random.choice((b"\r", b"\n", b"\r\n", b" ", b"\t", b":", b",", b"\x00", b"\x7f")),
                bytes(data[at : at + 16]),
                random.choice(VALUES),
                random.choice(NAMES) + b": " + random.choice(VALUES) + b"\r\n",
                b"",
            )
        )
        data[at : at + size] = piece
    return bytes(data)


@pytest.mark.parametrize("is_request", [True, False])
@pytest.mark.parametrize("seed", range(SEEDS))
def test_of_one_mind_about_bytes(seed: int, is_request: bool) -> None:
    """Heads of which some bytes were changed are read alike, too; and not only because all of them are refused."""
    random = Random(seed)
    taken = sum(compare(changed(random, good_head(random, is_request)), is_request) for _ in range(CHANGED_HEADS))
    assert CHANGED_HEADS / 20 < taken < CHANGED_HEADS
