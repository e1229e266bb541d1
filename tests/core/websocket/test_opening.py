"""The handshake of a TCP session's client: what it sends, and what it makes of answers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pico_twisted.core.http1.refusal import MAX_REFUSAL_BODY_BYTES
from pico_twisted.core.websocket.opening import NoWebSocket, Opened, Opening, Refused, Unanswered
from tests.peers.websocket import accept_value

NONCE = bytes(range(16))
KEY = b"AAECAwQFBgcICQoLDA0ODw=="
TOKEN = "pico_secret-of-mine"
GOOD = (
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    f"Sec-WebSocket-Accept: {accept_value(KEY)}\r\nSec-WebSocket-Protocol: pico.tcp\r\n\r\n"
).encode()
REFUSAL = (
    b"HTTP/1.1 502 Bad Gateway\r\nx-pico-error: n1; no-upstreams\r\nx-pico-port: proxy\r\nContent-Length: 35\r\n\r\n"
    b'{"error": "no available upstreams"}'
)


def opening(*, token: str = "", nonce: bytes = NONCE) -> Opening:
    """A handshake."""
    return Opening(host="pico:8000", target="/_pico/v1/tcp/db", token=token, agent="picoctl/1", nonce=nonce)


def test_the_request_is_a_handshake_that_shows_the_token() -> None:
    """It asks for the endpoint's WebSocket and our subprotocol, and shows the token where no service sees it."""
    head = opening(token=TOKEN).request.decode()
    first, *fields = head.removesuffix("\r\n\r\n").split("\r\n")
    assert first == "GET /_pico/v1/tcp/db HTTP/1.1"
    assert set(fields) == {
        "Host: pico:8000",
        "User-Agent: picoctl/1",
        "Accept: application/json",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {KEY.decode()}",
        "Sec-WebSocket-Protocol: pico.tcp",
        f"x-pico-authorization: Bearer {TOKEN}",
    }


def test_a_look_asks_for_no_websocket() -> None:
    """Without a nonce it is a plain GET, which reaches no service."""
    assert b"Upgrade" not in opening(nonce=b"").request
    with pytest.raises(NoWebSocket, match=r"not HTTP/1\.1"):
        opening(nonce=b"").receive(GOOD)


@given(st.integers(1, len(GOOD)), st.binary(max_size=9))
def test_an_answer_may_come_in_pieces(cut: int, rest: bytes) -> None:
    """Wherever it is cut, the WebSocket is open once its head is whole, and what follows it is kept."""
    one = opening()
    data = GOOD + rest
    found = one.receive(data[:cut])
    if found is None:
        found = one.receive(data[cut:])
        assert found == Opened(rest)
    else:
        assert data[:cut].endswith(found.rest)


def test_an_interim_answer_is_waited_out() -> None:
    """A 103 before the 101 changes nothing."""
    assert opening().receive(b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n" + GOOD) == Opened(b"")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (b"Upgrade: websocket", b"Upgrade: tcp", "another protocol"),
        (b"Accept: ", b"Accept: A", "to another one"),
        (b"Protocol: pico.tcp", b"Protocol: chat", "does not speak pico.tcp"),
        (b"\r\n\r\n", b"\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n", "extensions"),
        (b"HTTP/1.1 101", b"SSH-2.0-x 101", "not HTTP/1.1"),
    ],
)
def test_another_answer_is_no_websocket(old: bytes, new: bytes, words: str) -> None:
    """What is no answer to this handshake is told in words."""
    with pytest.raises(NoWebSocket, match=words):
        opening().receive(GOOD.replace(old, new))


@given(st.integers(1, len(REFUSAL) - 1))
def test_a_refusal_keeps_the_reason_of_the_node(cut: int) -> None:
    """The status, the code and the node's ID are known, however the answer is cut; a body that is no JSON is shown."""
    one = opening()
    assert one.receive(REFUSAL[:cut]) is None
    with pytest.raises(Refused) as raised:
        one.receive(REFUSAL[cut:])
    said = raised.value.refusal
    assert (said.status, said.code, said.hop, said.port, said.away) == (502, "no-upstreams", "n1", "proxy", False)


def test_a_refusal_does_not_repeat_the_token() -> None:
    """A server that says what it was shown does not bring it into a log."""
    body = b'{"error": "not known: ' + TOKEN.encode() + b'\\u001b[2J"}'
    head = b"HTTP/1.1 401 No\r\nx-pico-error: n1; unknown\r\nContent-Length: %d\r\n\r\n" % len(body)
    with pytest.raises(Refused) as raised:
        opening(token=TOKEN).receive(head + body)
    assert raised.value.refusal.message == "not known: (the token)?[2J"


def test_a_long_refusal_is_cut() -> None:
    """A body without an end is not waited for."""
    one = opening()
    assert one.receive(b"HTTP/1.1 503 Away\r\nTransfer-Encoding: chunked\r\n\r\n") is None
    piece = b"400\r\n" + b"x" * 1024 + b"\r\n"
    for _ in range(MAX_REFUSAL_BODY_BYTES // 1024 - 1):
        assert one.receive(piece) is None
    with pytest.raises(Refused) as raised:
        one.receive(piece)
    assert raised.value.refusal.away
    assert len(raised.value.refusal.message) < 300


def test_an_end_before_the_answer_is_told_from_one_within() -> None:
    """No byte of an answer: a node that is gone. A head whose body was cut short: a refusal all the same."""
    with pytest.raises(Unanswered):
        opening().receive_end()
    one = opening()
    assert one.receive(REFUSAL[:-3]) is None
    with pytest.raises(Refused):
        one.receive_end()
