"""A listener: one endpoint, its sessions, and what serves it."""

from __future__ import annotations

import attrs

from pico_twisted.config import ListenerConfig
from pico_twisted.net.agent.listener_connections import ListenerConnections
from pico_twisted.net.agent.serving.forwarder import Forwarder
from pico_twisted.net.agent.serving.local_service import LocalService
from pico_twisted.net.agent.serving.service_health import ServiceHealth
from pico_twisted.net.agent.told_health import tell_health


@attrs.define(eq=False, kw_only=True)
class Listener:
    """One endpoint and what serves it.

    Attributes:
        config: in force for new calls.
        connections: its sessions, which live on when it changes.
        forwarder: takes their calls.
    """

    config: ListenerConfig
    connections: ListenerConnections
    forwarder: Forwarder

    @property
    def service(self) -> LocalService:
        """Where new calls go."""
        return self.forwarder.service

    @property
    def health(self) -> ServiceHealth | None:
        """Of the service; None where nobody looks after it."""
        return self.service.health

    def begin(self) -> None:
        """Check the service, if that is wanted."""
        if self.health is not None:
            self.health.start(self._health_changed)

    def change(self, config: ListenerConfig, service: LocalService) -> LocalService:
        """Serve as it is said now. Returns what served until now, which has its last calls."""
        old, before = self.service, self.health
        self.config, self.forwarder.service = config, service
        if before is not None:
            before.stop()
        if service.health is not None:
            service.health.start(self._health_changed, before)
        old.retire()
        return old

    def _health_changed(self, health: ServiceHealth) -> None:
        """Tell the nodes how the service is, unless it is not ours any more."""
        if health is self.health:
            for session in self.connections.sessions:
                tell_health(session.tunnel, health)

    def close(self) -> None:
        """Serve nothing more."""
        if self.health is not None:
            self.health.stop()
        self.service.close()
