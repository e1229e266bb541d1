"""A local service of an agent on a real socket, and callers of it: what its tests and others share."""

from __future__ import annotations

import socket
import ssl
import threading
from typing import Any

import attrs
from twisted.internet.task import deferLater

from pico_twisted.config import ServiceAddress, ServiceTlsConfig
from pico_twisted.net.agent.own_health import OwnHealth
from pico_twisted.net.agent.serving.forwarder import Forwarder
from pico_twisted.net.agent.serving.kinds import make_service
from pico_twisted.net.agent.serving.local_service import ServiceParts
from pico_twisted.net.observe.metrics import Metrics
from pico_twisted.net.sweep import ReactorSweep
from tests.net.agent.agent_fakes import FakeTunnel, Request, listener_config, tunnel_parts
from tests.net.in_reactor import DEADLINE_S, reactor, until

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
UPGRADE = b"Connection: Upgrade\r\nUpgrade: echo\r\n"
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"


async def answered(request: Request) -> None:
    """Until the call is over, in whichever way."""
    await until(lambda: request.ended or request.reset_code, "the answer")


async def begun(request: Request) -> None:
    """Until something of the answer has come."""
    await until(lambda: request.frames, "the beginning of an answer")


class Service:
    """A listening socket; the test accepts and speaks by itself, without blocking.

    Args:
        host: where; on any port.
        context: of TLS; None for none.
        path: of a unix socket, in place of a host.
        header_bytes: how long the PROXY protocol header is that each connection begins with.
    """

    def __init__(
        self, host: str = "127.0.0.1", context: ssl.SSLContext | None = None, path: str = "", header_bytes: int = 0
    ) -> None:
        if path:
            self.listening = socket.socket(socket.AF_UNIX)
            self.listening.bind(path)
            self.listening.listen()
            self.port = 0
        else:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            self.listening = socket.create_server((host, 0), family=family)
            self.port = self.listening.getsockname()[1]
        self.listening.setblocking(False)
        self.headers: list[bytes] = []
        self._header_bytes = header_bytes
        self._context = context
        self._open: list[socket.socket] = []

    def close(self) -> None:
        for sock in [self.listening, *self._open]:
            sock.close()

    async def accept(self) -> Client:
        """The next connection."""

        def accepted() -> socket.socket | None:
            try:
                return self.listening.accept()[0]
            except BlockingIOError:
                return None

        sock = await until(accepted, "a connection")
        if self._header_bytes:
            sock.setblocking(False)
            await until(lambda: _waiting(sock) >= self._header_bytes, "a header")
            self.headers.append(sock.recv(self._header_bytes))
        if self._context is not None:
            sock = await self._handshake(sock, self._context)
        sock.setblocking(False)
        self._open.append(sock)
        return Client(sock)

    async def answer(self, data: bytes) -> Client:
        """Take the next connection and its request, and answer."""
        client = await self.accept()
        await client.request()
        await client.send(data)
        return client

    async def _handshake(self, sock: socket.socket, context: ssl.SSLContext) -> ssl.SSLSocket:
        sock.setblocking(True)
        sock.settimeout(DEADLINE_S)
        done: list[Any] = []

        def shake() -> None:
            try:
                done.append(context.wrap_socket(sock, server_side=True, suppress_ragged_eofs=False))
            except (OSError, ssl.SSLError) as error:
                done.append(error)

        threading.Thread(target=shake, daemon=True).start()
        outcome = await until(lambda: done, "a handshake")
        if isinstance(outcome[0], Exception):
            raise outcome[0]
        wrapped: ssl.SSLSocket = outcome[0]
        return wrapped


def _waiting(sock: socket.socket) -> int:
    """How many bytes came, of the first few."""
    try:
        return len(sock.recv(256, socket.MSG_PEEK))
    except BlockingIOError:
        return 0


class Client:
    """One accepted connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.received = b""
        self.ended = False
        self.broken = False

    def look(self) -> None:
        """Read what there is."""
        while not self.ended and not self.broken:
            try:
                data = self.sock.recv(1 << 20)
            except (BlockingIOError, ssl.SSLWantReadError):
                return
            except (ConnectionResetError, ssl.SSLError):
                self.broken = True
                return
            if not data:
                self.ended = True
            self.received += data

    async def request(self) -> bytes:
        """Read until the next head is complete; returns what came."""

        def whole() -> bool:
            self.look()
            return b"\r\n\r\n" in self.received

        await until(whole, "a request")
        received, self.received = self.received, b""
        return received

    async def rest(self) -> bytes:
        """Read until the agent has ended its half; returns what came."""

        def over() -> bool:
            self.look()
            return self.ended

        await until(over, "the caller's end")
        return self.received

    async def gone(self) -> None:
        """Until the agent has closed it."""

        def over() -> bool:
            self.look()
            return self.ended or self.broken

        await until(over, "the end of the connection")

    async def send(self, data: bytes) -> None:
        """Send all of it."""
        view = memoryview(data)
        while view:
            try:
                view = view[self.sock.send(view) :]
            except (BlockingIOError, ssl.SSLWantWriteError):
                await deferLater(reactor, 0.002)


class ServiceBench:
    """A forwarder between a fake tunnel and a real service."""

    def __init__(
        self,
        address: ServiceAddress,
        endpoint: Any = None,
        timeout_s: float = 5.0,
        tls: ServiceTlsConfig = ServiceTlsConfig(),  # noqa: B008 - it is frozen
        proxy_protocol: str = "none",
        protocol: str = "http",
    ) -> None:
        self.sweep = ReactorSweep(reactor, 0.02)
        self.sweep.start()
        self.metrics = Metrics("agent")
        config = listener_config(address, timeout_s=timeout_s)
        local = make_service(
            ServiceParts(
                config=attrs.evolve(config, tls=tls, proxy_protocol=proxy_protocol, protocol=protocol),
                tunnel=tunnel_parts(reactor, self.sweep, self.metrics),
                agent_id="agent-1",
                reactor=reactor,
                dials=endpoint,
            )
        )
        self.local: Any = local  # of the class that the configuration asks for
        self.forwarder = Forwarder(self.local, OwnHealth(self.sweep), lambda tunnel: None)
        self.tunnel = FakeTunnel(self.forwarder)

    def request(self, line: bytes, extra: bytes = b"", more: bool = False, *, greedy: bool = True) -> Request:
        """A request without body bytes."""
        return self.tunnel.request(line + b" HTTP/1.1\r\nHost: web\r\n" + extra + b"\r\n", more, greedy=greedy)

    async def close(self) -> None:
        """Leave nothing behind."""
        self.tunnel.end()
        self.local.close()
        await until(lambda: not self.local.connection_count, "all connections closed")
        self.sweep.stop()
