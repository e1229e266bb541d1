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
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import (
    IAddress,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.logger import Logger
from zope.interface import implementer

from pico_twisted.core.agent.service_call import ServiceRequest
from pico_twisted.net.socket.memory import Turns, connect_in_memory

log = Logger()

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


def _client_address(told: str) -> IAddress:
    """The address of a client, with port 0, which no node tells."""
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

    turns: Turns
    factory: IProtocolFactory
    endpoint: str
    request: ServiceRequest

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        try:
            return self._connect(protocolFactory)
        except Exception:
            log.failure("A program failed to take a connection of endpoint {endpoint}", endpoint=self.endpoint)
            return fail(ConnectError(string="the program failed to take the connection"))

    def _connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        request = self.request
        there, here = _client_address(request.client), PicoAddress(self.endpoint, request.asked_port)
        server = self.factory.buildProtocol(there)
        if server is None:
            return fail(ConnectError(string="the program takes no connection"))
        client = protocolFactory.buildProtocol(here)
        assert client is not None
        connect_in_memory(self.turns, client, server, client_address=there, server_address=here, secure=request.secure)
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
    _turns: Turns = attrs.field(init=False, default=attrs.Factory(lambda self: Turns(self.clock), takes_self=True))

    def endpoint_for(self, request: ServiceRequest) -> IStreamClientEndpoint:
        """How to connect to it for a call."""
        return _OneCall(turns=self._turns, factory=self.factory, endpoint=self.endpoint, request=request)
