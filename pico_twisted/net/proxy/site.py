"""The proxy port's factory: what its connections share, and what is known of them together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Factory

from pico_twisted.config.values import in_networks
from pico_twisted.core.http1.head import HeadLimits
from pico_twisted.net.observe.access_log import AccessLog
from pico_twisted.net.observe.metrics import Metrics
from pico_twisted.net.proxy.channel import ProxyChannel
from pico_twisted.net.turn import Sweep


@attrs.frozen(kw_only=True)
class ProxySettings:
    """What all connections of the proxy port share."""

    node_id: str
    head_limits: HeadLimits
    head_timeout_s: float
    keepalive_timeout_s: float
    trusted_proxies: tuple[Any, ...]
    max_connections: int
    sweep: Sweep
    metrics: Metrics
    access_log: AccessLog


class ProxySite(Factory):
    """Makes the channels of the proxy port.

    Args:
        settings: what they share.
        resource: an IResource whose `render` is given each request.
        via: our pseudonym in Via.

    Attributes:
        connections: the open ones.
        paused: those whose transport holds enough.
        draining: answers close their connections.
        requests: taken so far.
    """

    noisy = False

    def __init__(self, settings: ProxySettings, resource: Any, via: bytes) -> None:
        self.settings = settings
        self.resource = resource
        self.via = via
        self.connections: set[ProxyChannel] = set()
        self.paused: set[ProxyChannel] = set()
        self.draining = False
        self.requests = 0

    def buildProtocol(self, addr: Any) -> ProxyChannel:
        """A channel for a new connection."""
        channel = ProxyChannel()
        channel.site = self
        channel.factory = self
        return channel

    def trusts(self, host: str) -> bool:
        """Whether the address is one of the trusted proxies."""
        return in_networks(self.settings.trusted_proxies, host)

    def held_bytes(self) -> int:
        """Bytes that wait in the transports of slow clients."""
        return sum(channel.held_bytes for channel in self.paused)

    def drain(self) -> None:
        """From now on each answer ends its connection, and idle ones are closed after a moment."""
        self.draining = True
        for channel in list(self.connections):
            channel.drain()

    def serving(self) -> int:
        """Requests in progress."""
        return sum(channel.serving for channel in self.connections)

    def quiet_for(self, seconds: float, clock: IReactorTime) -> Callable[[], bool]:
        """A condition: since it was made, no request was in progress for so long."""
        since = clock.seconds()
        served = self.requests

        def quiet() -> bool:
            nonlocal since, served
            now = clock.seconds()
            if self.requests != served or self.serving():
                served, since = self.requests, now
            return now - since >= seconds

        return quiet
