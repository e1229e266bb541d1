"""The nodes to join: the names in `cluster.join`, looked up again and again, and what came back from each address."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from pico_twisted.core.text import is_ip
from pico_twisted.net.gossip.resolver import NamingReactor, address_text, resolve

log = Logger()

LOOK_UP_S: Final = 10.0
"""Seconds between two look-ups of the names of seeds."""
LOOK_UP_JOINING_S: Final = 1.0
"""Seconds between two look-ups of the names of seeds while no other node was found."""


class Seeds:
    """Where other nodes may be.

    Args:
        clock: the reactor; it looks names up.
        places: hosts and ports; names or IPs.
        found: called with all addresses whenever they were looked up.
        joined: whether another node was found.

    Attributes:
        addresses: of each place that was found, as texts.
    """

    def __init__(
        self,
        clock: NamingReactor,
        places: Sequence[tuple[str, int]],
        found: Callable[[list[str]], object],
        joined: Callable[[], bool],
    ) -> None:
        self.places = tuple(places)
        self.addresses: dict[tuple[str, int], list[str]] = {}
        self._clock = clock
        self._found = found
        self._joined = joined
        self._looked_up: set[str] = set()
        self._again: IDelayedCall | None = None
        self._running = False
        self._said: dict[str, str] = {}

    def start(self) -> None:
        """Begin to look names up."""
        self._running = True
        self._look_up()

    def stop(self) -> None:
        """Look up no more. Idempotent."""
        self._running = False
        if self._again is not None and self._again.active():
            self._again.cancel()
        self._again = None

    def _look_up(self) -> None:
        self._again = None
        for host, port in self.places:
            if is_ip(host):
                self.addresses[host, port] = [address_text(host, port)]
            elif host not in self._looked_up:
                self._looked_up.add(host)
                resolve(self._clock.nameResolver, host).addCallback(self._resolved, host, port)
        self._tell()
        if any(not is_ip(host) for host, _ in self.places):
            wait_s = LOOK_UP_S if self._joined() else LOOK_UP_JOINING_S
            self._again = self._clock.callLater(wait_s, self._look_up)

    def _resolved(self, ips: list[str], host: str, port: int) -> None:
        self._looked_up.discard(host)
        if not ips:
            log.debug("No address for a node to join", host=host)
            return
        self.addresses[host, port] = [address_text(ip, port) for ip in ips]
        if self._running:
            self._tell()

    def _tell(self) -> None:
        self._found(list(dict.fromkeys(address for found in self.addresses.values() for address in found)))

    @property
    def all_found(self) -> bool:
        """Whether each place has an address."""
        return len(self.addresses) >= len(self.places)

    # What came from there

    def heard(self, address: str, trouble: str) -> None:
        """A packet came from an address; `trouble` says why it was dropped, "" when it was not."""
        if any(address in found for found in self.addresses.values()):
            self._said[address] = trouble

    def said(self, address: str) -> str | None:
        """Why the last packet from an address was dropped, "" when it was not; None when none came."""
        return self._said.get(address)
