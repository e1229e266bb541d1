"""Whether packets reach a node at an address that it says is its own: one is sent there, and the node's next packet has
to echo its challenge, wherever that comes from."""

from __future__ import annotations

from pico_twisted.core.gossip.channel import PacketChannel
from pico_twisted.core.gossip.packets import SYN
from pico_twisted.core.gossip.telling import Telling


class Probes:
    """The addresses that are being tried.

    Args:
        channel: takes the packets, and knows our challenges.
        telling: says who we are.
    """

    def __init__(self, channel: PacketChannel, telling: Telling) -> None:
        self._channel = channel
        self._telling = telling
        self._answered: dict[str, set[str]] = {}

    def send(self, address: str, now: float) -> None:
        """Send a small packet to an address, which is then tried until `end`."""
        self._answered.setdefault(address, set())
        self._channel.send(SYN, address, None, now, digest=self._telling.own_digest())

    def heard(self, node_id: str, echo: bytes, now: float) -> None:
        """A node sent a packet."""
        for address, answered in self._answered.items():
            if self._channel.proves(echo, address, now):
                answered.add(node_id)

    def reached(self, address: str, node_id: str) -> bool:
        """Whether that node has answered what was sent to that address."""
        return node_id in self._answered.get(address, ())

    def end(self, address: str) -> None:
        """An address is not tried any longer."""
        self._answered.pop(address, None)
