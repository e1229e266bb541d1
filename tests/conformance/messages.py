"""Requests that are none (RFC 9113 8)."""

from __future__ import annotations

from collections.abc import Callable

from tests.conformance.case import Cases
from tests.conformance.conversation import PROTOCOL, Conversation
from tests.peers import http2_frames as wire
from tests.peers.http2_frames import Field

MESSAGES = Cases("http2")


@MESSAGES.case("8.1/1", "trailers that do not end the stream")
def _(peer: Conversation) -> None:
    peer.send(peer.post(), wire.data(1, b"test"), wire.headers(1, ((b"x-test", b"ok"),), end=False))
    peer.stream_error(PROTOCOL)


@MESSAGES.case("8.1.2.1/3", "a pseudo-header field among trailers")
def _(peer: Conversation) -> None:
    peer.send(peer.post(1, (b"trailer", b"x-test")), wire.data(1, b"test"))
    peer.send(wire.headers(1, ((b"x-test", b"ok"), (b":method", b"POST"))))
    peer.stream_error(PROTOCOL)


_REQUESTS: dict[tuple[str, str], Callable[[Conversation], list[Field]]] = {
    ("8.1.2/1", "a name in capitals"): lambda peer: peer.fields((b"X-Test", b"ok")),
    ("8.1.2.1/1", "a pseudo-header field that nobody knows"): lambda peer: peer.fields((b":test", b"ok")),
    ("8.1.2.1/2", "a pseudo-header field of responses"): lambda peer: peer.fields((b":status", b"200")),
    ("8.1.2.1/4", "a pseudo-header field behind others"): lambda peer: [
        *peer.fields(without=b":path"),
        (b"x-test", b"ok"),
        (b":path", b"/"),
    ],
    ("8.1.2.2/1", "a field of a connection"): lambda peer: peer.fields((b"connection", b"keep-alive")),
    ("8.1.2.2/2", "TE of another value than trailers"): lambda peer: peer.fields((b"te", b"trailers, deflate;q=0.5")),
    ("8.1.2.3/1", "an empty :path"): lambda peer: [*peer.fields(without=b":path"), (b":path", b"")],
    ("8.1.2.3/2", "no :method"): lambda peer: peer.fields(without=b":method"),
    ("8.1.2.3/3", "no :scheme"): lambda peer: peer.fields(without=b":scheme"),
    ("8.1.2.3/4", "no :path"): lambda peer: peer.fields(without=b":path"),
    ("8.1.2.3/5", "two :method"): lambda peer: peer.fields((b":method", b"GET")),
    ("8.1.2.3/6", "two :scheme"): lambda peer: peer.fields((b":scheme", b"http")),
    ("8.1.2.3/7", "two :path"): lambda peer: peer.fields((b":path", b"/")),
}

for (_number, _says), _fields in _REQUESTS.items():

    @MESSAGES.case(_number, _says)
    def _(peer: Conversation, fields: Callable[[Conversation], list[Field]] = _fields) -> None:
        peer.send(wire.headers(1, fields(peer)))
        peer.stream_error(PROTOCOL)


@MESSAGES.case("8.1.2.6/1", "DATA that is not as long as content-length says")
def _(peer: Conversation) -> None:
    peer.send(peer.post(1, (b"content-length", b"1")), wire.data(1, b"test", end=True))
    peer.stream_error(PROTOCOL)


@MESSAGES.case("8.1.2.6/2", "DATA, twice, that is not as long as content-length says")
def _(peer: Conversation) -> None:
    peer.send(peer.post(1, (b"content-length", b"1")), wire.data(1, b"test"), wire.data(1, b"test", end=True))
    peer.stream_error(PROTOCOL)


@MESSAGES.case("8.2/1", "PUSH_PROMISE of a client")
def _(peer: Conversation) -> None:
    peer.send(peer.get(), wire.frame(wire.PUSH_PROMISE, wire.END_HEADERS, 1, b"\0\0\0\3" + wire.block(peer.fields())))
    peer.connection_error(PROTOCOL)
