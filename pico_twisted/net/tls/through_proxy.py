"""Connections through a forward proxy of the network that we are in: CONNECT (RFC 9110 9.3.6).

The proxy is asked for a host and a port, and once it has answered with a 2xx all bytes are the other server's. It is
somebody in between: its answer is bounded, none of its words are shown, and what it does to the bytes is for TLS inside
the tunnel to notice. It may be spoken to over TLS itself.
"""

from __future__ import annotations

from typing import Final, cast

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import wrapClientTLS
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
    ITCPTransport,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from pico_twisted.core.forward_proxy import ForwardProxy
from pico_twisted.core.http1.errors import Http1Error
from pico_twisted.core.http1.head import HeadLimits, parse_response_head
from pico_twisted.core.http1.refusal import AWAY
from pico_twisted.net.socket.dialling import DialReactor, tcp_endpoint
from pico_twisted.net.socket.options import hand_to
from pico_twisted.net.tls.client import client_tls, explain_tls
from pico_twisted.net.tls.failures import connect_failure_text

MAX_ANSWER_BYTES: Final = 16 * 1024
"""Most bytes of a proxy's answer until its head is complete, interim ones included."""

_LIMITS: Final = HeadLimits(head_bytes=MAX_ANSWER_BYTES, fields=200)


class ProxyFailed(Exception):
    """A proxy did not connect us.

    Attributes:
        message: why, in words.
        away: it says that it cannot reach the other server.
    """

    def __init__(self, message: str, *, away: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.away = away


def through_proxy(
    reactor: DialReactor, proxy: ForwardProxy, target: str, agent: str, timeout_s: float
) -> IStreamClientEndpoint:
    """How to connect to a server through a proxy.

    Args:
        reactor: connects.
        proxy: which one it is.
        target: host and port of the server, as a URL has them.
        agent: who asks, for User-Agent.
        timeout_s: for the connection to the proxy without TLS; what follows is for the caller to bound.
    """
    to_proxy = tcp_endpoint(reactor, proxy.host, proxy.port, timeout_s)
    if proxy.scheme == "https":
        to_proxy = wrapClientTLS(client_tls(proxy.host), to_proxy, reactor)
    return ThroughProxy(to_proxy, proxy, target, agent)


@implementer(IStreamClientEndpoint)
@attrs.frozen
class ThroughProxy:
    """See `through_proxy`.

    Attributes:
        endpoint: how to connect to the proxy.
        proxy, target, agent: as given.
    """

    endpoint: IStreamClientEndpoint
    proxy: ForwardProxy
    target: str
    agent: str

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """See `IStreamClientEndpoint.connect`. Fails with `ProxyFailed`, or when it is cancelled; it has no time limit
        of its own."""
        asking = _Asking(self, protocolFactory)
        factory = Factory.forProtocol(lambda: asking)
        factory.noisy = False
        # Twisted's types: the factory of a function makes what the function returns
        connecting = self.endpoint.connect(cast(IProtocolFactory, factory))
        asking.made.addErrback(_on_behalf_of, connecting)
        connecting.addErrback(self._unreachable, asking)
        return asking.made

    def request(self) -> bytes:
        """What the proxy is asked."""
        target = self.target.encode("ascii")
        lines = [b"CONNECT %b HTTP/1.1" % target, b"Host: " + target, b"User-Agent: " + self.agent.encode("ascii")]
        if self.proxy.authorization:
            lines.append(b"Proxy-Authorization: " + self.proxy.authorization)
        return b"\r\n".join(lines) + b"\r\n\r\n"

    def refusal(self, status: int) -> ProxyFailed:
        """What an answer other than a 2xx means."""
        proxy, target = self.proxy, self.target
        if status in (401, 407):  # tinyproxy answers wrong ones with the former
            words = "does not take the user and password" if proxy.credentials else "wants a user and a password"
            return ProxyFailed(f"the proxy {proxy} {words} ({status})")
        if status in AWAY:
            return ProxyFailed(f"the proxy {proxy} cannot reach {target} ({status})", away=True)
        if status == 403:
            return ProxyFailed(f"the proxy {proxy} does not allow CONNECT to {target} ({status})")
        if status in (405, 501):
            return ProxyFailed(f"the proxy {proxy} does not know CONNECT ({status})")
        return ProxyFailed(f"the proxy {proxy} answers CONNECT to {target} with {status}")

    def _unreachable(self, failure: Failure, asking: _Asking) -> None:
        asking.failed(ProxyFailed(f"the proxy {self.proxy} cannot be reached: {connect_failure_text(failure)}"))


def _on_behalf_of(failure: Failure, connecting: Deferred[IProtocol]) -> Failure:
    """Whoever waits has given up."""
    if failure.check(CancelledError, ConnectingCancelledError):
        connecting.cancel()
    return failure


@implementer(IHalfCloseableProtocol)
class _Asking(Protocol):
    """Asks the proxy on one connection, and makes way for whom that is for.

    Attributes:
        made: fires with who has the connection.
    """

    transport: ITCPTransport

    def __init__(self, endpoint: ThroughProxy, factory: IProtocolFactory) -> None:
        self.made: Deferred[IProtocol] = Deferred(self._cancelled)
        self._endpoint = endpoint
        self._factory = factory
        self._data = b""

    def failed(self, error: Exception) -> None:
        """No connection will be there."""
        if not self.made.called:
            self.made.errback(Failure(error))

    def _cancelled(self, _: Deferred[IProtocol]) -> None:
        if self.transport is not None:
            self.transport.abortConnection()

    def connectionMade(self) -> None:
        if self.made.called:
            self.transport.abortConnection()
            return
        self.transport.write(self._endpoint.request())

    def dataReceived(self, data: bytes) -> None:
        if self.made.called:
            return
        self._data += data
        while (end := self._data.find(b"\r\n\r\n", 0, MAX_ANSWER_BYTES)) >= 0:
            try:
                status = parse_response_head(self._data[: end + 4], _LIMITS).status
            except Http1Error:
                self._refused(ProxyFailed(f"what answers at {self._endpoint.proxy} is no HTTP proxy"))
                return
            self._data = self._data[end + 4 :]
            if status >= 200:
                self._answered(status)
                return
            if status == 101:
                break
        else:
            if len(self._data) < MAX_ANSWER_BYTES:
                return
        self._refused(ProxyFailed(f"what answers at {self._endpoint.proxy} is no HTTP proxy"))

    def _answered(self, status: int) -> None:
        if status >= 300:
            self._refused(self._endpoint.refusal(status))
            return
        rest, self._data = self._data, b""
        transport = self.transport
        inner = self._factory.buildProtocol(transport.getPeer())
        if inner is None:
            self._refused(ProxyFailed("the connection is not wanted any more"))
            return
        hand_to(transport, inner)
        inner.makeConnection(transport)
        self.made.callback(inner)
        if rest:
            inner.dataReceived(rest)

    def _refused(self, error: ProxyFailed) -> None:
        self.failed(error)
        self.transport.abortConnection()

    def readConnectionLost(self) -> None:
        """The proxy's FIN (IHalfCloseableProtocol)."""
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """Our half is closed (IHalfCloseableProtocol)."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self.made.called:
            why = explain_tls(reason)
            words = "closed the connection without an answer" if why is None else f"cannot be reached: {why}"
            self.failed(ProxyFailed(f"the proxy {self._endpoint.proxy} {words}"))
