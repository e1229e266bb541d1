"""Our agent against a raw v2 server: it serves what is right, and survives whatever the server sends."""

from __future__ import annotations

import json
import struct
import threading
from collections.abc import Callable, Iterator

import pytest

from tests.peers import frames, v2, websocket
from tests.peers.frames import CREDIT, HTTP, MORE, RESET, RESPONSE, TRAILERS, WINDOW_BYTES
from tests.peers.pipe import PATIENCE_S, Ended
from tests.system.names import short
from tests.system.service import Connection, Service, answer, chunk
from tests.system.shared import Shared
from tests.system.wire import parse_head, parse_requests
from tools.stage.certificates import Tls
from tools.stage.nodes import Agent
from tools.stage.stage import Stage

GET = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 5\r\n\r\n"
OPEN_POST = b"POST / HTTP/1.1\r\nHost: a.example\r\n\r\n"


class Rig:
    """An agent, the raw server it is connected to, and the recording service behind it.

    Attributes:
        node: the raw server's end of the agent's newest session.
    """

    def __init__(self, stage: Stage) -> None:
        tls = stage.tls
        self.stage = stage
        self.service = Service()
        self.server = v2.Server(tls=tls.authority.server_context(tls.pair) if tls else None, capabilities="trailers")
        self._url = f"{'wss' if tls else 'ws'}://localhost:{self.server.port}"
        self._start()

    def _start(self) -> None:
        first = len(self.server.peers)
        self._first = first
        self.agent: Agent = self.stage.agent(self._url, {"web": self.service.address})
        self.node = self.server.wait_peer(first)

    def begin(self) -> None:
        """Before a test: the service as new, the session open."""
        self.service.reset()
        self.stage.new_faults()
        if len(self.server.peers) - self._first > 3:
            # Each lost session lets the agent wait longer for the next; a new one waits little again.
            self.agent.close()
            self._start()
            return
        self.node = self.server.peers[-1]
        while self.node.ended is not None:
            self.node = self.server.wait_peer(self.server.peers.index(self.node) + 1)

    def end(self) -> None:
        """After a test: the agent lives, and logged no exception that nobody handled."""
        errors = self.service.errors()
        self.service.reset()
        assert errors == []
        assert self.agent.running, self.stage.tail()
        assert self.stage.new_faults() == []

    def next_session(self) -> v2.Peer:
        """The session that the agent opens after the current one has ended."""
        self.node = self.server.wait_peer(self.server.peers.index(self.node) + 1)
        return self.node

    def serves(self) -> None:
        """Prove that the current session still carries calls, to a service that answers as at the start."""
        self.service.reset()
        assert status(self.node.http(GET)) == 200

    def close(self) -> None:
        """The end."""
        self.stage.close()
        self.server.close()
        self.service.close()


def status(response: bytes) -> int:
    """The status of a response stream."""
    line, _ = parse_head(response.partition(b"\r\n\r\n")[0] + b"\r\n\r\n")
    return int(line.split(b" ")[1])


def body_of(response: bytes) -> bytes:
    """What follows the head."""
    return response.partition(b"\r\n\r\n")[2]


@pytest.fixture(scope="module", params=["plain", "tls"])
def running_rig(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, certificates: Tls
) -> Iterator[Shared[Rig]]:
    """One agent for all tests of this file."""
    tls = certificates if request.param == "tls" else None
    rig = Shared(
        f"the agent, {request.param}", lambda: Rig(Stage(tmp_path_factory.mktemp(f"agent-{request.param}"), tls))
    )
    yield rig
    if rig.thing is not None:
        rig.thing.close()


@pytest.fixture
def rig(running_rig: Shared[Rig]) -> Iterator[Rig]:
    """The running agent with an open session."""
    result = running_rig.get()
    result.begin()
    yield result
    result.end()


def test_what_the_agent_offers(rig: Rig) -> None:
    """The handshake: its path, pico.v2, its ID, version and slot, no extensions."""
    offer = rig.server.offers[0]
    assert offer.path == "/pico/v1/listener/web"
    assert offer.subprotocols == ["pico.v2"]
    assert offer.get("x-pico-agent-id") == "agent-1"
    assert offer.get("x-pico-agent-version") and offer.get("x-pico-slot")
    assert offer.get("sec-websocket-extensions") is None
    assert offer.get("authorization") is None


def test_it_serves(rig: Rig) -> None:
    """Requests without and with bodies, with and without lengths; the service gets well-formed HTTP/1.1."""
    rig.service.handler = lambda request: answer(request.method + request.body)
    assert body_of(rig.node.http(GET)) == b"GET"
    assert body_of(rig.node.http(POST + b"12345")) == b"POST12345"
    assert body_of(rig.node.http(OPEN_POST + b"open end" * 50_000)) == b"POST" + b"open end" * 50_000
    requests = parse_requests(rig.service.received)
    assert [request.length for request in requests] == [None, 5, None]
    assert requests[2].chunked


def test_responses_carry_no_transfer_coding(rig: Rig) -> None:
    """Chunks of the service are taken off; a known length is told."""
    rig.service.handler = lambda request: (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(b"one") + chunk(b"two") + chunk(b"")
    )
    response = rig.node.http(GET)
    assert b"transfer-encoding" not in response.lower()
    assert body_of(response) == b"onetwo"
    rig.service.handler = lambda request: answer(b"12345")
    assert b"content-length: 5\r\n" in rig.node.http(GET).lower()


def test_trailers(rig: Rig) -> None:
    """Both ways, without what may not be in them; the service hears that they are taken when the node says so."""
    rig.service.handler = lambda request: (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        + chunk(request.body)
        + b"0\r\nX-T: 2\r\nHost: b\r\n\r\n"
    )
    call = rig.node.open_call(OPEN_POST.replace(b"Host", b"TE: trailers\r\nHost") + b"hello", end=False)
    rig.node.send_trailers(call, b"x-t: 1\r\nhost: b\r\ncontent-length: 9\r\n", response=False)
    assert body_of(rig.node.wait_stream(call, response=True)) == b"hello"
    assert rig.node.trailers(call, response=True) == b"x-t: 2\r\n"
    (request,) = rig.service.requests
    assert (request.body, request.trailers, request.get("te")) == (b"hello", [(b"x-t", b"1")], b"trailers")


@pytest.mark.parametrize(
    ("flags", "block"),
    [
        (TRAILERS | MORE, b"x: 1\r\n"),
        (TRAILERS, b""),
        (TRAILERS, b"x: 1\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n"),
        (TRAILERS, b"x: 1\n"),
        (TRAILERS, b"x: " + b"y" * 9000 + b"\r\n"),
    ],
    ids=["more", "empty", "a request", "LF", "large"],
)
@pytest.mark.parametrize("head", [OPEN_POST, POST], ids=["open", "with a length"])
def test_trailers_that_are_none(rig: Rig, head: bytes, flags: int, block: bytes) -> None:
    """They reset the call as `protocol`, and the service never sees its request as whole; nor do good ones behind a
    body that is too short."""
    rig.service.script = lambda connection: connection.linger()
    for last in ((flags, block), (TRAILERS, b"x: 1\r\n")) if head is POST else ((flags, block),):
        call = rig.node.open_call(head + b"part", end=False)
        rig.node.send(HTTP, call, *last)
        assert rig.node.wait_reset(call) == "protocol"
    received = rig.service.received
    assert b"/smuggled" not in received and b"x: " not in received and not received.endswith(b"0\r\n\r\n")
    rig.serves()


def test_heartbeats_are_echoed(rig: Rig) -> None:
    """A node's heartbeat comes back with its payload."""
    for _ in range(3):
        rig.node.alive()


def test_credit_is_kept_to(rig: Rig) -> None:
    """Without credit the agent sends 64 KiB of a response and no more."""
    rig.service.handler = lambda request: answer(bytes(1_000_000))
    rig.node.grant = False
    try:
        call = rig.node.open_call(GET)

        def received() -> int:
            return len(rig.node.stream(call, response=True)[0])

        rig.node.wait_for(lambda _: received() >= WINDOW_BYTES)
        rig.node.alive()
        assert received() == WINDOW_BYTES
        rig.node.credit(call, 777, response=False)
        rig.node.wait_for(lambda _: received() >= WINDOW_BYTES + 777)
        rig.node.alive()
        assert received() == WINDOW_BYTES + 777
        rig.node.reset(call, "cancelled", response=False)
        assert rig.service.wait_connection().gone.wait(PATIENCE_S)
    finally:
        rig.node.grant = True
    rig.serves()


def test_a_service_that_does_not_read_gets_the_sender_no_credit(rig: Rig) -> None:
    """The agent's memory cannot be filled by an upload to a service that stands still; others are served."""
    release = threading.Event()

    def script(connection: Connection) -> None:
        request = connection.request_head()
        if request.method == b"POST":
            assert release.wait(PATIENCE_S)
        else:
            connection.send(answer(b"small"))
        connection.linger()

    rig.service.script = script
    call = rig.node.open_call(OPEN_POST, end=False)
    with pytest.raises(TimeoutError):
        rig.node.send_stream(call, bytes(64 << 20), response=False, end=False, timeout=1.0)
    granted = sum(struct.unpack("!I", f.payload)[0] for f in rig.node.seen if f.call == call and f.credit)
    assert granted < 16 << 20
    assert body_of(rig.node.http(GET)) == b"small"
    rig.node.reset(call, "cancelled", response=False)
    release.set()
    rig.serves()


def test_more_than_the_credit_resets_the_call(rig: Rig) -> None:
    """A node that sends beyond its window has that call reset, and only that."""
    release = threading.Event()

    def script(connection: Connection) -> None:
        connection.request_head()
        assert release.wait(PATIENCE_S)
        connection.linger()

    rig.service.script = script
    call = rig.node.open_call(OPEN_POST, end=False)
    for _ in range(1280):
        rig.node.send(HTTP, call, MORE, bytes(32 * 1024))
        if rig.node.reset_of(call) is not None:
            break
    assert rig.node.wait_reset(call)
    release.set()
    rig.serves()


def test_a_cancelled_call_drops_the_services_connection(rig: Rig) -> None:
    """A reset by the node ends the request at the service, without making it look whole."""
    rig.service.script = lambda connection: connection.linger()
    call = rig.node.open_call(OPEN_POST + b"part", end=False)
    connection = rig.service.wait_connection()
    rig.node.reset(call, "cancelled", response=False)
    assert connection.gone.wait(PATIENCE_S)
    assert not bytes(connection.received).endswith(b"0\r\n\r\n")
    rig.serves()


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\r\n\r\n",
        b"garbage\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n",
        b"GET / HTTP/1.1\nHost: a\n\n",
        b"GET / HTTP/2.0\r\nHost: a\r\n\r\n",
        b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\n",
        # A head has some room above 32 KiB and 100 fields between hops, for what the last one has added.
        b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 50_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 1300 + b"\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n12345",
    ],
    ids=short,
)
def test_malformed_requests_cost_one_call(rig: Rig, payload: bytes) -> None:
    """A request payload that breaks HTTP or v2's rules is refused or reset, reaches no service, and costs no more."""
    try:
        assert status(rig.node.http(payload)) >= 400
    except ValueError:
        pass  # it was reset
    assert rig.service.received == b""
    rig.serves()


def test_bytes_behind_a_head_are_never_a_second_request(rig: Rig) -> None:
    """What stands behind a head in the first frame is body or nothing, framed so that the service sees one request."""
    try:
        rig.node.http(b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
    except ValueError:
        pass  # it was reset
    assert [request.target for request in parse_requests(rig.service.received)] in ([], [b"/1"])
    rig.serves()


def test_more_bytes_than_promised(rig: Rig) -> None:
    """Bytes beyond Content-Length reset the call as `protocol`; the service never sees them."""
    rig.service.script = lambda connection: connection.linger()
    call = rig.node.open_call(POST + b"12", end=False)
    rig.service.wait_connection()
    rig.node.send(HTTP, call, MORE, b"345GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
    assert rig.node.wait_reset(call) == "protocol"
    assert b"/smuggled" not in rig.service.received
    rig.serves()


def test_fewer_bytes_than_promised(rig: Rig) -> None:
    """A request stream that ends early never looks whole to the service."""
    rig.service.script = lambda connection: connection.linger()
    call = rig.node.open_call(POST + b"12")
    rig.node.wait_for(
        lambda _: rig.node.reset_of(call) is not None or rig.node.stream(call, response=True)[1], PATIENCE_S
    )
    received = rig.service.received
    assert not received or body_of(received) in (b"", b"12")
    rig.serves()


def test_an_upgrade(rig: Rig) -> None:
    """101 comes as a head of its own stream, with the bytes right behind it; then both streams are raw."""

    def script(connection: Connection) -> None:
        request = connection.request_head()
        assert (request.get("upgrade"), (request.get("connection") or b"").lower()) == (b"raw", b"upgrade")
        connection.send(b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\nfirst words")
        assert connection.read(5) == b"hello"
        connection.send(b" and the last")
        assert connection.ended()

    rig.service.script = script
    head = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\n"
    call = rig.node.open_call(head, end=False)
    rig.node.wait_for(lambda _: body_of(rig.node.stream(call, response=True)[0]) == b"first words")
    rig.node.send_stream(call, b"hello", response=False, end=False)
    rig.node.wait_for(lambda _: body_of(rig.node.stream(call, response=True)[0]) == b"first words and the last")
    rig.node.send_stream(call, b"", response=False, end=True)
    rig.node.wait_stream(call, response=True)
    rig.serves()


def test_a_switch_nobody_asked_for(rig: Rig) -> None:
    """101 as an answer to an ordinary request is a 502, and what follows it goes nowhere."""
    rig.service.handler = lambda request: (
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\nraw bytes"
    )
    response = rig.node.http(GET)
    assert status(response) == 502 and b"raw bytes" not in response
    rig.serves()


def test_drain_by_the_node(rig: Rig) -> None:
    """A draining node is answered; the agent opens a replacement at once and goes on serving the old session."""
    release = threading.Event()

    def handler(request: object) -> bytes:
        assert release.wait(PATIENCE_S)
        return answer(b"served while draining")

    rig.service.handler = handler
    old = rig.node
    call = old.open_call(GET)
    drain = old.take_id()
    old.send(frames.DRAIN, drain, 0)
    reply = old.wait_frame(lambda frame: frame.kind == frames.DRAIN and frame.response and frame.call == drain)
    assert (reply.flags, reply.payload) == (RESPONSE, b"")
    rig.next_session()
    release.set()
    assert body_of(old.wait_stream(call, response=True)) == b"served while draining"
    # A call that crossed the drain is served too.
    assert status(old.http(GET)) == 200
    rig.serves()
    old.close()
    rig.serves()


@pytest.mark.parametrize(
    ("name", "attack", "code"),
    [
        ("text", lambda node: node.socket.send(b"hello", opcode=websocket.TEXT), 1002),
        ("11 bytes", lambda node: node.socket.send(bytes(11)), 1002),
        ("too large", lambda node: node.send(HTTP, 1 << 50, MORE, bytes(64 * 1024 + 1)), 1009),
        ("masked", lambda node: node.socket.send_frame(websocket.BINARY, bytes(12), mask=True), 1002),
        ("reserved bits", lambda node: node.socket.send_frame(websocket.BINARY, bytes(12), reserved=0x40), 1002),
        ("response to nothing", lambda node: node.send(HTTP, 1 << 50, RESPONSE, b"x"), 1002),
        ("junk", lambda node: node.socket.send_bytes(b"\xff" * 5000), 1002),
        ("a close", lambda node: node.socket.close(1000), 1000),
        ("a fin", lambda node: node.vanish(), None),
        ("a rst", lambda node: node.vanish(reset=True), None),
    ],
    ids=short,
)
def test_a_broken_session_is_replaced(
    rig: Rig, name: str, attack: Callable[[v2.Peer], object], code: int | None
) -> None:
    """Whatever ends a session, with a call in it: its code is right, the call is dropped, and the agent comes back."""
    rig.service.script = lambda connection: connection.linger()
    rig.node.open_call(OPEN_POST + b"part", end=False)
    connection = rig.service.wait_connection()
    try:
        attack(rig.node)
    except Ended:
        pass
    ended = rig.node.wait_ended()
    assert ended.code == code or not ended.clean, (name, ended)
    assert connection.gone.wait(PATIENCE_S)
    rig.next_session()
    rig.serves()


@pytest.mark.parametrize("kind", [0, 3, 5, 7, 65535])
def test_unknown_types(rig: Rig, kind: int) -> None:
    """A call of another type is answered 0xC000; the session goes on."""
    call = rig.node.take_id()
    rig.node.send(kind, call, MORE, b"web")
    reply = rig.node.wait_frame(lambda frame: frame.call == call and frame.response and frame.kind == kind)
    assert (reply.flags, reply.payload) == (0xC000, b"")
    rig.node.send(kind, call, 0, b"more")
    rig.serves()


def test_late_frames_are_dropped(rig: Rig) -> None:
    """Frames of a call that is over change nothing, nor does an ID that was used."""
    call = rig.node.open_call(GET)
    rig.node.wait_stream(call, response=True)
    for flags, payload in (
        (0, b"late"),
        (MORE, b"late"),
        (CREDIT, struct.pack("!I", 5)),
        (RESET, b"cancelled"),
        (0, GET),
    ):
        rig.node.send(HTTP, call, flags, payload)
    rig.node.alive()
    assert len(rig.service.requests) == 1
    rig.serves()


def test_two_hundred_calls_at_once(rig: Rig) -> None:
    """Two hundred calls in one session are in the service's hands together, and each gets its own answer."""
    together = threading.Barrier(201, timeout=PATIENCE_S)

    def handler(request: object) -> bytes:
        together.wait()
        return answer(getattr(request, "target", b""))

    rig.service.handler = handler
    calls = {number: rig.node.open_call(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number) for number in range(200)}
    together.wait()
    for number, call in calls.items():
        assert body_of(rig.node.wait_stream(call, response=True)) == b"/%d" % number


def test_a_service_that_breaks_http_costs_one_call(rig: Rig) -> None:
    """502 in JSON, in the agent's name; the session goes on."""
    rig.service.handler = lambda request: b"ICY 200 OK\r\n\r\n"
    response = rig.node.http(GET)
    assert status(response) == 502
    assert b"x-pico-error: agent-1; " in response.lower()
    assert json.loads(body_of(response)) == {"error": "the response of the service is not valid HTTP"}
    rig.serves()
