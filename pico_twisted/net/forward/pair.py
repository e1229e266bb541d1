"""One endpoint and the local connections that are forwarded to it."""

from __future__ import annotations

from typing import Final, Protocol

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory

from pico_twisted.net.forward.dialler import Dialler
from pico_twisted.net.forward.failures import Again, DialFailed
from pico_twisted.net.forward.relay import Relay
from pico_twisted.net.forward.session import TcpSession

MAX_CONNECTIONS: Final = 10_000
"""Local connections of an endpoint at a time: a program that opens them in a loop must not take all open files."""


class Observer(Protocol):
    """Hears what happens to local connections."""

    def refused(self, endpoint_id: str, failed: DialFailed) -> None:
        """A session could not be opened."""

    def cut(self, endpoint_id: str, reason: str) -> None:
        """A session was cut by the other side."""

    def over(self, endpoint_id: str) -> None:
        """A local connection is gone."""


class Pair(Factory):
    """Makes relays for the local connections of one endpoint, and keeps them (RelayOwner).

    Args:
        endpoint_id: of the endpoint.
        dialler: opens the sessions.
        observer: hears what happens.

    Attributes:
        relays: those that are there.
    """

    noisy = False

    def __init__(self, endpoint_id: str, dialler: Dialler, observer: Observer) -> None:
        self.endpoint_id = endpoint_id
        self.relays: dict[Relay, None] = {}
        self._dialler = dialler
        self._observer = observer

    def buildProtocol(self, addr: IAddress | None) -> Relay:
        """A relay for a local connection."""
        return Relay(self)

    def reset(self) -> None:
        """Reset all local connections."""
        for relay in list(self.relays):
            relay.reset()

    # RelayOwner

    def dial(self) -> Deferred[TcpSession]:
        """See `RelayOwner.dial`."""
        if len(self.relays) > MAX_CONNECTIONS:
            return fail(DialFailed(f"{MAX_CONNECTIONS} connections are open already", Again.NO))
        return self._dialler.dial(self.endpoint_id)

    def begun(self, relay: Relay) -> None:
        """See `RelayOwner.begun`."""
        self.relays[relay] = None

    def refused(self, relay: Relay, failed: DialFailed) -> None:
        """See `RelayOwner.refused`."""
        self._observer.refused(self.endpoint_id, failed)

    def cut(self, relay: Relay, reason: str) -> None:
        """See `RelayOwner.cut`."""
        self._observer.cut(self.endpoint_id, reason)

    def over(self, relay: Relay) -> None:
        """See `RelayOwner.over`."""
        self.relays.pop(relay, None)
        self._observer.over(self.endpoint_id)
