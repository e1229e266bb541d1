"""A node on free ports of loopback, agents that connect to it, and clients that send what the test wants."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from typing import Any

from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from zope.interface import implementer

from pico_twisted.net.tunnel import TunnelClientProtocol, connect_tunnel
from tests.doubles.node import MemoryNode
from tests.doubles.service import Acceptor, Receiver

reactor: Any = installed_reactor
DEADLINE_S = 20.0
GET = b"GET /a HTTP/1.1\r\nHost: my-ep.example.com\r\n\r\n"


async def eventually(condition: Callable[[], object], within_s: float = DEADLINE_S) -> None:
    """Wait until the condition holds. Raises TimeoutError when it does not in time."""
    ends = reactor.seconds() + within_s
    while not condition():
        if reactor.seconds() > ends:
            raise TimeoutError("it did not happen")
        await deferLater(reactor, 0.003)


async def pause(seconds: float) -> None:
    """Let time pass where there is no condition to wait for: to see that nothing happens."""
    await deferLater(reactor, seconds)


class RunningNode:
    """The parts of a node, listening. Close it when the test is over.

    Args:
        limits: as of `MemoryNode`.
    """

    def __init__(self, **limits: Any) -> None:
        self.parts = MemoryNode(reactor, **{"gathers": True, **limits})
        self._proxy = reactor.listenTCP(0, self.parts.proxy, interface="127.0.0.1")
        self._upstream = reactor.listenTCP(0, self.parts.upstream, interface="127.0.0.1")
        self.proxy_port: int = self._proxy.getHost().port
        self.upstream_port: int = self._upstream.getHost().port
        self.agents: list[TunnelClientProtocol] = []
        self.clients: list[Client] = []
        self.sockets: list[socket.socket] = []

    async def agent(
        self,
        then: Callable[[Receiver], None] | None = None,
        *,
        endpoint: str = "my-ep",
        agent_id: str = "agent-1",
        slot: str = "0",
        url: str = "",
    ) -> tuple[TunnelClientProtocol, Acceptor]:
        """Connect an agent whose calls are given to `then`."""
        acceptor = Acceptor(then)
        parts = self.parts.agent_parts()
        tunnel = await connect_tunnel(
            reactor,
            parts,
            url or f"http://127.0.0.1:{self.upstream_port}",
            endpoint_id=endpoint,
            agent_id=agent_id,
            slot=slot,
            acceptor=acceptor,
            timeout_s=5.0,
        )
        self.agents.append(tunnel)
        return tunnel, acceptor

    async def client(self, data: bytes = b"") -> Client:
        """Connect a client to the proxy port, and let it send something."""
        endpoint = HostnameEndpoint(reactor, "127.0.0.1", self.proxy_port)
        client: Any = await endpoint.connect(Factory.forProtocol(Client))
        self.clients.append(client)
        if data:
            client.send(data)
        return client

    def socket(self, data: bytes = b"", *, receive_buffer: int | None = None) -> socket.socket:
        """A client that reads nothing by itself."""
        sock = socket.socket()
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.connect(("127.0.0.1", self.proxy_port))
        sock.setblocking(False)
        self.sockets.append(sock)
        if data:
            sock.sendall(data)
        return sock

    async def close(self) -> None:
        """Close every connection and port."""
        for sock in self.sockets:
            sock.close()
        for client in self.clients:
            client.transport.abortConnection()
        for tunnel in self.agents:
            tunnel.abort()
        await self._proxy.stopListening()
        await self._upstream.stopListening()
        for channel in list(self.parts.proxy.connections):
            channel.transport.abortConnection()
        for connection in list(self.parts.upstream.connections):
            connection.transport.abortConnection()
        await eventually(lambda: not self.parts.proxy.connections and not self.parts.upstream.connections)
        await eventually(lambda: all(client.ended is not None for client in self.clients))
        self.parts.stop()


@implementer(IHalfCloseableProtocol)
class Client(Protocol):
    """A client of the proxy port.

    Attributes:
        data: what came.
        fin: the node ended its half.
        ended: why the connection is gone; None while it is not.
    """

    transport: Any

    def __init__(self) -> None:
        self.data = bytearray()
        self.fin = False
        self.ended: Failure | None = None

    def send(self, data: bytes) -> None:
        """Send bytes."""
        self.transport.write(data)

    def half_close(self) -> None:
        """End our half."""
        self.transport.loseWriteConnection()

    async def until(self, text: bytes, within_s: float = DEADLINE_S) -> bytes:
        """Wait for some bytes; returns what came up to their end, and forgets it."""
        await eventually(lambda: text in self.data or self.ended is not None, within_s)
        end = self.data.index(text) + len(text)
        taken = bytes(self.data[:end])
        del self.data[:end]
        return taken

    async def until_end(self, within_s: float = DEADLINE_S) -> bytes:
        """Wait for the end of what the node sends; returns what came."""
        await eventually(lambda: self.fin or self.ended is not None, within_s)
        return bytes(self.data)

    def dataReceived(self, data: bytes) -> None:
        self.data += data

    def readConnectionLost(self) -> None:
        self.fin = True
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        pass

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.ended = reason


def reset(sock: socket.socket) -> None:
    """Drop a connection with a RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


async def outcome(waiting: Deferred[Any]) -> Any:
    """The result of a Deferred, or the exception that it failed with."""
    try:
        return await waiting
    except Exception as error:
        return error
