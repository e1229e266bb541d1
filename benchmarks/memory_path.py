"""The data path in memory: a client, one node or two, an agent and a service, without a socket and without a clock.

The classes are those of the daemons: the proxy's channel, sessions and tunnels at both ends, node links, the agent's
exchange and its pool of connections. What lies around them is simple and always the same: connections in memory that
carry as much at a time as their protocols read at once, and a clock that stands still. So the same requests lead to the
same calls, every time.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from zope.interface import implementer

from pico_twisted.config import AuthConfig, ListenerConfig, ServiceAddress
from pico_twisted.core.http1.head import HeadLimits
from pico_twisted.core.rpc.budget import Budget
from pico_twisted.net.agent.own_health import OwnHealth
from pico_twisted.net.agent.serving.forwarder import Forwarder
from pico_twisted.net.agent.serving.http1_service import Http1Service
from pico_twisted.net.agent.serving.local_service import ServiceParts
from pico_twisted.net.observe.metrics import Metrics
from pico_twisted.net.observe.tracing import Tracer
from pico_twisted.net.socket.end_of_turn import EndOfTurn
from pico_twisted.net.sweep import ReactorSweep
from pico_twisted.net.tunnel import TunnelClientFactory, TunnelParts
from tests.doubles.node import MemoryNode, ToldMembership
from tests.doubles.transport import MemoryTransport

ENDPOINT = "bench"
MAX_TURNS = 100_000
"""A path that does not come to rest after so many is broken."""

Scope = Callable[[str], AbstractContextManager[object]]
"""Given a daemon's name: what to do around each piece of its work."""


class TurnClock(Clock):
    """The reactor of one daemon: a clock that stands still, the ends of its turns, and connections in memory."""

    def __init__(self, dial: Callable[[Any], None] | None = None) -> None:
        super().__init__()
        self._ends: list[Callable[[], None]] = []
        self._dial = dial

    def at_end_of_turn(self, work: Callable[[], None]) -> None:
        """Call it when all that came in this turn was dispatched."""
        self._ends.append(work)

    def connectTCP(self, host: str, port: int, factory: Any, timeout: float = 30, bindAddress: object = None) -> None:
        """Connect to the other node (IReactorTCP, as far as endpoints ask)."""
        assert self._dial is not None
        self._dial(factory)

    def turn(self) -> bool:
        """Do what waits for the end of a turn, and what was put off to the next. Returns whether there was anything."""
        ends, self._ends = self._ends, []
        for work in ends:
            work()
        waiting = bool(self.getDelayedCalls()) and self.getDelayedCalls()[0].getTime() <= self.seconds()
        if waiting:
            self.advance(0)
        return bool(ends) or waiting


class Service(Protocol):
    """Answers each request, once it is whole, with what its path names."""

    def __init__(self, answers: dict[bytes, bytes]) -> None:
        self._answers = answers
        self._data = bytearray()

    def dataReceived(self, data: bytes) -> None:
        """Bytes of requests, one after the other."""
        self._data += data
        head, end, _ = bytes(self._data[:4096]).partition(b"\r\n\r\n")
        if not end:
            return
        size = len(head) + 4
        for line in head.split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                size += int(value)
        if len(self._data) >= size:
            del self._data[:size]
            assert self.transport is not None
            self.transport.write(self._answers[head.split(b" ", 2)[1]])


@contextmanager
def _unwatched(name: str) -> Iterator[None]:
    yield


@implementer(IStreamClientEndpoint)
class _ServiceEndpoint:
    """How the agent connects to the service."""

    def __init__(self, path: MemoryPath, answers: dict[bytes, bytes]) -> None:
        self._path = path
        self._answers = answers

    def connect(self, factory: Any) -> Deferred[Any]:
        protocol = factory.buildProtocol(None)
        self._path.connect("agent", protocol, "service", Service(self._answers))
        return succeed(protocol)


class MemoryPath:
    """A client's connection to a node, and all that lies behind it.

    Args:
        answers: the service's, whole, by path.
        two_nodes: the client asks a node that does not hold the tunnel.
        scope: entered around all that a daemon does: `node` (or `asked` and `holder`), `agent`, and `service`.
        auth: who may use the proxy ports.
        tracer: of all daemons; None when nothing is recorded.
    """

    def __init__(
        self,
        answers: dict[bytes, bytes],
        *,
        two_nodes: bool = False,
        scope: Scope = _unwatched,
        auth: AuthConfig | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        self._scope = scope
        self._tracer = tracer
        self._auth = auth or AuthConfig()
        self._ways: list[tuple[MemoryTransport, MemoryTransport, str]] = []
        self._clocks = {"agent": TurnClock(), "service": TurnClock()}
        holder = self._add_node("holder" if two_nodes else "node")
        asked = holder
        if two_nodes:
            asked = self._add_node("asked", lambda factory: self._dial(factory, holder.links.port_factory))
            asked.tell(ENDPOINT, ["holder"])
        self._asked = asked
        self._add_agent(holder, answers)
        self._client = MemoryTransport(self._clocks[asked.cluster.node_id])
        self._client.connect(asked.proxy.buildProtocol(self._client.getPeer()))
        self.settle()

    def _add_node(self, name: str, dial: Callable[[Any], None] | None = None) -> MemoryNode:
        clock = self._clocks[name] = TurnClock(dial)
        others = functools.partial(ToldMembership, addresses={"holder": ("192.0.2.2", 8003)})
        return MemoryNode(clock, node_id=name, gathers=True, membership=others, auth=self._auth, tracer=self._tracer)

    def _dial(self, client: Any, server: Any) -> None:
        address = IPv4Address("TCP", "192.0.2.2", 8003)
        self.connect("asked", client.buildProtocol(address), "holder", server.buildProtocol(address))

    def _add_agent(self, holder: MemoryNode, answers: dict[bytes, bytes]) -> None:
        clock = self._clocks["agent"]
        sweep = ReactorSweep(clock)
        metrics = Metrics("agent")
        parts = TunnelParts(
            clock=clock,
            sweep=sweep,
            metrics=metrics,
            budget=Budget(256 * 1024 * 1024),
            head_limits=HeadLimits(),
            max_calls=1000,
            version="0.0.1",
            end_of_turn=EndOfTurn(clock),
            tracer=self._tracer,
        )
        config = ListenerConfig(endpoint=ENDPOINT, addr=ServiceAddress("http", "127.0.0.1", 3000), timeout=30.0)
        endpoint = _ServiceEndpoint(self, answers)
        service = Http1Service(
            ServiceParts(config=config, tunnel=parts, agent_id="agent-1", reactor=None, dials=endpoint)
        )
        factory = TunnelClientFactory(
            parts,
            url=f"ws://node:8002/pico/v1/listener/{ENDPOINT}",
            headers={"x-pico-agent-id": "agent-1", "x-pico-slot": "0", "x-pico-agent-version": "0.0.1"},
            acceptor=Forwarder(service, OwnHealth(sweep, lambda: 0.0), lambda tunnel: None),
            endpoint=ENDPOINT,
            agent_id="agent-1",
            slot="0",
            reactor=clock,
        )
        server = holder.upstream.buildProtocol(IPv4Address("TCP", "192.0.2.9", 50009))
        self.connect(holder.cluster.node_id, server, "agent", factory.buildProtocol(None))

    def connect(self, left: str, left_protocol: Any, right: str, right_protocol: Any) -> None:
        """Join two daemons by a connection."""
        left_end, right_end = MemoryTransport(self._clocks[left]), MemoryTransport(self._clocks[right])
        self._ways += [(left_end, right_end, right), (right_end, left_end, left)]
        right_end.connect(right_protocol)
        left_end.connect(left_protocol)

    def request(self, data: bytes) -> bytes:
        """Send a request as the client. Returns the response; fails when it is not a good one."""
        node = self._asked.cluster.node_id
        size = self._client.bufferSize
        for at in range(0, len(data), size):
            with self._scope(node):
                self._client.receive(data[at : at + size])
            self.settle()
        answer = self._client.clear()
        if not answer.startswith(b"HTTP/1.1 200 "):
            raise AssertionError(f"not a good answer: {answer[:400]!r}")
        return answer

    def finish(self) -> None:
        """Write what was logged, as a daemon does a few times a second."""
        with self._scope(self._asked.cluster.node_id):
            self._asked.access_log.flush()

    def settle(self) -> None:
        """Carry what was written, until all is quiet.

        Raises:
            RuntimeError: it never is.
        """
        for _ in range(MAX_TURNS):
            if not self._turn():
                return
        raise RuntimeError("the path does not come to rest")

    def _turn(self) -> bool:
        moved = False
        for sender, receiver, name in list(self._ways):
            if sender.taken and receiver.reading:
                moved = True
                data = bytes(sender.taken[: receiver.bufferSize])
                del sender.taken[: receiver.bufferSize]
                with self._scope(name):
                    receiver.receive(data)
        for name, clock in self._clocks.items():
            with self._scope(name):
                moved = clock.turn() or moved
        return moved
