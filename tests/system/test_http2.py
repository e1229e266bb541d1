"""HTTP/2 at the proxy port, with real clients: curl, nghttp, httpx, and hyper-h2 by hand."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx

from tests.peers.http2_client import Http2Client, StreamPipe
from tests.peers.pipe import PATIENCE_S, Ended
from tests.peers.websocket import WebSocket
from tests.system.service import Connection, Service, answer
from tests.system.stack import Stack
from tests.system.test_upgrades import websocket_echo
from tests.system.wire import Request
from tools.stage.processes import environment, find_program
from tools.stage.stage import Stage
from tools.stage.waiting import wait_until

MEGABYTE = bytes(range(256)) * 4096


def told(request: Request) -> bytes:
    """What a request was, as JSON."""
    names = ("method", "target", "host", "x-forwarded-proto", "cookie")
    values = (request.method, request.target, *((request.get(name) or b"") for name in names[2:]))
    parts = dict(zip(names, (value.decode("latin-1") for value in values), strict=True))
    return answer(json.dumps({**parts, "body": len(request.body)}).encode())


@contextlib.contextmanager
def client_of(stack: Stack, window: int = 65_535) -> Iterator[Http2Client]:
    """A client of the stack, by hand."""
    client = Http2Client(stack.node.proxy, ca=stack.tls.authority.ca if stack.tls else None, window=window)
    with contextlib.closing(client):
        yield client


def test_curl(stack: Stack) -> None:
    """curl speaks HTTP/2 over TLS unasked, and without TLS when it is told to: methods, bodies, errors."""
    stack.service.handler = told
    version = "--http2" if stack.tls else "--http2-prior-knowledge"
    got = stack.curl_endpoint("/a?b=1", version, "-b", "x=1; y=2")
    assert got.heads[-1][0].strip() == "HTTP/2 200"
    assert got.json == {
        "method": "GET",
        "target": "/a?b=1",
        "host": f"127.0.0.1:{stack.node.ports.proxy}",
        "x-forwarded-proto": "https" if stack.tls else "http",
        "cookie": "x=1; y=2",
        "body": 0,
    }
    assert stack.curl_endpoint("/", version, "--head").status == 200
    for arguments in (["--data-binary", "@-"], ["-T", "-"], ["--data-binary", "@-", "-H", "Expect: 100-continue"]):
        got = stack.curl_endpoint("/up", version, *arguments, data=MEGABYTE * 3)
        assert (got.code, got.json["body"]) == (0, 3 * len(MEGABYTE)), got
    stack.service.handler = lambda request: answer(MEGABYTE * 5)
    got = stack.curl_endpoint("/down", version)
    assert got.code == 0 and got.body == MEGABYTE * 5
    got = stack.curl("/", version, "-H", "x-pico-endpoint: nobody")
    assert (got.status, got.headers["x-pico-error"]) == (502, f"{stack.node.name}; no-upstreams")
    assert stack.curl_endpoint("/", "--http1.1").heads[-1][0].startswith("HTTP/1.1 200")


def test_the_access_log(stack: Stack) -> None:
    """A line says what the client spoke."""
    version = "--http2" if stack.tls else "--http2-prior-knowledge"
    assert stack.curl_endpoint("/of-http2", version).status == 200
    wait_until(lambda: '"/of-http2","protocol":"HTTP/2.0"' in stack.node.output, "the line of the request")
    assert stack.node.admin.metric("pico_http2_requests_total") >= 1


def test_nghttp(stack: Stack) -> None:
    """A hundred requests beside each other, by the client of nghttp2."""
    stack.service.handler = lambda request: answer(b"%b\n" % request.target)
    urls = [stack.node.url(f"/{number}") for number in range(100)]
    command = [
        find_program("nghttp", "nghttp2-client"),
        "--no-verify-peer",
        "-H",
        f"x-pico-endpoint: {stack.endpoint}",
        *urls,
    ]
    run = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, env=environment(), check=True)
    assert sorted(run.stdout.split()) == sorted(f"/{number}" for number in range(100)), run.stderr


def test_httpx(stack: Stack) -> None:
    """A client library of Python, whose requests share a connection."""
    stack.service.handler = told
    verify = ssl.create_default_context(cafile=str(stack.tls.authority.ca)) if stack.tls else True
    url = f"{'https' if stack.tls else 'http'}://localhost:{stack.node.ports.proxy}"

    async def post_all() -> list[object]:
        async with httpx.AsyncClient(
            http1=False, http2=True, verify=verify, trust_env=False, timeout=PATIENCE_S
        ) as client:

            async def post(number: int) -> object:
                name = {"x-pico-endpoint": stack.endpoint}
                got = await client.post(f"{url}/{number}", content=bytes(number), headers=name)
                return got.http_version, got.status_code, got.json()["target"], got.json()["body"]

            return await asyncio.gather(*map(post, range(0, 4000, 100)))

    found = asyncio.run(post_all())
    assert found == [("HTTP/2", 200, f"/{number}", number) for number in range(0, 4000, 100)]


def test_one_that_stands_still(stack: Stack) -> None:
    """Of a hundred streams one is not read: the others are whole, and little is held for it."""
    stack.service.handler = lambda request: answer(MEGABYTE * 5 if request.target == b"/slow" else b"x" * 50_000)
    with client_of(stack) as client:
        slow = client.request(b"/slow", endpoint=stack.endpoint)
        client.not_taken.add(slow)
        quick = [client.request(b"/quick", endpoint=stack.endpoint) for _ in range(99)]
        assert {(one.status, len(one.body), one.ended) for one in client.wait(*quick)} == {(200, 50_000, True)}
        assert not client.answers[slow].over
        assert stack.node.admin.metric("pico_buffered_bytes") < 4 * 1024 * 1024
        client.not_taken.clear()
        client.take(slow, 2**30)
        assert client.wait(slow)[0].body == MEGABYTE * 5


def test_a_slow_upload(stack: Stack) -> None:
    """A service that does not read its request disturbs no other."""
    go_on = threading.Event()

    def script(connection: Connection) -> None:
        request = connection.request_head()
        if request.target == b"/slow":
            go_on.wait(PATIENCE_S)
        request.body = connection.body(PATIENCE_S)
        connection.send(told(request))

    stack.service.script = script
    with client_of(stack) as client:
        slow = client.request(b"/slow", endpoint=stack.endpoint, method=b"POST", body=None)
        sent = 0
        with contextlib.suppress(TimeoutError):  # then no window was opened any more
            while sent < 10_000_000:
                while (size := min(client.h2.local_flow_control_window(slow), 16_384)) > 0:
                    client.send(slow, bytes(size))
                    sent += size
                client.read(0.3)
        quick = client.request(b"/quick", endpoint=stack.endpoint, method=b"POST", body=MEGABYTE)
        assert json.loads(client.wait(quick)[0].body)["body"] == len(MEGABYTE)
        go_on.set()
        client.send(slow, b"", ended=True)
        assert json.loads(client.wait(slow)[0].body)["body"] == sent


def test_trailers_and_interim_heads(stack: Stack) -> None:
    """Both ways, in their places."""

    def script(connection: Connection) -> None:
        request = connection.read_request()
        connection.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n")
        assert request.trailers == [(b"x-sum", b"1")], request.trailers
        connection.send(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-status\r\n\r\n"
            b"4\r\nbody\r\n0\r\nx-status: fine\r\n\r\n"
        )
        connection.linger()

    stack.service.script = script
    with client_of(stack) as client:
        stream = client.request(b"/", (b"te", b"trailers"), endpoint=stack.endpoint, method=b"POST", body=None)
        client.send(stream, b"some")
        client.trailers(stream, [(b"x-sum", b"1")])
        (got,) = client.wait(stream)
    assert [head[b":status"] for head in got.heads] == [b"103", b"200"] and got.heads[0][b"link"] == b"</a.css>"
    assert (got.body, got.trailers, got.ended) == (b"body", {b"x-status": b"fine"}, True)


def test_a_websocket(stack: Stack) -> None:
    """RFC 8441: a WebSocket on a stream, beside requests on others."""
    stack.service.script = websocket_echo
    with client_of(stack) as client:
        stream = client.websocket(b"/ws", (b"sec-websocket-protocol", b"chat"), endpoint=stack.endpoint)
        (head,) = client.answers[stream].heads
        assert head[b":status"] == b"200" and head[b"sec-websocket-protocol"] == b"chat"
        pipe = StreamPipe(client, stream)
        socket = WebSocket(pipe, client=True)
        for message in (b"text", MEGABYTE, b""):
            socket.send(message)
            assert socket.receive(PATIENCE_S)[1] == message


def test_ends(stack: Stack) -> None:
    """A response that is cut is reset; a client that gives up ends the service's connection."""

    def script(connection: Connection) -> None:
        request = connection.read_request()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nsome")
        if request.target == b"/cut":
            connection.pipe.close()
        else:
            connection.linger()

    stack.service.script = script
    with client_of(stack) as client:
        cut = client.request(b"/cut", endpoint=stack.endpoint)
        (got,) = client.wait(cut)
        assert (got.status, got.body, got.ended, got.reset) == (200, b"some", False, 2)
        given_up = client.request(b"/wait", endpoint=stack.endpoint)
        while not client.answers[given_up].body:
            client.read()
        connection = stack.service.wait_connection(1)
        client.reset(given_up)
        assert connection.gone.wait(PATIENCE_S)


def test_a_node_that_drains(stage: Stage, service: Service) -> None:
    """Requests that go on while a node stops are all answered, those that came too late by another node."""
    first = stage.node("n1")
    second = stage.node("n2", {"cluster": {"join": [f"127.0.0.1:{first.ports.gossip}"]}})
    stage.agent(second, {"web": service.address})
    ca = stage.tls.authority.ca if stage.tls else None
    service.handler = lambda request: answer(request.target)
    wait_until(lambda: Http2Ask(first.proxy, ca).get(b"/") == b"/", "the endpoint at the first node")
    stopping = threading.Event()
    moved = threading.Event()

    def load(number: int) -> int:
        ask, served = Http2Ask(first.proxy, ca), 0
        while served < 40 or not moved.is_set():
            paths = [b"/%d/%d/%d" % (number, served, one) for one in range(5)]
            found = ask.get_all(paths)
            late = [path for path in paths if path not in found]
            if late or ask.leaves:
                ask.close()
                ask = Http2Ask(second.proxy, ca)
                moved.set()
                assert set(ask.get_all(late)) == set(late)
            served += len(paths)
            if served >= 20:
                stopping.set()
        ask.close()
        return served

    with ThreadPoolExecutor(3) as pool:
        loads = [pool.submit(load, number) for number in range(3)]
        assert stopping.wait(PATIENCE_S)
        first.terminate()
        assert all(one.result(PATIENCE_S) >= 40 for one in loads)
    wait_until(lambda: not first.running, "the first node to end")


class Http2Ask:
    """Requests for the endpoint `web` on one connection, and whether it goes on."""

    def __init__(self, address: tuple[str, int], ca: object) -> None:
        self._client = Http2Client(address, ca=ca)  # type: ignore[arg-type]

    @property
    def leaves(self) -> bool:
        """The node takes no more requests here."""
        return self._client.last_stream is not None

    def get(self, path: bytes) -> bytes:
        """The body of one answer."""
        with contextlib.closing(self):
            return self.get_all([path]).get(path, b"")

    def get_all(self, paths: list[bytes]) -> dict[bytes, bytes]:
        """The bodies of those answers that came whole, by path. What is missing was not begun.

        Raises:
            AssertionError: something was begun and not finished.
        """
        asked = {}
        for path in paths:
            if not self.leaves:
                asked[self._client.request(path, endpoint="web")] = path
        with contextlib.suppress(Ended):
            self._client.wait(*asked)
        last = self._client.last_stream
        found = {}
        for stream, path in asked.items():
            got = self._client.answers[stream]
            if last is None or stream <= last:
                assert got.ended and got.status in (200, 502), (stream, last, vars(got))
                found[path] = bytes(got.body)
        return found

    def close(self) -> None:
        """The end of the connection."""
        self._client.close()
