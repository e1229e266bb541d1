"""Local connections and the WebSockets that they are forwarded over, on real sockets."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
from typing import cast

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock, deferLater

from pico_twisted.net.forward import session
from pico_twisted.net.forward.dialler import Dialler
from pico_twisted.net.forward.pair import Pair
from pico_twisted.net.forward.relay import Relay
from pico_twisted.net.forward.session import MAX_PIECE_BYTES, TcpSession
from pico_twisted.net.socket.options import holds_output
from tests.doubles.transport import MemoryTransport
from tests.net.forward.forwarding import ENDPOINT, Script, Told, forwarding, received, reset
from tests.net.forward.test_session import opened
from tests.net.in_reactor import DEADLINE_S, in_reactor, reactor, until
from tests.peers.pipe import Ended
from tests.peers.websocket import BINARY, CLOSE, PING, PONG, TEXT, WebSocket, close_payload, frame_bytes
from tools.stage.certificates import Authority

SIZE = 3_000_000
LARGE = 40_000_000
"""More than all kernel buffers on the way hold."""


def ends(ws: WebSocket, code: int = 1000, reason: str = "") -> None:
    """Close a WebSocket as a node does, and wait for the other side."""
    ws.close(code, reason)
    with pytest.raises(Ended):
        while True:
            ws.receive_frame()


def echoed(sock: socket.socket, data: bytes) -> bytes:
    """Send data and the end, and meanwhile read what comes back."""

    def send() -> None:
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)

    sender = threading.Thread(target=send)
    sender.start()
    found = received(sock)
    sender.join()
    return found


def echoes(ws: WebSocket) -> None:
    """Send back all that comes, its end too."""
    while (message := ws.receive()[1]) != b"":
        ws.send(message)
    ws.send(b"")
    ends(ws)


@in_reactor
async def test_bytes_go_both_ways_and_each_half_ends_by_itself() -> None:
    """What a local program sends arrives whole, and what comes back is whole after it has ended its half."""
    data = os.urandom(SIZE)

    with forwarding(echoes) as (bench, node):
        assert await bench.run(lambda sock: echoed(sock, data)) == data
        await bench.idle()
        assert bench.told.cuts == []
        (offer,) = node.offers
        assert (offer.path, offer.subprotocols) == ("/_pico/v1/tcp/db", ["pico.tcp"])


@in_reactor
async def test_it_works_over_tls(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The same over TLS, where the key of the masks is zero."""
    directory = tmp_path_factory.mktemp("tls")
    authority = Authority(directory)
    tls = authority.server_context(authority.issue("localhost"))
    data = os.urandom(SIZE)

    with forwarding(echoes, tls=tls, ca=str(authority.ca)) as (bench, _):
        assert await bench.run(lambda sock: echoed(sock, data)) == data
        await bench.idle()
        assert bench.told.cuts == []


@in_reactor
async def test_a_service_may_end_first() -> None:
    """A service that ends its half ends the local program's input, whose own bytes still arrive."""
    said: list[bytes] = []

    def node(ws: WebSocket) -> None:
        ws.send(b"bye")
        ws.send(b"")
        while message := ws.receive()[1]:
            said.append(message)
        ends(ws)

    def client(sock: socket.socket) -> bytes:
        found = received(sock)
        sock.sendall(b"still here")
        return found

    with forwarding(node) as (bench, _):
        assert await bench.run(client) == b"bye"
        await bench.idle()
        assert b"".join(said) == b"still here"
        assert bench.told.cuts == []


@in_reactor
async def test_messages_fit_a_read() -> None:
    """However much a local program writes, no message has more than 60 KiB."""
    sizes: list[int] = []

    def node(ws: WebSocket) -> None:
        while message := ws.receive()[1]:
            sizes.append(len(message))
        ws.send(b"")
        ends(ws)

    def client(sock: socket.socket) -> bytes:
        sock.sendall(bytes(SIZE))
        sock.shutdown(socket.SHUT_WR)
        return received(sock)

    with forwarding(node) as (bench, _):
        assert await bench.run(client) == b""
        await bench.idle()
    assert sum(sizes) == SIZE
    assert max(sizes) <= MAX_PIECE_BYTES


def closes(code: int, reason: str) -> Script:
    """Sends something and closes the WebSocket."""

    def script(ws: WebSocket) -> None:
        ws.send(b"half of it")
        ends(ws, code, reason)

    return script


def sends(data: bytes) -> Script:
    """Sends these bytes as they are."""

    def script(ws: WebSocket) -> None:
        ws.send_bytes(data)
        ws.receive()

    return script


def ends_then_speaks(ws: WebSocket) -> None:
    """Says more behind the end of its stream."""
    ws.send(b"")
    ws.send(b"more")
    while True:
        ws.receive_frame()


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (closes(1011, "the service broke it"), "the node closed it (1011): the service broke it"),
        (closes(1001, ""), "the node closed it (1001)"),
        (closes(1000, ""), "the node closed it (1000): it was closed before both sides had ended"),
        (lambda ws: (ws.send(b"half"), ws.drop()), "the connection to the node was lost"),
        (lambda ws: (ws.send(b"half"), ws.reset()), "the connection to the node was lost"),
        (ends_then_speaks, "the node breaks the protocol: bytes behind the end of the stream"),
        (sends(frame_bytes(BINARY, b"x", mask=True)), "the node breaks WebSocket: a frame with a mask"),
        (sends(frame_bytes(TEXT, b"x", mask=False)), "the node breaks WebSocket: a text message, where"),
    ],
    ids=["1011", "1001", "1000", "end", "reset", "more", "masked", "text"],
)
@in_reactor
async def test_what_was_cut_does_not_look_whole(script: Script, words: str) -> None:
    """However a call is cut, the local connection is reset, and the reason is told."""

    def client(sock: socket.socket) -> str:
        try:
            found = received(sock)
            if script is not ends_then_speaks:
                return f"looks whole: {found!r}"
            while True:  # an end has been read, so only sending tells
                sock.sendall(b"x")
        except (ConnectionResetError, BrokenPipeError):
            return "reset"

    with forwarding(script) as (bench, _):
        assert await bench.run(client) == "reset"
        await bench.idle()
        (reason,) = bench.told.cuts
        assert reason.startswith(words)


@in_reactor
async def test_a_local_reset_cuts_the_call() -> None:
    """A local program that is killed is no end of its stream: the node is told of a cut."""
    closed: list[tuple[int, bytes]] = []

    def node(ws: WebSocket) -> None:
        ws.receive()
        ws.send(b"go")
        while True:
            _, opcode, payload = ws.receive_frame()
            closed.append((opcode, payload))

    def client(sock: socket.socket) -> None:
        sock.sendall(b"begun")
        sock.recv(2)
        reset(sock)

    with forwarding(node) as (bench, _):
        await bench.run(client)
        await bench.idle()
        await until(lambda: closed, "the close frame")
    assert closed == [(CLOSE, close_payload(1011, "the local connection was lost"))]


@in_reactor
async def test_who_reads_slowly_slows_down_who_writes() -> None:
    """A node that does not read stops the local program; once it does all arrives."""
    data = os.urandom(LARGE)
    digest = hashlib.sha256(data).digest()
    go = threading.Event()

    def node(ws: WebSocket) -> None:
        go.wait()
        found = hashlib.sha256()
        while message := ws.receive()[1]:
            found.update(message)
        ws.send(found.digest())
        ws.send(b"")
        ends(ws)

    sent = 0

    def client(sock: socket.socket) -> bytes:
        nonlocal sent
        sock.settimeout(0.5)
        try:
            while sent < len(data):
                sent += sock.send(data[sent : sent + 65536])
        except TimeoutError:
            pass
        go.set()
        sock.settimeout(DEADLINE_S)
        sock.sendall(data[sent:])
        sock.shutdown(socket.SHUT_WR)
        return received(sock)

    with forwarding(node) as (bench, _):
        assert await bench.run(client) == digest
        await bench.idle()
    assert sent < LARGE, "the local program was not slowed down"


@in_reactor
async def test_a_local_program_that_reads_slowly_slows_down_the_node() -> None:
    """What it does not take waits at the node, and not here."""
    data = os.urandom(LARGE)
    taken = 0
    go = threading.Event()

    def node(ws: WebSocket) -> None:
        nonlocal taken
        for at in range(0, len(data), MAX_PIECE_BYTES):
            ws.send(data[at : at + MAX_PIECE_BYTES])
            taken += MAX_PIECE_BYTES
        ws.send(b"")
        assert ws.receive() == (BINARY, b"")
        ends(ws)

    def client(sock: socket.socket) -> bytes:
        go.wait()
        sock.shutdown(socket.SHUT_WR)
        return received(sock)

    with forwarding(node) as (bench, _):
        running = bench.run(client)
        before = 0
        while taken > before or not taken:
            before = taken
            await deferLater(reactor, 0.3)
        assert taken < LARGE - MAX_PIECE_BYTES, "the node was not slowed down"
        go.set()
        assert await running == data
        await bench.idle()


@in_reactor
async def test_pings_are_answered_and_sent_into_a_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """A ping of the node is answered; after a silence of the node one is sent, and a pong is all right."""
    monkeypatch.setattr(session, "PING_S", 0.1)
    seen: list[tuple[int, bytes]] = []

    def node(ws: WebSocket) -> None:
        ws.send_frame(PING, b"here?")
        while len(seen) < 3:
            _, opcode, payload = ws.receive_frame()
            seen.append((opcode, payload))
            if opcode == PING:
                ws.send_frame(PONG, payload)
        ws.send(b"ok")
        ws.send(b"")
        while ws.receive()[1]:
            pass
        ends(ws)

    with forwarding(node) as (bench, _):
        assert await bench.run(received) == b"ok"
        await bench.idle()
        assert bench.told.cuts == []
    assert seen == [(PONG, b"here?"), (PING, b""), (PING, b"")]


@in_reactor
async def test_a_node_that_does_not_close_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once both streams have ended all has arrived: a node that leaves the WebSocket open keeps nobody."""
    monkeypatch.setattr(session, "CLOSE_S", 0.1)

    def node(ws: WebSocket) -> None:
        ws.send(b"all")
        ws.send(b"")
        while True:
            ws.receive_frame()

    def client(sock: socket.socket) -> bytes:
        sock.shutdown(socket.SHUT_WR)
        return received(sock)

    with forwarding(node) as (bench, _):
        assert await bench.run(client) == b"all"
        await bench.idle()
        assert bench.told.cuts == []


@in_reactor
async def test_a_local_program_that_is_gone_before_the_call_is_open_is_forgotten() -> None:
    """Its call is cut as soon as anything is written, and nothing is left."""

    def node(ws: WebSocket) -> None:
        ws.send(b"hello")
        while True:
            ws.receive()

    with forwarding(node) as (bench, _):
        await bench.run(reset)
        await bench.idle()


@in_reactor
async def test_the_last_bytes_may_take_their_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that has ended, and takes nothing for a while, gets all that the local program said before its end."""
    monkeypatch.setattr(session, "CLOSE_S", 0.05)
    full, go = threading.Event(), threading.Event()
    sent = taken = 0

    def node(ws: WebSocket) -> None:
        nonlocal taken
        ws.send(b"")
        go.wait()
        while message := ws.receive()[1]:
            taken += len(message)
        ends(ws)

    def client(sock: socket.socket) -> None:
        nonlocal sent
        assert received(sock) == b""
        while not full.is_set():
            sock.sendall(bytes(16384))
            sent += 16384
            full.wait(0.002)
        sock.shutdown(socket.SHUT_WR)

    with forwarding(node) as (bench, _):
        running = bench.run(client)
        await until(lambda: any(_waits(relay) for relay in bench.pair.relays), "bytes that wait for the node")
        full.set()
        await running
        await deferLater(reactor, 0.5)
        go.set()
        await bench.idle()
        assert (taken, bench.told.cuts) == (sent, [])


def _waits(relay: Relay) -> bool:
    """Whether the kernel of a relay's node does not take what was sent to it."""
    found = relay._session
    return found is not None and holds_output(found.transport)


def test_a_cut_is_noticed_behind_an_end_that_nobody_reads() -> None:
    """The end of the service's stream may come while the local program reads nothing: the call is read on, or nobody
    would notice its end."""
    clock = Clock()
    session, transport, _, _ = opened(clock)
    told = Told()
    pair = Pair(ENDPOINT, cast(Dialler, _Opened(session)), told)
    local = MemoryTransport(clock)
    local.takes = False
    local.connect(pair.buildProtocol(None))
    piece = frame_bytes(BINARY, bytes(60_000), mask=False)
    transport.receive(piece + piece + frame_bytes(BINARY, b"", mask=False))
    clock.advance(0)
    assert local.held == 120_000
    transport.receive(frame_bytes(CLOSE, close_payload(1011, "gone"), mask=False))
    assert told.cuts == ["the node closed it (1011): gone"]


class _Opened:
    """A dialler that has a session (Dialler)."""

    def __init__(self, session: TcpSession) -> None:
        self._session = session

    def dial(self, endpoint_id: str) -> Deferred[TcpSession]:
        """See `Dialler.dial`."""
        return succeed(self._session)
