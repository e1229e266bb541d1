"""How a connection becomes one of HTTP/2: its client asked for that with TLS (ALPN, RFC 7301), or begins with it."""

from __future__ import annotations

from typing import cast

from twisted.internet.interfaces import INegotiated, ISSLTransport

from pico_twisted.net.proxy.client_channel import ClientChannel
from pico_twisted.net.proxy.http2.channel import Http2Channel
from pico_twisted.net.proxy.port import IClientTransport
from pico_twisted.net.socket.options import hand_to
from pico_twisted.net.tls.port_context import HTTP_2


def asks_for_http2(transport: IClientTransport) -> bool:
    """Whether TLS said that HTTP/2 is to be spoken."""
    return ISSLTransport.providedBy(transport) and cast(INegotiated, transport).negotiatedProtocol == HTTP_2


def take_over(channel: ClientChannel, first: bytes = b"") -> None:
    """Have a connection served as HTTP/2 from here on.

    Args:
        channel: that had it until now, and hears no more of it.
        first: bytes that have come.
    """
    transport = channel.transport
    assert channel.port.http2 is not None  # else nobody could ask for it
    served = Http2Channel(channel.port, channel.address, channel.port.http2)
    transport.unregisterProducer()
    hand_to(transport, served)
    served.makeConnection(transport)
    if first:
        served.dataReceived(first)
