"""A program in this process that serves the calls of a listener: each call gets a connection of its own, in memory.

What the program sees of a connection tells who the call is from: `getPeer` is the client that the node took the call
from, and the connection is secure (`ISSLTransport`) when that client came over TLS. So a connection belongs to one
call: another one may be from somebody else, and many protocols ask for the peer only once. Without a handshake it costs
little. What a node writes into the head of each call (X-Forwarded-For and its kin) is its own account of the client, of
which strangers can say nothing.
"""

from __future__ import annotations

from ipaddress import IPv4Address as Ip4
from ipaddress import ip_address
from typing import Final

import attrs
from twisted.internet import address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.interfaces import (
    IAddress,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from zope.interface import implementer

from pico_twisted.core.http1.head import RequestHead
from pico_twisted.net.socket.memory import connect_in_memory

UNKNOWN_CLIENT: Final = "unknown"
"""The host of a client whose address the node does not know or does not tell."""


@implementer(IAddress)
@attrs.frozen
class PicoAddress:
    """An address that is none of an IP network.

    Attributes:
        host: the endpoint ID that a program listens at; or `unknown`, or the name that stands for a client.
        port: of an endpoint the port that the client asked for; else 0.
    """

    host: str
    port: int = 0


@attrs.frozen(kw_only=True)
class Caller:
    """Who a call is from, as the node tells it.

    Attributes:
        client: the address of the client, with port 0, which no node tells.
        port: the port that the client asked for; 0 when it is not known.
        secure: the client came over TLS.
    """

    client: IAddress
    port: int
    secure: bool


def caller_of(request: RequestHead | None) -> Caller:
    """Read the node's account of the client.

    Args:
        request: the head of a call; None when nothing is known.
    """
    by_name = {} if request is None else request.by_name
    told = by_name.get(b"x-forwarded-for", b"").partition(b",")[0].strip().decode("ascii", "replace")
    port = by_name.get(b"x-forwarded-port", b"")
    return Caller(
        client=_client_address(told),
        port=int(port) if port.isdigit() and len(port) <= 5 else 0,
        secure=by_name.get(b"x-forwarded-proto", b"") == b"https",
    )


def _client_address(told: str) -> IAddress:
    try:
        ip = ip_address(told)
    except ValueError:
        return PicoAddress(told or UNKNOWN_CLIENT)
    kind = address.IPv4Address if isinstance(ip, Ip4) else address.IPv6Address
    return kind("TCP", str(ip), 0)


@implementer(IStreamClientEndpoint)
@attrs.frozen(kw_only=True)
class _OneCall:
    """Connects to the program for one call."""

    clock: IReactorTime
    factory: IProtocolFactory
    endpoint: str
    caller: Caller

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        caller = self.caller
        here = PicoAddress(self.endpoint, caller.port)
        server = self.factory.buildProtocol(caller.client)
        if server is None:
            return fail(ConnectionRefusedError("the program takes no connection"))
        client = protocolFactory.buildProtocol(here)
        assert client is not None
        connect_in_memory(
            self.clock, client, server, client_address=caller.client, server_address=here, secure=caller.secure
        )
        return succeed(client)


@attrs.frozen(kw_only=True)
class InProcessProgram:
    """A program that serves the calls of one listener (`local_service.Program`).

    Attributes:
        clock: the reactor.
        factory: makes the protocol of each connection.
        endpoint: the endpoint ID.
    """

    clock: IReactorTime
    factory: IProtocolFactory
    endpoint: str

    def endpoint_for(self, request: RequestHead | None) -> IStreamClientEndpoint:
        """How to connect to it for a call."""
        return _OneCall(clock=self.clock, factory=self.factory, endpoint=self.endpoint, caller=caller_of(request))
