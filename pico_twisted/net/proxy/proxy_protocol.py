"""Connections that begin with a PROXY protocol header: read it, then go on as if its client had connected.

Only a trusted proxy may send one, and it has to. So each of its connections waits here for the header, in plain bytes
even where TLS follows, and whatever the port serves is made with the address that the header tells. Connections of
anybody else are served as they are: a header of theirs is no HTTP and no TLS, and is refused as such.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Final

from prometheus_client.core import Metric
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IAddress, IHalfCloseableProtocol, IProtocolFactory, ITCPTransport
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from pico_twisted.core.proxy_protocol import ProxyHeaderError, read_proxy_header
from pico_twisted.core.sweep import NEVER, Sweep
from pico_twisted.net.observe.metrics import by_label
from pico_twisted.net.observe.repeated_warning import RepeatedWarning
from pico_twisted.net.proxy.port import ProxyPort
from pico_twisted.net.socket.options import hand_to, plain_ip

log = Logger()

MAX_WAITING: Final = 2048
"""Most connections whose header is awaited; more are closed at once. Each may hold 4 KiB."""


def behind_proxies(factory: IProtocolFactory, port: ProxyPort) -> IProtocolFactory:
    """A factory that reads the headers of the port's trusted proxies, if its configuration says that they send some.

    Args:
        factory: of the proxy port, with or without TLS.
        port: whose factory it is.
    """
    settings = port.settings
    if not settings.config.proxy_protocol:
        return factory
    reading = ProxyHeaderFactory(factory, port.trusts, settings.sweep, settings.config.head_timeout)
    settings.metrics.families(reading.metrics)
    return reading


class ProxyHeaderFactory(Factory):
    """A factory for a port behind load balancers that send headers.

    Args:
        factory: makes the protocols that are served, for the address of the client.
        trusts: whether an IP is of a proxy that sends a header.
        sweep: watches the deadlines.
        timeout_s: how long a header may take.

    Attributes:
        waiting: connections whose header has not come yet.
    """

    noisy = False

    def __init__(
        self, factory: IProtocolFactory, trusts: Callable[[str], bool], sweep: Sweep, timeout_s: float
    ) -> None:
        self.factory = factory
        self.sweep = sweep
        self.timeout_s = timeout_s
        self.waiting: set[AwaitsHeader] = set()
        self._trusts = trusts
        self._refused: Counter[str] = Counter()
        self._warning = RepeatedWarning()

    def doStart(self) -> None:
        """See `Factory.doStart`."""
        super().doStart()  # type: ignore[no-untyped-call]
        self.factory.doStart()

    def doStop(self) -> None:
        """See `Factory.doStop`."""
        self.factory.doStop()
        super().doStop()  # type: ignore[no-untyped-call]

    # Twisted's type asks for protocols that know their factory, which ours need not.
    def buildProtocol(self, addr: IAddress | None) -> Any:
        """What awaits a header for a trusted proxy; for anybody else what is served."""
        assert addr is not None
        host = plain_ip(getattr(addr, "host", ""))
        if not self._trusts(host):
            return self.factory.buildProtocol(addr)
        if len(self.waiting) >= MAX_WAITING:
            self.refused("busy", "too many connections wait for one", host)
            return None
        return AwaitsHeader(self, addr)

    def refused(self, kind: str, reason: str, host: str) -> None:
        """Count a connection that is closed for its header, and log it now and then."""
        self._refused[kind] += 1
        suppressed = self._warning.due(reason + host, self.sweep.now)
        if suppressed is not None:
            log.warn(
                "A proxy sent no usable PROXY protocol header: {reason}",
                reason=reason,
                peer=host,
                suppressed=suppressed,
            )

    def metrics(self) -> Iterator[Metric]:
        """What is counted, for a scrape."""
        yield by_label(
            "pico_proxy_header_refusals",
            "Connections of trusted proxies that were closed for their PROXY protocol header, by reason.",
            "reason",
            self._refused,
        )


@implementer(IHalfCloseableProtocol)
class AwaitsHeader(Protocol):
    """Reads the header of one connection, and hands all that follows to what is served.

    Args:
        owner: the factory.
        addr: of the proxy.
    """

    transport: ITCPTransport

    def __init__(self, owner: ProxyHeaderFactory, addr: IAddress) -> None:
        self.deadline = NEVER
        self._owner = owner
        self._addr = addr
        self._data = b""

    def connectionMade(self) -> None:
        """Begin to wait."""
        self.deadline = self._owner.sweep.now + self._owner.timeout_s
        self._owner.waiting.add(self)
        self._owner.sweep.add(self)

    def dataReceived(self, data: bytes) -> None:
        """Bytes of the header."""
        self._data += data
        try:
            header = read_proxy_header(self._data)
        except ProxyHeaderError as error:
            self._refuse("bad", str(error))
            return
        if header is None:
            return
        addr = self._addr
        if header.host:
            kind = IPv6Address if ":" in header.host else IPv4Address
            addr = kind("TCP", header.host, header.port)
        rest, self._data = self._data[header.size :], b""
        self._settled()
        inner = self._owner.factory.buildProtocol(addr)
        if inner is None:
            self.transport.abortConnection()
            return
        hand_to(self.transport, inner)
        inner.makeConnection(self.transport)
        if rest:
            inner.dataReceived(rest)

    def deadline_passed(self, now: float) -> None:
        """The header did not come in time."""
        self._refuse("late", "it did not come in time")

    def _refuse(self, kind: str, reason: str) -> None:
        self._owner.refused(kind, reason, plain_ip(getattr(self._addr, "host", "")))
        self._settled()
        self.transport.abortConnection()

    def _settled(self) -> None:
        self.deadline = NEVER
        self._owner.waiting.discard(self)
        self._owner.sweep.discard(self)

    def readConnectionLost(self) -> None:
        """The peer's FIN (IHalfCloseableProtocol). One before the header is a check whether the port is open."""
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """Our half is closed (IHalfCloseableProtocol)."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is gone."""
        self._settled()
