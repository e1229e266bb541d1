"""The table of errors, row by row, as curl and raw clients see it."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator

import pytest

from tests.peers import v2, websocket
from tests.peers.pipe import PATIENCE_S, Ended
from tests.system.curl import CurlAnswer
from tests.system.service import Connection, Service, answer
from tests.system.shared import Shared, sharing_stack
from tests.system.stack import SHAPES, Stack
from tests.system.wire import Broken, Response, Stream, connect
from tools.stage.certificates import Tls
from tools.stage.nodes import Settings
from tools.stage.ports import free_port
from tools.stage.stage import Stage
from tools.stage.waiting import wait_until


def check(got: CurlAnswer | Response, status: int, message: str | None) -> str:
    """The shape that every error of ours has; its stable code."""
    headers = (
        got.headers
        if isinstance(got, CurlAnswer)
        else {name.lower().decode(): value.decode() for name, value in got.fields}
    )
    assert got.status == status, (got.status, got.body)
    assert headers["content-type"] == "application/json"
    document = json.loads(got.body)
    assert isinstance(document["error"], str) and document["error"]
    if message is not None:
        assert document["error"] == message
    match = re.fullmatch(r"([^;]+); ([a-z0-9-]+)", headers["x-pico-error"])
    assert match is not None, headers["x-pico-error"]
    if len(document) > 1:  # an older node says no more, and passes on what an agent says
        assert got.body.endswith(b"}\n")
        assert (document["node"], document["code"]) == ("node-1", match[2]) and match[1] == "node-1"
        assert document["request_id"] == headers.get("x-request-id", "")
        assert "endpoint" in document
    return match[2]


def test_missing_endpoint_id(stack: Stack) -> None:
    """No header, and a Host of one label or an address: 400."""
    for host in ("localhost", "127.0.0.1", "127.0.0.1:8000", "[::1]", "[::1]:80", "10.1.2.3"):
        check(stack.curl("/", "-H", f"Host: {host}"), 400, "missing endpoint id")


def test_invalid_endpoint_id(stack: Stack) -> None:
    """An ID with other characters, or too long: 400, from the header and from Host."""
    for endpoint in ("-x", ".x", "a b", "a/b", "a" * 129, "caf%C3%A9", "a,b"):
        check(stack.curl("/", "-H", f"x-pico-endpoint: {endpoint}"), 400, "invalid endpoint id")
    check(stack.curl("/", "-H", "Host: _x.example.test"), 400, "invalid endpoint id")


def test_nobody_holds_the_endpoint(stack: Stack) -> None:
    """502 by header and by Host; HEAD gets the head alone."""
    check(stack.curl("/", "-H", "x-pico-endpoint: nobody"), 502, "no available upstreams")
    check(stack.curl("/", "-H", "Host: nobody.example.test"), 502, "no available upstreams")
    client = stack.connect()
    client.send(stack.head("HEAD / HTTP/1.1", endpoint="nobody"))
    response = client.read_response("HEAD")
    assert (response.status, response.body) == (502, b"")
    assert response.get("x-pico-error") is not None


def test_an_error_keeps_the_connection(stack: Stack) -> None:
    """An error that is not the client's framing leaves its keep-alive connection in use, request bodies read."""
    client = stack.connect()
    for body in (b"", b"x" * 5000):
        client.send(stack.head("POST / HTTP/1.1", f"Content-Length: {len(body)}", endpoint="nobody") + body)
        response = client.read_response()
        assert response.status == 502
        assert response.get("connection") in (None, b"keep-alive")
    client.send(stack.head())
    assert client.read_response().status == 200


def test_a_service_that_is_not_there(stage: Stage) -> None:
    """Connection refused by the service: 502, and the hop that says so is the agent."""
    node = stage.node()
    stage.agent(node, {"gone": f"127.0.0.1:{free_port()}"})
    client = connect(node.proxy, tls=stage.tls.context if stage.tls else None)
    for head in (b"GET / HTTP/1.1\r\n", b"POST / HTTP/1.1\r\nContent-Length: 3\r\n"):
        client.send(head + b"Host: gone.example\r\n\r\n" + (b"abc" if b"POST" in head else b""))
        assert check(client.read_response(), 502, None) == "service-unreachable"
    client.close()


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_service_that_hangs_up(stack: Stack, how: str) -> None:
    """A service that ends a fresh connection before its answer: 502 by the agent."""

    def script(connection: Connection) -> None:
        connection.request_head()
        if how == "reset":
            connection.pipe.reset()

    stack.service.script = script
    for extra in ((), ("--data", "x=1")):
        assert check(stack.curl_endpoint("/", *extra), 502, None) == "service-failed"


def test_a_service_that_hangs_up_in_its_head(stack: Stack) -> None:
    """Half a head is no answer: 502."""

    def script(connection: Connection) -> None:
        connection.request_head()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Le")

    stack.service.script = script
    assert check(stack.curl_endpoint(), 502, None) == "service-failed"


def test_a_session_that_ends(stack: Stack) -> None:
    """A session lost in the middle of a call: 502 by the node."""
    peer, endpoint = stack.v2_agent()
    client = stack.connect()
    client.send(stack.head("POST / HTTP/1.1", "Content-Length: 0", endpoint=endpoint))
    peer.next_call()
    peer.vanish()
    check(client.read_response(), 502, "upstream unreachable")


@pytest.mark.parametrize(
    ("name", "head", "status"),
    [
        ("repeated host", "GET / HTTP/1.1\r\nHost: a.b\r\nHost: a.b\r\nx-pico-endpoint: {0}", 400),
        ("no host", "GET / HTTP/1.1\r\nx-pico-endpoint: {0}", 400),
        ("bad host", "GET / HTTP/1.1\r\nHost: a b\r\nx-pico-endpoint: {0}", 400),
        ("repeated endpoint", "GET / HTTP/1.1\r\nHost: a.b\r\nx-pico-endpoint: {0}\r\nX-Pico-Endpoint: {0}", 400),
        ("lengths", "POST / HTTP/1.1\r\nHost: {0}.b\r\nContent-Length: 1\r\nTransfer-Encoding: chunked", 400),
        ("garbage", "this is no request", 400),
        ("long uri", "GET /" + "a" * 8300 + " HTTP/1.1\r\nHost: {0}.b", 414),
        ("long head", "GET / HTTP/1.1\r\nHost: {0}.b\r\nX-Long: " + "a" * 33_000, 431),
        ("many fields", "GET / HTTP/1.1\r\nHost: {0}.b" + "\r\nX: y" * 101, 431),
        ("connect", "CONNECT {0}.b:443 HTTP/1.1\r\nHost: {0}.b:443", 501),
        ("http 2", "GET / HTTP/2.0\r\nHost: {0}.b", 505),
        ("http 3", "GET / HTTP/3.0\r\nHost: {0}.b", 505),
    ],
)
def test_bad_requests(stack: Stack, name: str, head: str, status: int) -> None:
    """Malformed requests get their status in JSON, then the connection is closed; the service sees nothing."""
    client = stack.connect()
    client.send(head.replace("{0}", stack.endpoint).encode() + b"\r\n\r\n")
    response = client.read_response()
    check(response, status, None)
    assert response.get("connection") == b"close"
    assert client.ended()
    assert stack.service.received == b""


def test_curl_sees_the_bad_ones_too(stack: Stack) -> None:
    """Those rows that curl can be made to send: 400, 414, 431, 501."""
    check(stack.curl_endpoint("/", "-H", f"X-Pico-Endpoint: {stack.endpoint}"), 400, None)
    check(stack.curl_endpoint("/" + "a" * 9000), 414, None)
    check(stack.curl_endpoint("/", "-H", "X-Long: " + "a" * 33_000), 431, None)
    check(stack.curl_endpoint("/", "-X", "CONNECT"), 501, None)
    check(stack.curl_endpoint("/", "-H", "Transfer-Encoding: gzip, chunked", "--data", "x"), 400, None)


def test_a_v1_body_that_is_too_large(stack: Stack) -> None:
    """A request body over 16 MiB for a v1 agent: 413, with and without a length; the session goes on."""
    _, endpoint = stack.v1_agent(lambda request: answer(b"small"))
    big = bytes(17 * 1024 * 1024)
    header = ("-H", f"x-pico-endpoint: {endpoint}")
    check(stack.curl("/", *header, "-H", "Expect:", "--data-binary", "@-", data=big), 413, None)
    check(stack.curl("/", *header, "-H", "Expect:", "-T", "-", data=big), 413, None)
    assert stack.curl("/", *header).body == b"small"


SHORT: Settings = {
    # The first byte is waited for a second longer, as for an agent's. What must not time out here moves every 300 ms.
    "proxy": {"timeout": "1s", "head_timeout": "700ms", "keepalive_timeout": "700ms", "idle_timeout": "1500ms"},
    "limits": {"calls": 4},
}


@pytest.fixture(scope="module", params=SHAPES)
def running_short_stack(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, certificates: Tls
) -> Iterator[Shared[Stack]]:
    """Nodes with short timeouts and few calls, and an agent."""
    yield from sharing_stack(request.param, tmp_path_factory, certificates, SHORT)


@pytest.fixture
def short_stack(running_short_stack: Shared[Stack]) -> Iterator[Stack]:
    """Those nodes and that agent, with a recording service of this test's own."""
    result = running_short_stack.get()
    result.begin()
    yield result
    result.end()


def test_no_answer_in_time(short_stack: Stack) -> None:
    """A service that says nothing: 504 upstream timeout, and its connection is dropped."""

    def script(connection: Connection) -> None:
        connection.read_request()
        connection.linger()

    short_stack.service.script = script
    assert check(short_stack.curl_endpoint(), 504, "upstream timeout") == "upstream-timeout"
    assert short_stack.service.wait_connection().gone.wait(PATIENCE_S)


def test_no_answer_of_a_peer_in_time(short_stack: Stack) -> None:
    """An agent that never answers: 504 by the node, and the call is reset with `timeout`; a v1 one, only 504."""
    peer, endpoint = short_stack.v2_agent()
    client = short_stack.connect()
    client.send(short_stack.head(endpoint=endpoint))
    call = peer.next_call().call
    check(client.read_response(), 504, "upstream timeout")
    assert peer.wait_reset(call) == "timeout"
    _, old = short_stack.v1_agent(lambda request: None)
    client.send(short_stack.head(endpoint=old))
    check(client.read_response(), 504, "upstream timeout")


def test_the_timeout_of_a_listener(stage: Stage) -> None:
    """The agent's own timeout for a service answers 504 in the agent's name, well before the node's."""
    service = Service(lambda connection: connection.linger())
    try:
        node = stage.node()
        stage.agent(node, {"mute": {"addr": service.address, "timeout": "300ms"}})
        client = connect(node.proxy, tls=stage.tls.context if stage.tls else None)
        client.send(b"GET / HTTP/1.1\r\nHost: mute.example\r\n\r\n")
        check(client.read_response(), 504, "the service did not respond in time")
        client.close()
    finally:
        service.close()


def test_a_slow_body_is_no_timeout(short_stack: Stack) -> None:
    """The timeout bounds the wait for the first byte: a response and a request that take longer in all pass."""
    pause = threading.Event()

    def script(connection: Connection) -> None:
        connection.request_head()
        connection.body()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n")
        for _ in range(8):
            pause.wait(0.3)
            connection.send(b".")
        connection.linger()

    short_stack.service.script = script
    client = short_stack.connect()
    client.send(short_stack.head("POST / HTTP/1.1", "Content-Length: 8"))
    for _ in range(8):
        pause.wait(0.3)
        client.send(b"!")
    assert client.read_response().body == b"." * 8


def test_interim_heads_restart_the_timeout(short_stack: Stack) -> None:
    """Each 1xx head is progress: an answer that is announced for longer than the timeout still comes."""
    pause = threading.Event()

    def script(connection: Connection) -> None:
        connection.read_request()
        for _ in range(8):
            pause.wait(0.3)
            connection.send(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        connection.send(answer(b"at last"))
        connection.linger()

    short_stack.service.script = script
    response = short_stack.request()
    assert (response.status, response.body, len(response.interim)) == (200, b"at last", 8)


def test_streams_that_stand_still(short_stack: Stack) -> None:
    """Half a response that goes no further is cut, half a request is refused; an upgraded connection may be silent."""

    def script(connection: Connection) -> None:
        request = connection.request_head()
        if request.get("upgrade") is not None:
            connection.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\n")
            connection.send(connection.read(5, 3600))
        elif request.method == b"GET":
            connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        connection.linger()

    short_stack.service.script = script
    silent, reading, sending = (short_stack.connect() for _ in range(3))
    silent.send(short_stack.head("GET / HTTP/1.1", "Connection: Upgrade", "Upgrade: raw"))
    assert silent.read_response().status == 101
    reading.send(short_stack.head("GET / HTTP/1.1"))
    assert reading.response_head().status == 200
    sending.send(short_stack.head("POST / HTTP/1.1", "Content-Length: 10") + b"half")
    with pytest.raises(Broken):
        reading.body()
    check(sending.read_response(), 408, None)
    assert sending.ended()
    silent.send(b"hello")
    assert silent.read(5) == b"hello"
    for connection in short_stack.service.connections[1:]:
        assert connection.gone.wait(PATIENCE_S)


def test_a_head_that_never_ends(short_stack: Stack) -> None:
    """A client that trickles its head is cut off in the end, though each byte is progress of a kind."""
    client = short_stack.connect()
    client.send(b"GET / HTTP/1.1\r\nHost: a.b\r\nX-Slow: ")
    stop = threading.Event()

    def trickle() -> None:
        while not stop.wait(0.05):
            if not client.pipe.send_some(b"a"):
                return

    thread = threading.Thread(target=trickle, daemon=True)
    thread.start()
    # With 50 ms for a byte, the head would take half an hour to reach its limit of size.
    client.wait_gone()
    stop.set()
    assert len(client.received) == 0 or client.received.startswith(b"HTTP/1.1 408 ")


def test_an_idle_connection_is_closed(short_stack: Stack) -> None:
    """A keep-alive connection that asks nothing more is closed without a word."""
    client = short_stack.connect()
    client.send(short_stack.head())
    assert client.read_response().status == 200
    assert client.ended()


def test_too_many_calls(short_stack: Stack) -> None:
    """Beyond limits.calls: 503 with Retry-After; when one call is over there is room again."""
    peer, endpoint = short_stack.v2_agent()
    clients = [short_stack.connect() for _ in range(4)]
    calls = []
    for client in clients:
        # An upgraded connection is a call that no timer ends.
        client.send(short_stack.head("GET / HTTP/1.1", "Connection: Upgrade", "Upgrade: raw", endpoint=endpoint))
        switch = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\n"
        calls.append(peer.next_call().call)
        peer.answer_call(calls[-1], switch, end=False)
        assert client.read_response().status == 101
    got = short_stack.curl("/", "-H", f"x-pico-endpoint: {endpoint}")
    check(got, 503, None)
    assert int(got.headers["retry-after"]) > 0
    for client, call in zip(clients, calls, strict=True):
        client.close()
        peer.answer_call(call, b"")

    def room() -> bool:
        return short_stack.request(endpoint=short_stack.endpoint).status == 200

    wait_until(room, "room for a call")


def test_limits_of_sessions_and_connections(stage: Stage) -> None:
    """Too many sessions: refused in JSON. Too many connections: closed. Too many calls for a session: 503."""
    limits = {"sessions": 1, "connections": 2, "calls_per_session": 1}
    node = stage.node(settings={"limits": limits})
    context = stage.tls.context if stage.tls else None
    peer = v2.Agent(node.upstream, "web", tls=context)
    node.wait_endpoint("web")
    clients: list[Stream] = []
    try:
        with pytest.raises(websocket.Refused) as refused:
            v2.Agent(node.upstream, "other", tls=context)
        assert refused.value.status == 503
        assert json.loads(refused.value.body)["error"]
        clients = [connect(node.proxy, tls=context) for _ in range(2)]
        clients[0].send(b"GET / HTTP/1.1\r\nHost: web.example\r\n\r\n")
        call = peer.next_call().call
        clients[1].send(b"GET / HTTP/1.1\r\nHost: web.example\r\n\r\n")
        check(clients[1].read_response(), 503, None)
        with pytest.raises((Ended, OSError)):
            third = connect(node.proxy, tls=context)
            clients.append(third)
            third.send(b"GET / HTTP/1.1\r\nHost: web.example\r\n\r\n")
            response = third.read_response()
            assert response.status == 503
            raise Ended(None, "an answer of 503 is as good", clean=True)
        peer.answer_call(call, answer(b"ok"))
        assert clients[0].read_response().body == b"ok"
    finally:
        for client in clients:
            client.close()
        peer.vanish()


def test_too_much_memory(stage: Stage) -> None:
    """Beyond limits.buffered_bytes new calls get 503; when the buffers are empty again there is room.

    Half of the limit may be one large window, and each of the other half is 256 KiB at most.
    """
    big = bytes(8 << 20)
    service = Service()
    service.handler = lambda request: answer(big if request.target == b"/big" else b"small")
    clients = []
    try:
        node = stage.node(settings={"limits": {"buffered_bytes": "2MiB", "v1_body_bytes": "256KiB"}})
        stage.agent(node, {"web": service.address})
        context = stage.tls.context if stage.tls else None

        def ask(path: bytes) -> Response:
            client = connect(node.proxy, tls=context)
            try:
                client.send(b"GET %b HTTP/1.1\r\nHost: web.example\r\n\r\n" % path)
                return client.read_response()
            finally:
                client.close()

        def refused() -> Response | None:
            # One more slow reader at a time, until there are enough of them.
            client = connect(node.proxy, tls=context, receive_buffer=8192)
            clients.append(client)
            client.send(b"GET /big HTTP/1.1\r\nHost: web.example\r\n\r\n")
            response = ask(b"/small")
            return response if response.status != 200 else None

        response = wait_until(refused, "a refusal")
        check(response, 503, None)
        assert response.get("retry-after") is not None
        assert len(clients) >= 4, "2 MiB hold more than a few windows"
        for client in clients:
            client.close()
        wait_until(lambda: ask(b"/small").status == 200, "room again")
    finally:
        for client in clients:
            client.close()
        service.close()


def test_a_client_that_left_is_logged_as_499(stack: Stack) -> None:
    """The access log has a line with 499 for a client that went before its answer."""

    def script(connection: Connection) -> None:
        connection.read_request()
        connection.linger()

    stack.service.script = script
    client = stack.connect()
    client.send(stack.head("GET /left HTTP/1.1", "X-Request-Id: left-early-1"))
    stack.service.wait_request()
    client.close()

    def logged() -> bool:
        return any("left-early-1" in line and "499" in line for line in stack.node.output.splitlines())

    wait_until(logged, "an access log line with 499")
