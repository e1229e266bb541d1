"""A protocol of asyncio on a transport of Twisted: what a server of asyncio makes for a connection serves a call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Final, cast

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IAddress, IHalfCloseableProtocol, IProtocolFactory, IPushProducer, ISSLTransport
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from pico_twisted.net.socket.memory import FULL_BYTES, MemoryTransport

ProtocolFactory = Callable[[], asyncio.Protocol]
"""As of `loop.create_server`: makes the protocol of a connection."""


class BridgedTransport(asyncio.Transport):
    """A transport of asyncio over one of Twisted. See `asyncio.Transport` for what the methods are for.

    Args:
        transport: Twisted's, in memory.
        protocol: uses this one.
    """

    def __init__(self, transport: MemoryTransport, protocol: asyncio.BaseProtocol) -> None:
        extra: dict[str, object] = {"peername": _pair(transport.getPeer()), "sockname": _pair(transport.getHost())}
        if ISSLTransport.providedBy(transport):
            extra["sslcontext"] = SECURE
        super().__init__(extra)
        self._transport = transport
        self._protocol = protocol
        self._reading = True

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def is_closing(self) -> bool:
        return self._transport.disconnecting or not self._transport.connected

    def close(self) -> None:
        self._transport.loseConnection()

    def abort(self) -> None:
        self._transport.abortConnection()

    def is_reading(self) -> bool:
        return self._reading and not self.is_closing()

    def pause_reading(self) -> None:
        self._reading = False
        self._transport.pauseProducing()

    def resume_reading(self) -> None:
        self._reading = True
        self._transport.resumeProducing()

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        if not self.is_closing():  # Twisted's would send it
            self._transport.write(bytes(data))

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview[Any]]) -> None:
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self._transport.loseWriteConnection()

    def get_write_buffer_size(self) -> int:
        return self._transport.queued

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return (0, FULL_BYTES)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """The limits are those of the transport, which all others are paused by as well."""


SECURE: Final = "TLS ended at the node"
"""What `sslcontext` is for a client that came over TLS: protocols ask whether there is one."""


def _pair(address: IAddress) -> tuple[str, int]:
    one: Any = address  # of TCP, or ours: both have a host and a port
    return one.host, one.port


@implementer(IHalfCloseableProtocol, IPushProducer)
class Bridge(Protocol):
    """Hands what comes on to a protocol of asyncio.

    Args:
        make: makes that.
    """

    transport: MemoryTransport
    _bridged: BridgedTransport

    def __init__(self, make: ProtocolFactory) -> None:
        self._made = make()

    @property
    def _protocol(self) -> asyncio.Protocol:
        return cast(asyncio.Protocol, self._bridged.get_protocol())

    def connectionMade(self) -> None:
        self._bridged = BridgedTransport(self.transport, self._made)
        self.transport.registerProducer(self, True)
        self._made.connection_made(self._bridged)

    def dataReceived(self, data: bytes) -> None:
        self._protocol.data_received(data)

    def readConnectionLost(self) -> None:
        if not self._protocol.eof_received():
            self._bridged.close()

    def writeConnectionLost(self) -> None:
        """Asyncio does not tell that."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        clean = reason.check(ConnectionDone) is not None
        self._protocol.connection_lost(None if clean else ConnectionResetError(reason.getErrorMessage()))

    def pauseProducing(self) -> None:
        self._protocol.pause_writing()

    def resumeProducing(self) -> None:
        self._protocol.resume_writing()

    def stopProducing(self) -> None:
        """`connectionLost` follows."""


def bridge_factory(make: ProtocolFactory) -> IProtocolFactory:
    """A factory of Twisted whose connections are served by protocols of asyncio.

    Args:
        make: makes a protocol for each connection.
    """
    factory = Factory.forProtocol(lambda: Bridge(make))
    factory.noisy = False
    return factory
