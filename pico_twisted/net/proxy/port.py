"""What the connections of the proxy port share, and what is known of them together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Protocol

import attrs
from twisted.internet.interfaces import IConsumer, IPushProducer, IReactorTime, ITCPTransport
from twisted.web.resource import IResource

from pico_twisted.config import ProxyConfig, in_networks
from pico_twisted.core.http1.account import Peer
from pico_twisted.core.http1.head import HeadLimits
from pico_twisted.net.observe.access_log import AccessLog
from pico_twisted.net.observe.metrics import Metrics
from pico_twisted.net.socket.options import forget_output, plain_ip
from pico_twisted.net.turn import EndOfTurn, Sweep


@attrs.frozen(kw_only=True)
class ProxySettings:
    """What the configuration and the process give to the port."""

    node_id: str
    config: ProxyConfig
    head_limits: HeadLimits
    max_connections: int
    sweep: Sweep
    metrics: Metrics
    access_log: AccessLog
    end_of_turn: EndOfTurn | None = None  # gathers what one turn brings into one chunk
    client_gone: Callable[[bytes], object] = bool  # told the name of a client's connection that has ended


class IClientTransport(ITCPTransport, IPushProducer, IConsumer):
    """The transport of a client, with or without TLS."""


class ClientConnection(Protocol):
    """A connection, as its requests and its port know it.

    Attributes:
        peer: the other end of it.
        held_bytes: an upper bound on what the transport holds for the client; 0 while it takes more.
    """

    transport: IClientTransport
    port: ProxyPort
    peer: Peer
    held_bytes: int

    @property
    def serving(self) -> bool:
        """Whether a request is in progress, or on its way in."""

    def drain(self) -> None:
        """The node shuts down: an idle connection has a moment left."""

    def shut(self) -> None:
        """The node ends now, whatever is in progress."""

    def send(self, data: bytes) -> None:
        """Write to the client."""

    def goes_on(self) -> bool:
        """Whether the connection may go on behind the response that begins now."""

    def upgraded(self) -> None:
        """A 101 was written: from here bytes go both ways as they are."""

    def end_raw(self) -> None:
        """The service ended its direction of the upgraded protocol."""

    def linger(self) -> None:
        """End the connection behind what was written, without losing that to a reset."""

    def abort(self) -> None:
        """End the connection with a reset."""

    def pause_reading(self, why: str) -> None:
        """Stop reading, for one of two reasons; both have to be taken back."""

    def resume_reading(self, why: str) -> None:
        """Take one reason back."""

    def request_done(self) -> None:
        """The request in progress is over: go on with the next one, or close."""


class ProxyPort:
    """The state of the proxy port.

    Args:
        settings: of the port.
        resource: its `render` is given each request.
        via: our pseudonym in Via; None when there is to be no Via.

    Attributes:
        connections: the open ones.
        paused: those whose transport holds enough.
        draining: answers close their connections.
        error_pages: the operator's own, by status.
        trusts: whether an IP is of a trusted proxy.
        requests: taken so far.
    """

    def __init__(self, settings: ProxySettings, resource: IResource, via: bytes | None) -> None:
        self.settings = settings
        self.resource = resource
        self.via = via
        self.error_pages: Mapping[str, str] = {}
        self.trusts = partial(in_networks, settings.config.trusted_proxies)
        self.connections: set[ClientConnection] = set()
        self.paused: set[ClientConnection] = set()
        self.draining = False
        self.requests = 0

    def lost(self, connection: ClientConnection) -> None:
        """A connection is gone."""
        self.connections.discard(connection)
        self.paused.discard(connection)
        forget_output(connection.transport)
        if connection.peer.connection:
            self.settings.client_gone(connection.peer.connection)

    def peer(self, host: str, https: bool) -> Peer:
        """Who is at the other end of a connection, by the address that it is from."""
        ip = plain_ip(host)
        return Peer(ip.encode("ascii", "replace"), https, self.trusts if self.trusts(ip) else None)

    def held_bytes(self) -> int:
        """Bytes that wait in the transports of slow clients."""
        return sum(connection.held_bytes for connection in self.paused)

    def drain(self) -> None:
        """Let each answer end its connection from now on, and close idle ones after a moment."""
        self.draining = True
        for connection in list(self.connections):
            connection.drain()

    def serving(self) -> int:
        """Requests in progress."""
        return sum(connection.serving for connection in self.connections)

    def quiet_for(self, seconds: float, clock: IReactorTime) -> Callable[[], bool]:
        """A condition: since it was made, no request came for so long."""
        since = clock.seconds()
        served = self.requests

        def quiet() -> bool:
            nonlocal since, served
            now = clock.seconds()
            if self.requests != served:
                served, since = self.requests, now
            return now - since >= seconds

        return quiet
