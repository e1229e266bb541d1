"""What several tests of the data path play: a client's side of a request on its way, and heads as they were read."""

from __future__ import annotations

from typing import Any

from zope.interface import implementer

from pico_twisted.core.http1.account import Peer, account_of_peer
from pico_twisted.core.http1.affinity import ClientTie, tie_of
from pico_twisted.core.http1.forwarding import request_to_tunnel
from pico_twisted.core.http1.head import HeadLimits, RequestHead, ResponseHead, parse_request_head
from pico_twisted.core.rpc.frames import HTTP
from pico_twisted.net.routing.interfaces import IDownstream
from pico_twisted.net.routing.routed_request import RoutedRequest
from pico_twisted.net.routing.settings import RoutingSettings
from pico_twisted.net.routing.upgrade_request import UpgradeRequest
from tests.doubles.node import MemoryNode
from tests.doubles.tunnel import FakeCall, FakeTunnel

OK = b"HTTP/1.1 200 OK\r\n\r\n"
OK2 = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"


def request_head(
    method: bytes = b"GET", *fields: bytes, target: bytes = b"/", length: int | None = None, chunked: bool = False
) -> RequestHead:
    """A request's head, read from its bytes."""
    lines = [method + b" " + target + b" HTTP/1.1", b"Host: my-ep.example.com", *fields]
    if length is not None:
        lines.append(b"Content-Length: %d" % length)
    if chunked:
        lines.append(b"Transfer-Encoding: chunked")
    return parse_request_head(b"\r\n".join(lines) + b"\r\n\r\n", HeadLimits())


UPGRADE_FIELDS = (b"Connection: Upgrade", b"Upgrade: x")


@implementer(IDownstream)
class FakeDownstream:
    """Keeps what a `RoutedRequest` tells its client's side, and writes its head as the reverse resource does.

    Args:
        head: of the request.

    Attributes:
        told: the calls in order, as words; data is kept in `data`.
        waiting: the final head was given, and waits for what comes with it.
        answer: the final head.
        trailers: what it ended with.
        failure: (status, message, code) of an error of ours.
    """

    endpoint = "my-ep"
    client_connection = b""
    kind = HTTP

    def __init__(self, head: RequestHead) -> None:
        self.head: RequestHead = head
        self.told: list[str] = []
        self.interims: list[int] = []
        self.answer: ResponseHead | None = None
        self.data = bytearray()
        self.trailers = b""
        self.failure: tuple[int, str, str] | None = None
        self.waiting = False
        self._tie: ClientTie | None = None

    def tie(self) -> ClientTie:
        if self._tie is None:
            account = account_of_peer(b"192.0.2.7", False, self.head.host)
            self._tie, self.head = tie_of(self.head, account, self.endpoint)
        return self._tie

    def write_head(self, endpoint: bytes | None, length: int | None, upgrades: bool) -> bytes:
        return request_to_tunnel(
            self.head if upgrades else self.head.replace(upgrade=None),
            account=account_of_peer(b"192.0.2.7", False, self.head.host),
            peer=Peer(b"192.0.2.7"),
            request_id=b"id-1",
            endpoint=endpoint,
            length=length,
        )

    def interim(self, head: ResponseHead) -> None:
        assert self.answer is None and self.failure is None
        self.interims.append(head.status)
        self.told.append(f"interim {head.status}")

    def begin(self, head: ResponseHead) -> None:
        assert self.answer is None and self.failure is None
        self.answer = head
        self.waiting = True
        self.told.append(f"begin {head.status}")

    def write(self, data: bytes) -> None:
        assert self.answer is not None and "finish" not in self.told
        assert data or self.waiting, "nothing comes but behind a head"
        self._take(data)

    def _take(self, data: bytes) -> None:
        self.waiting = False
        self.data += data
        if data and self.told[-1] != "write":
            self.told.append("write")

    def write_trailers(self, block: bytes) -> None:
        assert self.answer is not None and "finish" not in self.told and not self.trailers
        self.trailers = block

    def finish(self, data: bytes) -> None:
        assert self.answer is not None
        self._take(data)
        self._once("finish")

    def cut(self) -> None:
        assert self.answer is not None and "finish" not in self.told
        self._once("cut")

    def fail(self, status: int, message: str, code: str) -> None:
        assert self.answer is None and self.failure is None
        self.failure = (status, message, code)
        self._once(f"fail {status}")

    def pause_request(self) -> None:
        self.told.append("pause")

    def resume_request(self) -> None:
        self.told.append("resume")

    def stop_request(self) -> None:
        self._once("stop")

    def done(self) -> None:
        self._once("done")

    def _once(self, what: str) -> None:
        assert what not in self.told, f"{what} twice"
        assert "done" not in self.told, f"{what} after done"
        self.told.append(what)

    @property
    def status(self) -> int | None:
        """Of the answer, whoever made it."""
        if self.failure is not None:
            return self.failure[0]
        return self.answer.status if self.answer is not None else None


class Case:
    """One request on its way through a node with fake tunnels.

    Args:
        parts: of the node.
        tunnels: registered before anything happens.
    """

    def __init__(self, parts: MemoryNode, *tunnels: FakeTunnel) -> None:
        self.parts = parts
        self.tunnels = tunnels
        for tunnel in tunnels:
            register(parts, tunnel)

    def start(self, head: RequestHead, body: bytes = b"", ended: bool = True) -> RoutedRequest:
        """Send a request on its way."""
        self.down = FakeDownstream(head)
        node = self.parts.node
        settings = RoutingSettings(
            router=node.cluster,
            sweep=node.sweep,
            metrics=node.metrics,
            timeout_s=node.config.proxy.timeout,
            idle_timeout_s=node.config.proxy.idle_timeout,
        )
        self.routed = (RoutedRequest if head.upgrade is None else UpgradeRequest)(settings, self.down)
        self.routed.start(body, ended)
        return self.routed

    @property
    def call(self) -> FakeCall:
        """The one call that is open."""
        (call,) = [call for tunnel in self.tunnels for call in tunnel.calls]
        return call

    def respond(self, payload: bytes, more: bool) -> None:
        """The agent sends a frame; what it was made to must be on its way afterwards."""
        self.call.respond(payload, more)
        assert not self.down.waiting, "a response waits for the next frame"

    def opened(self) -> list[FakeCall]:
        """All calls that were made, by tunnel."""
        return [call for tunnel in self.tunnels for call in tunnel.opened]


def register(parts: MemoryNode, tunnel: FakeTunnel) -> FakeTunnel:
    """Register a tunnel as the upstream port does."""

    def gone(closed: Any) -> Any:
        parts.cluster.deregister(tunnel)
        return closed

    tunnel.closed.addCallback(gone)
    parts.cluster.register(tunnel)
    return tunnel
