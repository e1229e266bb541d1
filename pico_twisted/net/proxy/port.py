"""What the connections of the proxy port share, and what is known of them together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Final, Protocol

import attrs
from twisted.internet.interfaces import IConsumer, IPushProducer, IReactorTime, ITCPTransport
from twisted.web.resource import IResource

from pico_twisted.config import ProxyConfig
from pico_twisted.config.values import is_trusted
from pico_twisted.core.access.ceilings import Ceiling, Limit, Over
from pico_twisted.core.access.rules import Rule
from pico_twisted.core.access.subject import Subject
from pico_twisted.core.http1.account import Peer
from pico_twisted.core.http1.errors import Http1Error
from pico_twisted.core.http1.head import HeadLimits
from pico_twisted.core.http2.engine import AVAILABLE
from pico_twisted.core.routing.endpoint import EndpointNames
from pico_twisted.core.sweep import Sweep
from pico_twisted.net.access.ceilings import NodeCeilings, answer_to, leave_all
from pico_twisted.net.observe.metrics import Metrics
from pico_twisted.net.observe.requests import RequestWatch
from pico_twisted.net.proxy.http2.counts import Http2Counts
from pico_twisted.net.proxy.turn_line import TurnLine
from pico_twisted.net.socket.end_of_turn import EndOfTurn
from pico_twisted.net.socket.options import forget_output, plain_ip

TRANSPORT_BYTES: Final = 64 * 1024
"""Bytes that a Twisted transport holds when it asks us to pause."""


@attrs.frozen(kw_only=True)
class ProxySettings:
    """What the configuration and the process give to the port."""

    node_id: str
    config: ProxyConfig
    head_limits: HeadLimits
    max_connections: int
    clock: IReactorTime
    sweep: Sweep
    metrics: Metrics
    requests: RequestWatch
    ceilings: NodeCeilings
    end_of_turn: EndOfTurn | None = None  # gathers what one turn brings into one chunk
    client_gone: Callable[[bytes], object] = bool  # told the name of a client's connection that has ended

    @property
    def turn_is_long(self) -> Callable[[], bool]:
        """Whether the process has been busy with what it does now for as long as others may wait."""
        return bool if self.end_of_turn is None else self.end_of_turn.turn_is_long


class IClientTransport(ITCPTransport, IPushProducer, IConsumer):
    """The transport of a client, with or without TLS."""


@attrs.define(kw_only=True, eq=False)
class Visitor:
    """Somebody whose requests come on a connection.

    Attributes:
        values: of the fields that can show who it is; what has the same values, on the same connection, is from them.
        epoch: of the gate, when it said who it is.
        subject: who it is.
        in_authorization, in_subprotocol: these fields show what no service may see.
        endpoint, rule: where their last request went, and the rule that let it in.
        offers_ours: where a service of WebSockets chooses no subprotocol, `SUBPROTOCOL` is chosen.
    """

    values: tuple[bytes | None, ...]
    epoch: object
    subject: Subject
    in_authorization: bool
    in_subprotocol: bool
    offers_ours: bool
    endpoint: str = ""
    rule: Rule | None = None


class Forward(Protocol):
    """A request on its way, as its connection knows it: a `RoutedRequest`, or what comes before."""

    @property
    def upstream(self) -> str:
        """The agent or node that was tried last."""

    @property
    def upstream_node(self) -> str:
        """The same if it is a node; empty if it is an agent."""

    @property
    def error(self) -> str:
        """The code of what went wrong."""

    def body(self, data: bytes) -> None:
        """A piece of the request's body, or of the upgraded protocol."""

    def body_ended(self) -> None:
        """The request is complete, or the client closed its direction of the upgraded protocol."""

    def trailers(self, block: bytes) -> None:
        """The request is complete, and ends with trailers, which `core.http1.trailers` wrote."""

    def gone(self) -> None:
        """The client left."""

    def pause(self) -> None:
        """The client's transport holds enough of the response."""

    def resume(self) -> None:
        """The client's transport took what it held."""


class ClientRequest(Protocol):
    """A request, as the port knows it.

    Attributes:
        visitor: who sends it, where the port authenticates.
        endpoint: the ID of its endpoint, once that is decided.
    """

    visitor: Visitor | None
    endpoint: str

    def shut(self, error: str) -> None:
        """End now, for a reason that is none of the client's or the service's."""


class ClientConnection(Protocol):
    """A connection, as its requests and its port know it: what is so for all requests that come on it.

    Attributes:
        peer: the other end of it.
        visitor: who the last request was from, where the port authenticates.
    """

    transport: IClientTransport
    port: ProxyPort
    peer: Peer
    visitor: Visitor | None

    @property
    def held_bytes(self) -> int:
        """An upper bound on what is held for the client; 0 while it takes all."""

    @property
    def serving(self) -> int:
        """How many requests are in progress, or on their way in."""

    def requests(self) -> Iterable[ClientRequest]:
        """Those that are in progress."""

    def drain(self) -> None:
        """The node shuts down: an idle connection has a moment left."""

    def shut(self, error: str = ...) -> None:
        """End now, whatever is in progress, for a reason that is none of the client's or the service's."""

    def request_done(self, request: ClientRequest) -> None:
        """A request is over."""

    def hold_back(self, until: float) -> None:
        """Begin no further request before a time, in the sweep's seconds, or none at all: the one that has come just
        now is to be refused, and a client that asks again at once would have us refuse as fast as it can."""


class Http1Connection(ClientConnection, Protocol):
    """A connection of HTTP/1.1, as its request writes to it.

    Attributes:
        reading_stopped: why the client is not read now.
    """

    reading_stopped: set[str]

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


class ProxyPort:
    """The state of the proxy port.

    Args:
        settings: of the port.
        resource: its `render` is given each request.
        via: our pseudonym in Via; None when there is to be no Via.

    Attributes:
        connections: the open ones.
        holding: those that something is held for, or was a moment ago.
        draining: answers close their connections.
        error_pages: the operator's own, by status.
        http2: what is counted of it, where it is spoken.
        min_body_rate: bytes a second that a client has to send of a body; 0 for any.
        names: how clients name endpoints.
        trusts: whether an IP is of a trusted proxy.
        line: where requests that have waited are begun.
        requests: taken so far.
    """

    def __init__(self, settings: ProxySettings, resource: IResource, via: bytes | None) -> None:
        self.settings = settings
        self.resource = resource
        self.via = via
        self.error_pages: Mapping[str, str] = {}
        self.min_body_rate = settings.config.min_body_rate
        self.http2 = Http2Counts() if settings.config.http2.enabled and AVAILABLE else None
        self.read_names(settings.config)
        self.trusts = partial(is_trusted, settings.config.trusted_proxies)
        self.line = TurnLine(settings.clock)
        self.connections: set[ClientConnection] = set()
        self.holding: set[ClientConnection] = set()
        self._ceilings: dict[ClientConnection, Sequence[Ceiling]] = {}  # of their addresses, if those have one
        self.draining = False
        self.requests = 0

    def read_names(self, config: ProxyConfig) -> None:
        """From here on endpoints are named as a configuration says."""
        self.names = EndpointNames(config.hosts, config.public_url)

    def made(self, connection: ClientConnection, host: str, https: bool) -> bool:
        """A connection is there. Returns whether it may stay.

        Args:
            connection: gets its `peer`.
            host: the address that it is from; `UNIX` for a unix socket.
            https: it is TLS.
        """
        settings = self.settings
        if len(self.connections) >= settings.max_connections:
            return False
        peer = connection.peer = self.peer(host, https)
        if peer.trusts is None:
            ceilings = settings.ceilings.connected(connection, peer.ip)
            if isinstance(ceilings, Over):
                return False
            if ceilings:
                self._ceilings[connection] = ceilings
        self.connections.add(connection)
        return True

    def lost(self, connection: ClientConnection) -> None:
        """A connection is gone."""
        if connection in self._ceilings:
            leave_all(self._ceilings.pop(connection), connection)
        self.connections.discard(connection)
        self.holding.discard(connection)
        forget_output(connection.transport)
        if connection.peer.connection:
            self.settings.client_gone(connection.peer.connection)

    def peer(self, host: str, https: bool) -> Peer:
        """Who is at the other end of a connection, by the address that it is from."""
        ip = plain_ip(host)
        return Peer(ip.encode("ascii", "replace"), https, self.trusts if self.trusts(ip) else None)

    def body_too_long(self) -> Http1Error:
        """What is answered to a body that is longer than its endpoint takes. It is counted."""
        over = Over(Limit.ENDPOINT_BODY, 0.0)
        self.settings.ceilings.counts.count(over.limit)
        status, message, code = answer_to(over)
        return Http1Error(status, code, message)

    def body_too_slow(self) -> Http1Error:
        """What is answered to a body that comes too slowly. It is counted."""
        self.settings.ceilings.counts.count(Limit.SLOW_BODY)
        return Http1Error(408, Limit.SLOW_BODY.value, "the request body came too slowly")

    def held_bytes(self) -> int:
        """Bytes that are held for slow clients, or of them."""
        held = {connection: connection.held_bytes for connection in self.holding}
        self.holding = {connection for connection, count in held.items() if count}
        return sum(held.values())

    def drain(self) -> None:
        """Let each answer end its connection from now on, and close idle ones after a moment."""
        self.draining = True
        for connection in list(self.connections):
            connection.drain()

    def drain_no_more(self) -> None:
        """Let connections go on behind an answer again. Those that have been told of their end still end."""
        self.draining = False

    def serving(self) -> int:
        """How many requests are in progress."""
        return sum(connection.serving for connection in self.connections)

    def in_progress(self) -> Iterator[ClientRequest]:
        """Requests in progress."""
        for connection in self.connections:
            yield from connection.requests()

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
