"""Requests that reach a service and answers that come back: every ordinary form of HTTP/1.1 and 1.0."""

from __future__ import annotations

import functools
import gzip
import threading

import pytest

from tests.peers.pipe import PATIENCE_S
from tests.system.service import Connection, answer, chunk
from tests.system.stack import PLAIN, Stack
from tests.system.wire import Request

HELLO = b"hello from the service\n"


def fixed(response: bytes, request: Request) -> bytes:
    """Answer always the same."""
    return response


def echo(request: Request) -> bytes:
    """Answer with the request's body, and its method and target in headers."""
    headers = [("X-Method", request.method.decode()), ("X-Target", request.target.decode("latin-1"))]
    return answer(request.body, headers=headers)


def test_curl_by_header(stack: Stack) -> None:
    """curl with x-pico-endpoint gets the service's answer."""
    got = stack.curl_endpoint("/some/path?q=1")
    assert (got.code, got.status, got.body) == (0, 200, HELLO)
    assert stack.service.wait_request().target == b"/some/path?q=1"


def test_curl_by_host(stack: Stack) -> None:
    """curl to <endpoint>.<domain> gets the service's answer, with no header of ours."""
    name = f"{stack.endpoint}.pico.test"
    got = stack.curl("/by-host", "--resolve", f"{name}:{stack.node.ports.proxy}:127.0.0.1", host=name)
    assert (got.code, got.status, got.body) == (0, 200, HELLO)
    assert stack.service.wait_request().get("host") == f"{name}:{stack.node.ports.proxy}".encode()


def test_endpoint_ids_compare_without_case(stack: Stack) -> None:
    """An endpoint's name is found in any case, in the header and in Host."""
    got = stack.curl("/", "-H", f"X-Pico-Endpoint: {stack.endpoint.upper()}")
    assert (got.status, got.body) == (200, HELLO)
    got = stack.curl("/", "-H", f"Host: {stack.endpoint.upper()}.PICO.test")
    assert (got.status, got.body) == (200, HELLO)


def test_the_header_goes_before_host(stack: Stack) -> None:
    """With both present the header decides."""
    got = stack.curl_endpoint("/", "-H", "Host: nobody.pico.test")
    assert (got.status, got.body) == (200, HELLO)
    assert stack.service.wait_request().get("host") == b"nobody.pico.test"


def test_head(stack: Stack) -> None:
    """HEAD brings the head that GET would bring, no body, and the connection serves on."""
    head_only = answer(b"x" * 1234)[:-1234]
    stack.service.handler = lambda request: head_only if request.method == b"HEAD" else answer(b"after")
    client = stack.connect()
    client.send(stack.head("HEAD /file HTTP/1.1"))
    response = client.read_response("HEAD")
    assert (response.status, response.length, response.body) == (200, 1234, b"")
    client.send(stack.head())
    assert client.read_response().body == b"after"


def test_head_without_a_length(stack: Stack) -> None:
    """HEAD of a resource whose answer would be chunked, or end with the connection, ends with its head."""
    client = stack.connect()
    for head in (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n"):
        stack.service.handler = functools.partial(fixed, head)
        for _ in range(2):
            client.send(stack.head("HEAD /file HTTP/1.1"))
            assert client.read_response("HEAD").status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "QUERY"])
def test_a_body_with_a_length(stack: Stack, method: str) -> None:
    """A body with Content-Length arrives as it was sent, whatever the method."""
    stack.service.handler = echo
    body = bytes(range(256)) * 40
    response = stack.request(f"{method} /upload HTTP/1.1", body=body)
    assert (response.status, response.body, response.get("x-method")) == (200, body, method.encode())


def test_an_empty_body_with_a_length(stack: Stack) -> None:
    """POST with Content-Length: 0 stays a request without a body."""
    stack.service.handler = echo
    response = stack.request("POST /nothing HTTP/1.1", "Content-Length: 0")
    assert (response.status, response.body) == (200, b"")
    assert stack.service.wait_request().length == 0


def test_a_chunked_upload(stack: Stack) -> None:
    """A chunked body arrives whole, its chunk extensions left behind."""
    stack.service.handler = echo
    client = stack.connect()
    client.send(stack.head("POST /upload HTTP/1.1", "Transfer-Encoding: chunked"))
    client.send(chunk(b"one ") + b'4;name="va;lue"\r\ntwo \r\n' + chunk(b"x" * 70_000))
    client.send(b"0\r\n\r\n")
    assert client.read_response().body == b"one two " + b"x" * 70_000
    client.send(stack.head("POST /again HTTP/1.1", "Content-Length: 2") + b"ok")
    assert client.read_response().body == b"ok"


def test_curl_uploads(stack: Stack) -> None:
    """curl's POST and its chunked upload arrive, also when it waited in vain for a 100."""
    stack.service.handler = echo
    body = bytes(range(256)) * 8192
    for arguments in (
        ("--data-binary", "@-"),
        ("-T", "-"),
        ("-H", "Expect: 100-continue", "--data-binary", "@-"),
    ):
        got = stack.curl_endpoint("/upload", "--expect100-timeout", "0.1", *arguments, data=body)
        assert (got.code, got.status, got.body == body) == (0, 200, True), (arguments, got.errors)


@pytest.mark.parametrize("status", [204, 304])
def test_answers_without_a_body(stack: Stack, status: int) -> None:
    """204 and 304 end with their head, and the connection serves on."""
    stack.service.handler = lambda request: (
        answer(status=status, reason="Nothing", headers=[("ETag", '"v1"')])
        if request.target == b"/nothing"
        else answer(b"after")
    )
    client = stack.connect()
    client.send(stack.head("GET /nothing HTTP/1.1"))
    response = client.read_response()
    assert (response.status, response.get("etag")) == (status, b'"v1"')
    client.send(stack.head())
    assert client.read_response().body == b"after"


def test_not_modified_keeps_its_length(stack: Stack) -> None:
    """304 may name the length of what was not sent (RFC 9110 8.6); nobody waits for that body."""
    stack.service.handler = lambda request: b"HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\n\r\n"
    client = stack.connect()
    for _ in range(2):
        client.send(stack.head())
        response = client.read_response()
        assert response.status == 304
        assert response.length in (None, 500)


def test_keep_alive(stack: Stack) -> None:
    """Many requests pass over one client connection, and the agent reuses its connection to the service."""
    stack.service.handler = echo
    client = stack.connect()
    for number in range(20):
        client.send(stack.head(f"GET /{number} HTTP/1.1"))
        assert client.read_response().get("x-target") == f"/{number}".encode()
    # A POST that a slow machine has late would rightly get a connection that has not been idle for long.
    assert len(stack.service.connections) == 1


def test_a_client_that_asks_for_close(stack: Stack) -> None:
    """Connection: close is honoured, and said in the answer."""
    client = stack.connect()
    client.send(stack.head("GET / HTTP/1.1", "Connection: close"))
    response = client.read_response()
    assert (response.body, response.get("connection")) == (HELLO, b"close")
    assert client.ended()


def test_pipelining_keeps_the_order(stack: Stack) -> None:
    """Requests sent in one write are answered in their order, though the first takes longest; bodies included."""
    later = threading.Event()

    def handler(request: Request) -> bytes:
        if request.target == b"/0":
            later.wait(0.3)
        return echo(request)

    stack.service.handler = handler
    client = stack.connect()
    parts = [stack.head(f"POST /{number} HTTP/1.1", "Content-Length: 2") + b"%02d" % number for number in range(8)]
    client.send(b"".join(parts))
    for number in range(8):
        response = client.read_response()
        assert (response.get("x-target"), response.body) == (b"/%d" % number, b"%02d" % number)


def test_pipelining_behind_a_chunked_body(stack: Stack) -> None:
    """What follows a chunked body's last chunk in the same write is the next request, byte for byte."""
    stack.service.handler = echo
    client = stack.connect()
    client.send(
        stack.head("POST /1 HTTP/1.1", "Transfer-Encoding: chunked")
        + chunk(b"abc")
        + chunk(b"")
        + stack.head("GET /2 HTTP/1.1")
    )
    assert client.read_response().body == b"abc"
    assert client.read_response().get("x-target") == b"/2"


def test_a_request_in_single_bytes(stack: Stack) -> None:
    """A head and a body that come a byte at a time are understood."""
    stack.service.handler = echo
    client = stack.connect()
    for byte in stack.head("POST /slow HTTP/1.1", "Transfer-Encoding: chunked") + chunk(b"slow") + chunk(b""):
        client.send(bytes([byte]))
    assert client.read_response().body == b"slow"


def test_http_1_0(stack: Stack) -> None:
    """An HTTP/1.0 client gets an answer with a length, and the end of the connection behind it."""
    client = stack.connect()
    client.send(stack.head("GET / HTTP/1.0"))
    response = client.read_response()
    assert (response.status, response.body) == (200, HELLO)
    assert client.ended()


def test_http_1_0_keep_alive(stack: Stack) -> None:
    """An HTTP/1.0 client that asks for keep-alive gets it, and is told so."""
    client = stack.connect()
    for _ in range(2):
        client.send(stack.head("GET / HTTP/1.0", "Connection: keep-alive"))
        response = client.read_response()
        assert (response.body, response.get("connection")) == (HELLO, b"keep-alive")


def test_http_1_0_never_gets_chunks(stack: Stack) -> None:
    """A body of unknown length reaches an HTTP/1.0 client raw, and ends with the connection."""

    def script(connection: Connection) -> None:
        connection.read_request()
        connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(b"one,"))
        assert begun.wait(PATIENCE_S)
        connection.send(chunk(b"two") + chunk(b""))
        connection.linger()

    # A body that is there at once and whole might get a length; this one cannot.
    begun = threading.Event()
    stack.service.script = script
    client = stack.connect()
    client.send(stack.head("GET / HTTP/1.0", "Connection: keep-alive"))
    response = client.response_head()
    assert not response.chunked and response.length is None
    assert client.body_bytes(4) == b"one,"
    begun.set()
    assert client.body() == b"two"
    assert client.ended()


def test_http_1_0_without_host(stack: Stack) -> None:
    """An HTTP/1.0 request needs no Host when the header names the endpoint; the service gets one all the same."""
    client = stack.connect()
    client.send(f"GET /old HTTP/1.0\r\nx-pico-endpoint: {stack.endpoint}\r\n\r\n".encode())
    assert client.read_response().body == HELLO
    assert stack.service.wait_request().get("host")


@PLAIN
def test_a_client_that_half_closes(stack: Stack) -> None:
    """A client that closes its sending side right behind its request, as nc does, gets its answer.

    Over TLS there is no such thing: a close_notify ends both directions here.
    """
    answered = threading.Event()

    def handler(request: Request) -> bytes:
        assert answered.wait(PATIENCE_S)
        return answer(b"y" * 300_000)

    stack.service.handler = handler
    client = stack.connect()
    client.send(stack.head())
    client.pipe.half_close()
    stack.service.wait_request()
    answered.set()
    assert client.read_response().body == b"y" * 300_000
    assert client.ended()


@PLAIN
def test_a_client_that_half_closes_behind_pipelined_requests(stack: Stack) -> None:
    """All requests sent before the half-close are answered, the one with a body too."""
    stack.service.handler = echo
    client = stack.connect()
    client.send(
        stack.head("GET /1 HTTP/1.1") + stack.head("POST /2 HTTP/1.1", "Content-Length: 3") + b"abc" + stack.head()
    )
    client.pipe.half_close()
    assert client.read_response().get("x-target") == b"/1"
    assert client.read_response().body == b"abc"
    assert client.read_response().status == 200
    assert client.ended()


def test_expect_100_continue_comes_from_the_service(stack: Stack) -> None:
    """The client's 100 is the service's own: it comes after the service saw the head, before the body was sent."""

    def script(connection: Connection) -> None:
        request = connection.request_head()
        assert request.get("expect") == b"100-continue"
        connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        connection.send(answer(connection.body()))
        connection.linger()

    stack.service.script = script
    client = stack.connect()
    client.send(stack.head("PUT / HTTP/1.1", "Expect: 100-continue", "Content-Length: 5"))
    assert client.response_head().status == 100
    client.send(b"hello")
    assert client.read_response().body == b"hello"


def test_expect_that_the_service_refuses(stack: Stack) -> None:
    """A final status instead of 100 reaches the client, which then need not send its body."""

    def script(connection: Connection) -> None:
        connection.request_head()
        connection.send(b"HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    stack.service.script = script
    client = stack.connect()
    client.send(stack.head("PUT / HTTP/1.1", "Expect: 100-continue", "Content-Length: 5000000"))
    response = client.read_response()
    assert (response.status, response.interim) == (417, [])
    assert response.get("x-pico-error") is None


def test_early_hints(stack: Stack) -> None:
    """1xx heads pass to an HTTP/1.1 client, here as many as older nodes take too; an HTTP/1.0 client gets none."""
    hints = b"".join(b"HTTP/1.1 103 Early Hints\r\nLink: </%d.css>\r\n\r\n" % number for number in range(15))
    stack.service.handler = lambda request: hints + answer(b"done")
    response = stack.request()
    assert [hint.get("link") for hint in response.interim] == [b"</%d.css>" % number for number in range(15)]
    assert response.body == b"done"
    response = stack.request("GET / HTTP/1.0")
    assert (response.interim, response.body) == ([], b"done")


def test_range(stack: Stack) -> None:
    """A range request and its 206 pass through as they are."""

    def handler(request: Request) -> bytes:
        assert request.get("range") == b"bytes=2-5"
        return answer(b"2345", status=206, reason="Partial Content", headers=[("Content-Range", "bytes 2-5/10")])

    stack.service.handler = handler
    got = stack.curl_endpoint("/file", "-r", "2-5")
    assert (got.code, got.status, got.body) == (0, 206, b"2345")
    assert got.headers["content-range"] == "bytes 2-5/10"


@pytest.mark.parametrize(
    "target",
    [
        "/a%2Fb%2fc/../d/./e//f",
        "/%00%7e%zz",
        "/;p=1?a=b&&c=%20+d?e",
        "//double/slash",
        "/" + "a" * 7000,
        "/?",
        '/~user/{x}|y^`"<z>',
    ],
)
def test_targets_pass_as_they_are(stack: Stack, target: str) -> None:
    """Path and query are the client's bytes: nothing is decoded, joined or encoded."""
    stack.service.handler = echo
    response = stack.request(f"GET {target} HTTP/1.1")
    assert response.status == 200
    assert stack.service.wait_request().target == target.encode()


def test_absolute_form(stack: Stack) -> None:
    """Of an absolute-form target the authority replaces Host, and the service gets origin-form."""
    client = stack.connect()
    client.send(b"GET http://%b.example:81/x?y HTTP/1.1\r\nHost: other.example\r\n\r\n" % stack.endpoint.encode())
    assert client.read_response().body == HELLO
    request = stack.service.wait_request()
    assert (request.target, request.get("host")) == (b"/x?y", b"%b.example:81" % stack.endpoint.encode())


def test_absolute_form_without_a_path(stack: Stack) -> None:
    """An absolute-form target without a path is `/`, its query kept."""
    client = stack.connect()
    client.send(b"GET http://%b.example?q=1 HTTP/1.1\r\nHost: x\r\n\r\n" % stack.endpoint.encode())
    assert client.read_response().body == HELLO
    assert stack.service.wait_request().target == b"/?q=1"


def test_options_asterisk(stack: Stack) -> None:
    """OPTIONS * reaches the service as it is."""
    assert stack.request("OPTIONS * HTTP/1.1").status == 200
    assert stack.service.wait_request().target == b"*"


def test_the_services_words_pass(stack: Stack) -> None:
    """Status, reason, encodings, several cookies, Date and Server are the service's own; redirects are not followed."""
    body = gzip.compress(b"packed")
    headers = [
        ("Content-Encoding", "gzip"),
        ("Location", "http://elsewhere.example/"),
        ("Set-Cookie", "a=1"),
        ("Set-Cookie", "b=2"),
        ("Date", "Tue, 01 Jan 2030 00:00:00 GMT"),
        ("Server", "the service"),
        ("X-Latin", "caf\u00e9"),
    ]
    stack.service.handler = lambda request: answer(body, status=307, reason="Over There", headers=headers)
    response = stack.request()
    assert (response.status, response.reason, response.body) == (307, b"Over There", body)
    assert response.all("set-cookie") == [b"a=1", b"b=2"]
    assert response.all("date") == [b"Tue, 01 Jan 2030 00:00:00 GMT"]
    assert response.all("server") == [b"the service"]
    assert response.get("x-latin") == b"caf\xe9"
    assert len(stack.service.requests) == 1


def test_a_services_own_502_passes(stack: Stack) -> None:
    """An error that the service made is not taken for ours: body untouched, no x-pico-error."""
    stack.service.handler = lambda request: answer(b"<h1>mine</h1>", status=502, reason="Bad Gateway")
    got = stack.curl_endpoint()
    assert (got.status, got.body) == (502, b"<h1>mine</h1>")
    assert "x-pico-error" not in got.headers


def test_a_body_that_ends_with_the_services_connection(stack: Stack) -> None:
    """Without length and chunks the end of the service's connection ends the body; the client's lives on."""

    def script(connection: Connection) -> None:
        connection.read_request()
        connection.send(b"HTTP/1.1 200 OK\r\n\r\n" + b"z" * 100_000)

    stack.service.script = script
    client = stack.connect()
    for _ in range(2):
        client.send(stack.head())
        assert client.read_response().body == b"z" * 100_000


def test_an_http_1_0_service(stack: Stack) -> None:
    """A service that speaks HTTP/1.0 is served to HTTP/1.1 clients."""

    def script(connection: Connection) -> None:
        connection.read_request()
        connection.send(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nold")

    stack.service.script = script
    response = stack.request()
    assert (response.minor, response.status, response.body) == (1, 200, b"old")


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_stale_pooled_connection_is_not_noticed(stack: Stack, method: str) -> None:
    """A service that closes idle connections without a word costs no request.

    A GET is made again when it crosses with the close. A POST must not be; but one that comes when the connection is
    closed already is not sent on it.
    """
    closed = threading.Event()

    def script(connection: Connection) -> None:
        # Keep-alive is promised by HTTP/1.1 and not kept.
        connection.send(echo(connection.read_request()))
        connection.pipe.close()
        closed.set()

    stack.service.script = script
    for number in range(30):
        closed.clear()
        response = stack.request(f"{method} /{number} HTTP/1.1", body=b"x" if method == "POST" else b"")
        assert (response.status, response.get("x-target")) == (200, b"/%d" % number)
        assert method == "GET" or closed.wait(PATIENCE_S)


def test_the_longest_head(stack: Stack) -> None:
    """A head just under 32 KiB, with a hundred headers, passes."""
    fields = [f"X-Field-{number:02}: {'v' * 250}" for number in range(90)]
    response = stack.request("GET / HTTP/1.1", *fields)
    assert response.status == 200
    assert stack.service.wait_request().get("x-field-89") == b"v" * 250
