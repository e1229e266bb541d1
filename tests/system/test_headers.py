"""What each side sees of the other's headers."""

from __future__ import annotations

import re

import pytest

from tests.system.service import Service, answer
from tests.system.stack import Stack
from tests.system.wire import Request, connect
from tools.stage.stage import Stage


def parameters(forwarded: bytes) -> dict[str, str]:
    """The parameters of one element of Forwarded (RFC 7239), quotes removed."""
    found = {}
    for part in forwarded.decode().split(";"):
        name, _, value = part.strip().partition("=")
        found[name.lower()] = value.strip('"')
    return found


def test_forwarding_headers_of_an_unknown_client_are_replaced(stack: Stack) -> None:
    """The service learns client, scheme and Host from us; what the client claimed is gone."""
    stack.request(
        "GET / HTTP/1.1",
        "X-Forwarded-For: 6.6.6.6",
        "X-Forwarded-Proto: gopher",
        "X-Forwarded-Host: evil.example",
        "Forwarded: for=6.6.6.6;proto=gopher;host=evil.example",
        "X-Forwarded-For: 7.7.7.7",
    )
    request = stack.service.wait_request()
    scheme = "https" if stack.tls else "http"
    assert request.get("x-forwarded-for") == b"127.0.0.1"
    assert request.get("x-forwarded-proto") == scheme.encode()
    assert request.get("x-forwarded-host") == b"example.test"
    forwarded = request.get("forwarded")
    assert forwarded is not None
    found = parameters(forwarded)
    assert (found["for"], found["proto"], found["host"]) == ("127.0.0.1", scheme, "example.test")


@pytest.mark.parametrize("trusted", [True, False])
def test_trusted_proxies_are_believed(stage: Stage, trusted: bool) -> None:
    """What a peer in proxy.trusted_proxies tells of its client comes out of both families; that of any other is
    dropped; upgrades alike."""
    networks = ["10.0.0.0/8", "127.0.0.0/8"] if trusted else ["10.0.0.0/8"]
    service = Service()
    try:
        node = stage.node(settings={"proxy": {"trusted_proxies": networks}})
        stage.agent(node, {"web": service.address})
        for upgrade in (b"", b"Connection: Upgrade\r\nUpgrade: raw\r\n"):
            service.reset()
            client = connect(node.proxy, tls=stage.tls.context if stage.tls else None)
            client.send(
                b"GET / HTTP/1.1\r\nHost: web.example\r\nX-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\n"
                b"X-Forwarded-Host: first.example\r\nX-Real-IP: 7.7.7.7\r\nTrue-Client-IP: 8.8.8.8\r\n"
                + upgrade
                + b"\r\n"
            )
            assert client.read_response().status == 200
            client.close()
            request = service.wait_request()
            told = [request.get(f"x-forwarded-{name}") for name in ("for", "proto", "host", "port")]
            told += [request.get(name) for name in ("forwarded", "x-real-ip", "true-client-ip")]
            if trusted:
                element = b"for=6.6.6.6;proto=https;host=first.example, for=127.0.0.1"
                assert told == [
                    b"6.6.6.6, 127.0.0.1",
                    b"https",
                    b"first.example",
                    b"443",
                    element,
                    b"6.6.6.6",
                    b"8.8.8.8",
                ]
            else:
                scheme, port = (b"https", b"443") if stage.tls else (b"http", b"80")
                element = b"for=127.0.0.1;proto=" + scheme + b";host=web.example"
                assert told == [b"127.0.0.1", scheme, b"web.example", port, element, None, None]
    finally:
        service.close()


def test_headers_of_pico_never_pass(stack: Stack) -> None:
    """x-pico-* of a client never reach the service, and those of a service never reach the client."""
    stack.service.handler = lambda request: answer(
        b"ok", headers=[("X-Pico-Error", "node-1; fake"), ("x-pico-anything", "1"), ("X-Kept", "yes")]
    )
    response = stack.request(
        "GET / HTTP/1.1", "X-PICO-Authorization: Bearer secret", "x-pico-node: n2", "x-pico-slot: 3", "X-Kept: yes"
    )
    assert [name for name in stack.service.wait_request().names if name.startswith(b"x-pico")] == []
    assert [name for name in response.names if name.startswith(b"x-pico")] == []
    assert (response.get("x-kept"), stack.service.wait_request().get("x-kept")) == (b"yes", b"yes")


def test_hop_by_hop_headers_of_a_request_are_dropped(stack: Stack) -> None:
    """Connection's own list and the standard hop-by-hop headers end at the node; Authorization and Host do not."""
    stack.request(
        "POST / HTTP/1.1",
        "Connection: keep-alive, X-Private, Authorization, Host, Content-Length, x-pico-endpoint",
        "Keep-Alive: timeout=5",
        "Proxy-Connection: keep-alive",
        "Proxy-Authorization: Basic eDp5",
        "TE: gzip",
        "Trailer: X-T",
        "X-Private: secret",
        "Authorization: Bearer token",
        "X-Kept: 1",
        body=b"12345",
    )
    request = stack.service.wait_request()
    gone = {b"x-private", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"upgrade"}
    assert request.names & gone == set()
    assert b"X-Private" not in request.raw_head
    assert (request.get("authorization"), request.get("x-kept")) == (b"Bearer token", b"1")
    assert (request.get("host"), request.body) == (b"example.test", b"12345")


def test_hop_by_hop_headers_of_a_response_are_dropped(stack: Stack) -> None:
    """The same from the service to the client."""
    stack.service.handler = lambda request: answer(
        b"body",
        headers=[
            ("Connection", "X-Private, Keep-Alive, Content-Length"),
            ("Keep-Alive", "timeout=5"),
            ("X-Private", "secret"),
            ("Proxy-Connection", "close"),
            ("Trailer", "X-T"),
            ("X-Kept", "1"),
        ],
    )
    response = stack.request()
    assert response.names & {b"x-private", b"keep-alive", b"proxy-connection", b"trailer"} == set()
    assert (response.get("x-kept"), response.body) == (b"1", b"body")
    assert b"X-Private" not in (response.get("connection") or b"")


def test_request_id_is_made_or_kept(stack: Stack) -> None:
    """A sane x-request-id is kept, anything else is replaced, none is made; each made one differs."""
    stack.request("GET /1 HTTP/1.1", "X-Request-Id: abc-123_DEF.4")
    stack.request("GET /2 HTTP/1.1", "X-Request-Id: not sane; at all")
    stack.request("GET /3 HTTP/1.1", "X-Request-Id: " + "x" * 500)
    stack.request("GET /4 HTTP/1.1")
    ids = [stack.service.wait_request(number).get("x-request-id") for number in range(4)]
    assert ids[0] == b"abc-123_DEF.4"
    assert all(value and re.fullmatch(rb"[A-Za-z0-9._-]{1,128}", value) for value in ids)
    assert len(set(ids)) == 4


def test_via_is_appended_where_it_is_wanted(stage: Stage) -> None:
    """Via names the node behind whoever was there before, in requests and responses, if `proxy.via` says so; unless it
    does, neither services nor clients see that of us."""
    service = Service()
    try:
        for name, own in (("plain", []), ("naming", [b"1.1 pico-naming"])):
            node = stage.node(name, settings={"proxy": {"via": bool(own)}})
            stage.agent(node, {"web": service.address}, name=f"agent-{name}")
            service.handler = lambda request: answer(b"ok", headers=[("Via", "1.0 cache")])
            client = connect(node.proxy, tls=stage.tls.context if stage.tls else None)
            client.send(b"GET / HTTP/1.1\r\nHost: web.example\r\nVia: 1.0 fred, 1.1 p.example\r\n\r\n")
            response = client.read_response()
            client.close()
            assert service.wait_request().all("via") == [b"1.0 fred, 1.1 p.example", *own]
            assert response.all("via") == [b"1.0 cache", *own]
            service.reset()
    finally:
        service.close()


def test_a_loop_is_cut(stack: Stack) -> None:
    """A request that came to our proxy port ten times has gone round in a circle: 508, and the service is spared."""
    stack.request()
    (passed,) = stack.service.wait_request().all("cdn-loop")
    fields = [f"CDN-Loop: {passed.decode()}"] * 10
    assert stack.request("GET /nine HTTP/1.1", *fields[1:]).status == 200
    response = stack.request("GET /ten HTTP/1.1", *fields)
    assert response.status == 508
    assert response.get("x-pico-error") is not None
    assert b"/ten" not in stack.service.received


def test_one_host_for_the_service(stack: Stack) -> None:
    """The service gets the client's Host, once."""
    stack.request()
    assert stack.service.wait_request().all("host") == [b"example.test"]


def test_rewrite_host(stage: Stage) -> None:
    """With rewrite_host the service gets its own address as Host."""
    service = Service()
    try:
        node = stage.node()
        stage.agent(node, {"web": {"addr": service.address, "rewrite_host": True}})
        client = connect(node.proxy, tls=stage.tls.context if stage.tls else None)
        client.send(b"GET / HTTP/1.1\r\nHost: web.example\r\n\r\n")
        assert client.read_response().status == 200
        client.close()
        request: Request = service.wait_request()
        assert request.get("host") == service.address.encode()
        assert request.get("x-forwarded-host") == b"web.example"
    finally:
        service.close()
