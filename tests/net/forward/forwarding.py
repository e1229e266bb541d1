"""A node of the tests' own, and what forwards to it, on real sockets."""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from pico_twisted.net.forward.dialler import Dialler, DialSettings
from pico_twisted.net.forward.failures import DialFailed
from pico_twisted.net.forward.listening import TcpLocal, listen
from pico_twisted.net.forward.pair import Pair
from pico_twisted.net.forward.places import place_of
from pico_twisted.net.sweep import ReactorSweep
from pico_twisted.net.tunnel.websocket_pipe import lay_mask
from tests.net.in_reactor import DEADLINE_S, reactor, until
from tests.peers import websocket
from tests.peers.pipe import Ended, Listener, Pipe
from tests.peers.websocket import Offer, WebSocket

ENDPOINT = "db"
Script = Callable[[WebSocket], object]


def nodes_answer(status: int, code: str, words: str = "no", *, port: str = "proxy") -> bytes:
    """A refusal as a node makes it."""
    body = b'{"error": "%s"}' % words.encode()
    lines = [f"HTTP/1.1 {status} No", f"x-pico-error: n1; {code}", f"x-pico-port: {port}"]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


class FakeNode:
    """Serves WebSockets by a script.

    Args:
        script: given each open WebSocket; the connection is closed behind it.
        tls: a server context.

    Attributes:
        answers: for the next handshakes, in place of a 101: bytes, or nothing, for a connection that is just closed.
        offers: the handshakes that were accepted.
        heads: of those that were not.
    """

    def __init__(self, script: Script, tls: ssl.SSLContext | None = None) -> None:
        self.script = script
        self.answers: list[bytes] = []
        self.offers: list[Offer] = []
        self.heads: list[bytes] = []
        self._listener = Listener(self._serve, tls=tls)
        self.url = f"http{'s' if tls else ''}://localhost:{self._listener.port}"

    def _serve(self, pipe: Pipe) -> None:
        try:
            if self.answers:
                answer = self.answers.pop(0)
                self.heads.append(pipe.recv())
                if answer:
                    pipe.send(answer)
                return
            opened = websocket.accept(pipe, select=lambda offer: "pico.tcp")
            assert opened is not None
            self.offers.append(opened[1])
            self.script(opened[0])
        except (Ended, TimeoutError):
            pass

    def close(self) -> None:
        """Close its port and its connections."""
        self._listener.close()


@attrs.define
class Told:
    """What was told (Observer)."""

    refusals: list[DialFailed] = attrs.Factory(list)
    cuts: list[str] = attrs.Factory(list)

    def refused(self, endpoint_id: str, failed: DialFailed) -> None:
        """See `Observer.refused`."""
        assert endpoint_id == ENDPOINT
        self.refusals.append(failed)

    def cut(self, endpoint_id: str, reason: str) -> None:
        """See `Observer.cut`."""
        assert endpoint_id == ENDPOINT
        self.cuts.append(reason)

    def over(self, endpoint_id: str) -> None:
        """See `Observer.over`."""


def dialler_of(
    urls: Sequence[str],
    sweep: ReactorSweep,
    *,
    token: str = "",
    patience_s: float = 0.0,
    timeout_s: float = DEADLINE_S,
    ca: str = "",
) -> Dialler:
    """A dialler for some URLs."""
    settings = DialSettings(
        token=lambda: token, agent="picoctl/1", timeout_s=timeout_s, patience_s=patience_s, lay_mask=lay_mask
    )
    return Dialler(reactor, sweep, [place_of(reactor, url, ca=ca) for url in urls], settings)


@attrs.define
class Bench:
    """A local port that leads to a node.

    Attributes:
        port: its number.
        pair: what serves it.
        told: what was told of it.
    """

    port: int
    pair: Pair
    told: Told

    def run(self, client: Callable[[socket.socket], Any]) -> Deferred[Any]:
        """Run a local client in a thread of its own, on a connection of its own."""

        def connected() -> Any:
            with socket.create_connection(("127.0.0.1", self.port), timeout=DEADLINE_S) as sock:
                return client(sock)

        return deferToThread(connected)

    async def idle(self) -> None:
        """Wait until no connection is left."""
        await until(lambda: not self.pair.relays, "the end of all relays")


@contextmanager
def swept() -> Iterator[ReactorSweep]:
    """A sweep that turns."""
    sweep = ReactorSweep(reactor, 0.02)
    sweep.start()
    try:
        yield sweep
    finally:
        sweep.stop()


@contextmanager
def forwarding(script: Script, *, tls: ssl.SSLContext | None = None, ca: str = "") -> Iterator[tuple[Bench, FakeNode]]:
    """A local port whose connections go to a node with a script."""
    with closing(FakeNode(script, tls)) as node, swept() as sweep:
        told = Told()
        pair = Pair(ENDPOINT, dialler_of([node.url], sweep, ca=ca), told)
        port, local = listen(reactor, TcpLocal("127.0.0.1", 0), pair)
        assert isinstance(local, TcpLocal)
        try:
            yield Bench(local.port, pair, told), node
        finally:
            port.stopListening()
            pair.reset()


def received(sock: socket.socket) -> bytes:
    """All that comes until the other side ends. ConnectionResetError when it resets."""
    return b"".join(iter(lambda: sock.recv(65536), b""))


def reset(sock: socket.socket) -> None:
    """End a connection with a RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
