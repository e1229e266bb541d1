"""The proxy port's factory."""

from __future__ import annotations

from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory

from pico_twisted.net.proxy.http1.channel import ProxyChannel
from pico_twisted.net.proxy.port import ProxyPort


class ProxySite(ProxyPort, Factory):
    """Makes the channels of the proxy port."""

    noisy = False

    def buildProtocol(self, addr: IAddress | None) -> ProxyChannel:
        """A channel for a new connection."""
        channel = ProxyChannel(self, addr)
        channel.factory = self
        return channel
