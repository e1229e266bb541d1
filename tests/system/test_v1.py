"""The wire format of 2024: a v1 agent at our node, our agent at a v1 server. The peers know only its description."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable

import pytest

from tests.peers import frames, v1
from tests.peers.pipe import PATIENCE_S, Ended
from tests.system.names import short
from tests.system.service import Connection, Service, answer, chunk
from tests.system.shapes import whole_in_plain
from tests.system.stack import Stack
from tests.system.wire import Request, parse_head, parse_requests
from tools.stage.nodes import Agent
from tools.stage.processes import Process
from tools.stage.stage import Stage

OK = answer(b"from a v1 agent")


# -- a v1 agent at our node


def test_a_v1_agent_serves(stack: Stack) -> None:
    """Without subprotocol, in 4 KiB fragments, an agent of 2024 serves; its requests are whole messages."""
    seen: list[bytes] = []

    def serve(request: bytes) -> bytes:
        seen.append(request)
        return OK

    agent, endpoint = stack.v1_agent(serve)
    assert agent.answer.get("sec-websocket-protocol") is None
    assert agent.answer.get("x-pico-node-id") == stack.agents_node.name
    got = stack.curl("/v1?x", "-H", f"x-pico-endpoint: {endpoint}", "--data", "a=1")
    assert (got.code, got.status, got.body) == (0, 200, b"from a v1 agent")
    (request,) = parse_requests(seen[0])
    assert (request.method, request.target, request.body) == (b"POST", b"/v1?x", b"a=1")


def test_a_v1_agent_serves_large_bodies(stack: Stack) -> None:
    """Five megabytes each way, in more than a thousand fragments."""
    _, endpoint = stack.v1_agent(lambda request: answer(parse_requests(request)[0].body))
    body = bytes(range(256)) * 20_000
    got = stack.curl("/", "-H", f"x-pico-endpoint: {endpoint}", "--data-binary", "@-", data=body)
    assert (got.status, got.body == body) == (200, True)


def test_a_v1_agent_gets_whole_requests(stack: Stack) -> None:
    """A chunked upload reaches a v1 agent as one complete message, though its pieces came one by one."""
    _, endpoint = stack.v1_agent(lambda request: answer(parse_requests(request)[0].body))
    client = stack.connect()
    client.send(stack.head("POST / HTTP/1.1", "Transfer-Encoding: chunked", endpoint=endpoint))
    for piece in (b"one ", b"two ", b"three"):
        client.send(chunk(piece))
    client.send(chunk(b""))
    assert client.read_response().body == b"one two three"


def test_a_v1_agent_and_expect(stack: Stack) -> None:
    """Over v1 the node itself says 100, because the whole body must be there before the agent hears of it."""
    _, endpoint = stack.v1_agent(lambda request: answer(parse_requests(request)[0].body))
    client = stack.connect()
    client.send(stack.head("PUT / HTTP/1.1", "Expect: 100-continue", "Content-Length: 4", endpoint=endpoint))
    assert client.response_head().status == 100
    client.send(b"body")
    assert client.read_response().body == b"body"


@pytest.mark.parametrize(
    ("payload", "body"),
    [
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(b"one") + chunk(b"two") + chunk(b""),
            b"onetwo",
        ),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nto the payload's end", b"to the payload's end"),
        (b"HTTP/1.0 200 OK\r\n\r\nold", b"old"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b""),
    ],
    ids=short,
)
def test_forms_of_v1_responses(stack: Stack, payload: bytes, body: bytes) -> None:
    """Chunked, with a length, up to the payload's end: each is a complete HTTP/1.1 response."""
    _, endpoint = stack.v1_agent(lambda request: payload)
    client = stack.connect()
    for _ in range(2):
        client.send(stack.head(endpoint=endpoint))
        response = client.read_response()
        assert (response.status // 100, response.body) == (2, body)


def test_a_v1_response_to_head(stack: Stack) -> None:
    """HEAD over v1: the head with its length, and nothing behind it."""
    _, endpoint = stack.v1_agent(lambda request: b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n")
    client = stack.connect()
    for _ in range(2):
        client.send(stack.head("HEAD / HTTP/1.1", endpoint=endpoint))
        assert client.read_response("HEAD").length == 500


def test_a_v1_agents_own_error(stack: Stack) -> None:
    """An error that begins HTTP/0.0 reaches the client as HTTP/1.1 with its status and text."""
    _, endpoint = stack.v1_agent(lambda request: v1.own_error("dial tcp: connection refused"))
    got = stack.curl("/", "-H", f"x-pico-endpoint: {endpoint}")
    assert (got.code, got.status, got.body) == (0, 502, b"dial tcp: connection refused")
    assert got.heads[-1][0].startswith("HTTP/1.1 502")


def test_v1_answers_out_of_order(stack: Stack) -> None:
    """Twenty calls answered in the reverse order come back each to its own client."""
    events = [threading.Event() for _ in range(20)]

    def serve(request: bytes) -> bytes:
        number = int(parse_requests(request)[0].target[1:])
        assert events[number].wait(PATIENCE_S)
        return answer(b"answer %d" % number)

    agent, endpoint = stack.v1_agent(serve)
    clients = [stack.connect() for _ in events]
    for number, client in enumerate(clients):
        client.send(stack.head(f"GET /{number} HTTP/1.1", endpoint=endpoint))
    agent.wait_http(len(events) - 1)
    for number in reversed(range(len(events))):
        events[number].set()
        assert clients[number].read_response().body == b"answer %d" % number


def test_v1_heartbeats_in_both_directions(stack: Stack) -> None:
    """The node heartbeats at once, and echoes those that a v1 agent sends by itself."""
    agent, _ = stack.v1_agent(lambda request: OK)
    seen = agent.wait_for(lambda all_frames: any(frame.kind == frames.HEARTBEAT for frame in all_frames))
    first = next(frame for frame in seen if frame.kind == frames.HEARTBEAT)
    assert not first.response and len(first.payload) <= 125
    for payload in (b"", b"ping"):
        frame = agent.call(frames.HEARTBEAT, payload)
        assert (frame.flags, frame.payload) == (frames.RESPONSE, payload)


@whole_in_plain("kind", [3, 5, 6, 0, 255, 65535], in_all=["255"])
def test_unknown_types_of_a_v1_agent(stack: Stack, kind: int) -> None:
    """A call of a type that is not served here is answered 0xC000 without payload, and the session goes on."""
    agent, endpoint = stack.v1_agent(lambda request: OK)
    frame = agent.call(kind, b"payload")
    assert (frame.flags, frame.payload) == (0xC000, b"")
    assert stack.request(endpoint=endpoint).body == b"from a v1 agent"


def test_unknown_flags_of_a_v1_agent(stack: Stack) -> None:
    """Flags that v1 does not know are ignored, those of v2 included."""
    agent, endpoint = stack.v1_agent(lambda request: None)
    for number, flags in enumerate((frames.MORE, frames.CREDIT, frames.RESET, 0x07FF)):
        client = stack.connect()
        client.send(stack.head(endpoint=endpoint))
        agent.send(frames.HTTP, agent.wait_http(number).call, frames.RESPONSE | flags, OK)
        assert client.read_response().body == b"from a v1 agent"


def test_late_and_stray_frames_of_a_v1_agent(stack: Stack) -> None:
    """An answer to a call whose client has left is dropped, and so is one that comes twice."""
    release = threading.Event()

    def serve(request: bytes) -> bytes:
        if b"GET /slow" in request:
            assert release.wait(PATIENCE_S)
        return OK

    agent, endpoint = stack.v1_agent(serve)
    client = stack.connect()
    client.send(stack.head("GET /slow HTTP/1.1", endpoint=endpoint))
    slow = agent.wait_http()
    client.close()
    assert stack.request(endpoint=endpoint).body == b"from a v1 agent"
    release.set()
    agent.send(frames.HTTP, slow.call, frames.RESPONSE, OK)
    agent.send(frames.HTTP, slow.call, frames.RESPONSE, OK)
    assert agent.call(frames.HEARTBEAT).flags == frames.RESPONSE
    assert stack.request(endpoint=endpoint).body == b"from a v1 agent"


def test_an_upgrade_over_v1(stack: Stack) -> None:
    """v1 has no upgrades: the request goes on as a plain one, and its answer is an ordinary one."""
    seen: list[Request] = []

    def serve(request: bytes) -> bytes:
        seen.append(parse_requests(request)[0])
        return OK

    _, endpoint = stack.v1_agent(serve)
    client = stack.connect()
    client.send(stack.head("GET / HTTP/1.1", "Connection: Upgrade", "Upgrade: websocket", endpoint=endpoint))
    assert client.read_response().body == b"from a v1 agent"
    assert b"upgrade" not in seen[0].names


def test_a_switch_of_protocols_over_v1_is_no_answer(stack: Stack) -> None:
    """101 as a v1 answer is nonsense: 502, and nothing behind it reaches the client."""
    _, endpoint = stack.v1_agent(
        lambda request: b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\nraw bytes"
    )
    client = stack.connect()
    client.send(stack.head("GET / HTTP/1.1", "Connection: Upgrade", "Upgrade: raw", endpoint=endpoint))
    assert client.read_response().status == 502
    assert b"raw bytes" not in client.received


LONG_HEAD = b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000 + b"\r\n\r\n"


@whole_in_plain(
    "payload",
    [
        b"",
        b"garbage",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhal",
        LONG_HEAD,
        b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 999 What\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: a\r\n b\r\n\r\nok",
    ],
    in_all=["empty", "garbage", short(LONG_HEAD)],
)
def test_bad_v1_answers_cost_one_call(stack: Stack, payload: bytes) -> None:
    """A payload that is not exactly one response is a 502, or a broken transfer; the session goes on.

    Where one whole response stands in front of more, the client may have that one.
    """
    _, endpoint = stack.v1_agent(lambda request: OK if b"GET /good" in request else payload)
    got = stack.curl("/bad", "-H", f"x-pico-endpoint: {endpoint}")
    assert got.status == 502 or got.code in (18, 56) or (got.body == b"ok" and b"evil" in payload), got
    assert b"evil" not in got.body
    assert stack.request("GET /good HTTP/1.1", endpoint=endpoint).body == b"from a v1 agent"


def test_a_v1_answer_that_is_too_large(stack: Stack) -> None:
    """A response body over 16 MiB is a 502, and only that: the session serves on."""
    limit = 16 * 1024 * 1024
    _, endpoint = stack.v1_agent(
        lambda request: OK if b"GET /good" in request else answer(bytes(limit + 1)), fragment=65536
    )
    got = stack.curl("/big", "-H", f"x-pico-endpoint: {endpoint}")
    assert got.status == 502
    assert stack.request("GET /good HTTP/1.1", endpoint=endpoint).body == b"from a v1 agent"


def test_a_v1_answer_of_the_largest_size(stack: Stack) -> None:
    """A response body of exactly 16 MiB passes."""
    limit = 16 * 1024 * 1024
    _, endpoint = stack.v1_agent(lambda request: answer(bytes(limit)), fragment=65536)
    got = stack.curl("/big", "-H", f"x-pico-endpoint: {endpoint}")
    assert (got.code, got.status, len(got.body)) == (0, 200, limit)


def test_a_v1_message_that_is_too_large(stack: Stack) -> None:
    """A WebSocket message over 16 MiB and 64 KiB is a 502 that says so, fragmented or not; the session serves on."""
    for fragment in (None, 65536):
        _, endpoint = stack.v1_agent(
            lambda request: OK if b"GET /good" in request else bytes(frames.MAX_V1_MESSAGE_BYTES + 1),
            fragment=fragment,
        )
        client = stack.connect()
        client.send(stack.head("POST /big HTTP/1.1", "Content-Length: 0", endpoint=endpoint))
        response = client.read_response()
        assert (response.status, "too large" in json.loads(response.body)["error"]) == (502, True)
        assert stack.request("GET /good HTTP/1.1", endpoint=endpoint).body == b"from a v1 agent"


def test_a_v1_agent_that_vanishes(stack: Stack) -> None:
    """TCP closed without a close frame: the call in flight is a 502, and the endpoint is gone."""
    started = threading.Event()

    def serve(request: bytes) -> None:
        started.set()

    agent, endpoint = stack.v1_agent(serve)
    client = stack.connect()
    client.send(stack.head("POST / HTTP/1.1", "Content-Length: 1", endpoint=endpoint) + b"x")
    assert started.wait(PATIENCE_S)
    agent.vanish()
    response = client.read_response()
    assert (response.status, json.loads(response.body)["error"]) == (502, "upstream unreachable")
    stack.wait_gone(endpoint)


def test_v1_and_v2_agents_share_an_endpoint(stack: Stack) -> None:
    """Registrations of both versions serve one endpoint in turn."""
    _, endpoint = stack.v1_agent(lambda request: answer(b"old"))
    new, _ = stack.v2_agent(endpoint)
    stack.wait_endpoint(endpoint, 2)

    def serve_new() -> None:
        try:
            while True:
                new.answer_call(new.next_call().call, answer(b"new"))
        except Ended:
            pass

    threading.Thread(target=serve_new, daemon=True).start()
    bodies = {stack.request(endpoint=endpoint).body for _ in range(6)}
    assert bodies == {b"old", b"new"}


# -- our agent at a v1 server


class Old:
    """Our agent, connected to a v1 server."""

    def __init__(self, stage: Stage, fragment: int | None) -> None:
        tls = stage.tls
        context = tls.authority.server_context(tls.pair) if tls else None
        self.service = Service()
        self.server = v1.Server(tls=context, fragment=fragment)
        url = f"{'https' if tls else 'http'}://localhost:{self.server.port}"
        self.agent: Agent = stage.agent(url, {"old": self.service.address})
        self.session = self.server.wait_session("old")

    def http(self, head: bytes, body: bytes = b"") -> tuple[int, bytes]:
        """Status and body of a call; the answer is checked to be one whole message with a length."""
        response = self.session.http(head + b"\r\nHost: a.example\r\n\r\n" + body)
        head, _, rest = response.partition(b"\r\n\r\n")
        line, fields = parse_head(head + b"\r\n\r\n")
        lengths = [int(value) for name, value in fields if name.lower() == b"content-length"]
        assert line.startswith(b"HTTP/1.1 ")
        assert not any(name.lower() == b"transfer-encoding" for name, _ in fields)
        status = int(line.split(b" ")[1])
        if status not in (204, 304):
            assert len(lengths) == 1
        return status, rest

    def close(self) -> None:
        """The end."""
        self.server.close()
        self.service.close()


@pytest.fixture(params=[v1.FRAGMENT_BYTES, None], ids=["fragments", "whole"])
def old(request: pytest.FixtureRequest, stage: Stage) -> Callable[[], Old]:
    """Makes our agent connect to a v1 server, which sends fragments or whole messages."""
    made: list[Old] = []

    def make() -> Old:
        made.append(Old(stage, request.param))
        request.addfinalizer(made[-1].close)
        return made[-1]

    return make


def test_our_agent_serves_a_v1_server(old: Callable[[], Old]) -> None:
    """Everything that one session over v1 should do, one after the other; nothing of it ends the session."""
    peer = old()
    offer = peer.server.offers[0]
    assert offer.subprotocols == ["pico.v2"]
    assert offer.get("x-pico-agent-id") == "agent-1"
    assert offer.get("x-pico-slot") is not None

    # Requests with and without a body, with a length and chunked, small and large.
    assert peer.http(b"GET /hello HTTP/1.1") == (200, Service.hello(Request([], 1)).partition(b"\r\n\r\n")[2])
    peer.service.handler = lambda request: answer(request.method + b" " + request.body)
    assert peer.http(b"POST / HTTP/1.1\r\nContent-Length: 3", b"abc") == (200, b"POST abc")
    chunks = chunk(b"one ") + chunk(b"two") + chunk(b"")
    assert peer.http(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked", chunks) == (200, b"POST one two")
    big = bytes(range(256)) * 8000
    assert peer.http(b"PUT / HTTP/1.1\r\nContent-Length: %d" % len(big), big) == (200, b"PUT " + big)

    # Answers of every framing become one whole message.
    peer.service.handler = lambda request: (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(b"x" * 70_000) + chunk(b"")
    )
    assert peer.http(b"GET / HTTP/1.1") == (200, b"x" * 70_000)
    peer.service.handler = lambda request: answer(status=204, reason="No Content")
    assert peer.http(b"GET / HTTP/1.1") == (204, b"")
    peer.service.handler = lambda request: b"HTTP/1.1 103 Early Hints\r\n\r\n" + answer(b"after hints")
    assert peer.http(b"GET / HTTP/1.1") == (200, b"after hints")
    peer.service.handler = lambda request: answer(b"x" * 5)[:-5]
    assert peer.session.http(b"HEAD / HTTP/1.1\r\nHost: a.example\r\n\r\n").endswith(b"\r\n\r\n")

    # A body that is larger than v1 allows is 502, and a service that dies half-way is no short success.
    peer.service.handler = lambda request: answer(bytes(16 * 1024 * 1024 + 1))
    assert peer.http(b"GET / HTTP/1.1")[0] == 502

    def die(connection: Connection) -> None:
        connection.read_request()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")

    peer.service.reset()
    peer.service.script = die
    assert peer.http(b"GET / HTTP/1.1")[0] == 502
    peer.service.reset()

    # Malformed requests cost one call.
    for bad in (
        b"",
        b"garbage",
        b"GET / HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nx",
    ):
        response = peer.session.http(bad)
        assert response.startswith((b"HTTP/1.1 4", b"HTTP/1.1 5")), (bad, response)
    two = b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
    peer.session.http(two)
    assert b"/smuggled" not in peer.service.received

    # A request that is larger than v1 allows is 413.
    size = 17 * 1024 * 1024
    assert peer.http(b"POST / HTTP/1.1\r\nContent-Length: %d" % size, bytes(size))[0] == 413

    # Unknown types, unknown flags, heartbeats.
    assert peer.session.call(7, b"x").flags == 0xC000
    assert peer.session.call(frames.TCP, b"old").flags == 0xC000
    assert peer.session.call(frames.HEARTBEAT, b"beat").payload == b"beat"
    assert peer.http(b"GET /still HTTP/1.1")[0] == 200
    assert len(peer.server.sessions["old"]) == 1


def test_concurrent_calls_over_v1(old: Callable[[], Old]) -> None:
    """Fifty calls at once from a v1 server come back each to its own, out of order."""
    peer = old()
    late = threading.Event()

    def handler(request: Request) -> bytes:
        number = int(request.target[1:])
        if number < 25:
            assert late.wait(PATIENCE_S)
        return answer(b"%d" % number)

    peer.service.handler = handler
    answers: dict[int, tuple[int, bytes]] = {}

    def ask(number: int) -> None:
        answers[number] = peer.http(b"GET /%d HTTP/1.1" % number)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads[25:]:
        thread.join(PATIENCE_S)
    late.set()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert answers == {number: (200, b"%d" % number) for number in range(50)}


def test_our_agent_comes_back_to_a_v1_server(old: Callable[[], Old]) -> None:
    """A v1 server that drops TCP without a close frame is connected to again."""
    peer = old()
    peer.session.vanish()
    peer.session = peer.server.wait_session("old", 1)
    assert peer.http(b"GET / HTTP/1.1")[0] == 200


def test_our_agent_drains_a_v1_session(old: Callable[[], Old]) -> None:
    """SIGTERM with a call in flight over v1: the call is answered, then the agent closes and ends with 0."""
    peer = old()
    go_on = threading.Event()

    def handler(request: Request) -> bytes:
        assert go_on.wait(PATIENCE_S)
        return answer(b"finished")

    peer.service.handler = handler
    answers: list[tuple[int, bytes]] = []
    caller = threading.Thread(target=lambda: answers.append(peer.http(b"GET / HTTP/1.1")))
    caller.start()
    peer.service.wait_request()
    process: Process = peer.agent
    process.terminate()
    go_on.set()
    caller.join(PATIENCE_S)
    assert answers == [(200, b"finished")]
    assert process.wait_exit() == 0
    assert peer.session.wait_ended().clean
