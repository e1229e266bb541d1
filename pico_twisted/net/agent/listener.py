"""A listener: one endpoint, its sessions, and what serves it."""

from __future__ import annotations

import attrs

from pico_twisted.config import ListenerConfig
from pico_twisted.net.agent.listener_connections import ListenerConnections
from pico_twisted.net.agent.serving.forwarder import Forwarder
from pico_twisted.net.agent.serving.local_service import LocalService


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
