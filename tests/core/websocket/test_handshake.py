"""The handshake of the WebSocket of a TCP endpoint."""

from __future__ import annotations

import pytest

from pico_twisted.core.http1.errors import Http1Error
from pico_twisted.core.http1.head import HeadLimits, RequestHead, parse_request_head
from pico_twisted.core.routing.endpoint import EndpointError
from pico_twisted.core.websocket.handshake import accepted, check_handshake, tcp_endpoint_of, tcp_request

GOOD = {
    "Host": "node.example.com",
    "Connection": "keep-alive, Upgrade",
    "Upgrade": "WebSocket",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
}


def head(line: str = "GET /_pico/v1/tcp/db HTTP/1.1", *more: str, **fields: str | None) -> RequestHead:
    """The head of a good handshake, with some fields replaced or left out."""
    changed = {**GOOD, **{name.replace("_", "-"): value for name, value in fields.items()}}
    lines = [line, *(f"{name}: {value}" for name, value in changed.items() if value is not None), *more]
    return parse_request_head("\r\n".join([*lines, "", ""]).encode(), HeadLimits())


def test_accepted() -> None:
    """The answer proves that the key was read (the example of RFC 6455 1.3), and chooses our subprotocol alone."""
    answer = accepted(head("GET / HTTP/1.1", "Sec-WebSocket-Protocol: chat, pico.tcp"))
    assert answer.status == 101 and answer.upgrade == b"websocket"
    assert answer.by_name == {
        b"sec-websocket-accept": b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
        b"sec-websocket-protocol": b"pico.tcp",
    }
    assert b"sec-websocket-protocol" not in accepted(head("GET / HTTP/1.1", "Sec-WebSocket-Protocol: chat")).by_name


BAD: list[tuple[RequestHead, int]] = [
    (head(Upgrade=None, Connection=None), 426),
    (head(Upgrade="foo"), 426),
    (head(Sec_WebSocket_Version="8"), 426),
    (head(Sec_WebSocket_Version=None), 426),
    (head(Sec_WebSocket_Key=None), 400),
    (head(Sec_WebSocket_Key="c2hvcnQ="), 400),
    (head(Sec_WebSocket_Key="not base64 at all!!"), 400),
    (head("GET / HTTP/1.1", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="), 400),
    (head("POST / HTTP/1.1"), 400),
    (head("GET / HTTP/1.1", "Content-Length: 3"), 400),
    (head("GET / HTTP/1.1", "Transfer-Encoding: chunked"), 400),
]


@pytest.mark.parametrize(("request_head", "status"), BAD)
def test_refused(request_head: RequestHead, status: int) -> None:
    """What is no handshake of version 13 is told with 426 or 400."""
    with pytest.raises(Http1Error) as refused:
        check_handshake(request_head)
    assert refused.value.status == status


def test_good() -> None:
    """Offers of several protocols, in any case of letters, are one of WebSocket."""
    check_handshake(head())
    check_handshake(head(Upgrade="foo, websocket"))


def test_endpoints() -> None:
    """The path names the endpoint, whatever its query and its case; a field may only name the same one."""
    assert tcp_endpoint_of(head("GET /_pico/v1/tcp/My-DB?x=1 HTTP/1.1")) == "my-db"
    assert tcp_endpoint_of(head("GET /_pico/v1/tcp/db HTTP/1.1", "x-pico-endpoint: DB")) == "db"
    for line in ("GET /_pico/v1/tcp/ HTTP/1.1", "GET /_pico/v1/tcp/a/b HTTP/1.1", "GET /_pico/v1/tcp/%64b HTTP/1.1"):
        with pytest.raises(EndpointError):
            tcp_endpoint_of(head(line))
    with pytest.raises(EndpointError):
        tcp_endpoint_of(head("GET /_pico/v1/tcp/db HTTP/1.1", "x-pico-endpoint: other"))


def test_the_call() -> None:
    """Nothing of the client's head goes on but what finds loops, and the host that it asked for."""
    call = tcp_request(head("GET /_pico/v1/tcp/db HTTP/1.1", "Cookie: a=b", "CDN-Loop: pico", "Via: 1.1 x"))
    assert (call.method, call.target, call.host, call.upgrade) == (b"GET", b"/", b"node.example.com", b"tcp")
    assert [lower for lower, _, _ in call.fields] == [b"cdn-loop", b"via"]
    assert not call.has_body
