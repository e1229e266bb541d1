"""A network in memory for the gossip ports of several nodes on one clock, with names that move."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IHostnameResolver, IHostResolution
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.task import Clock
from zope.interface import implementer

from tests.doubles.node import pass_time

FLIGHT_S = 0.002
PORT = 8003


@implementer(IHostResolution)
class _Resolving:
    """A lookup in progress."""

    def __init__(self, name: str) -> None:
        self.name = name

    def cancel(self) -> None:
        """Nobody does."""


@implementer(IHostnameResolver)
class Names:
    """What names stand for.

    Attributes:
        ips: by name.
        asked: the names that were looked up.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.ips: dict[str, list[str]] = {}
        self.asked: list[str] = []

    def resolveHostName(self, resolutionReceiver: Any, hostName: str, *further: Any, **options: Any) -> Any:
        """Answer in the next turn."""
        self.asked.append(hostName)
        resolving = _Resolving(hostName)
        resolutionReceiver.resolutionBegan(resolving)
        self._clock.callLater(0, self._answer, resolutionReceiver, hostName)
        return resolving

    def _answer(self, receiver: Any, name: str) -> None:
        for ip in self.ips.get(name, []):
            kind = IPv6Address if ":" in ip else IPv4Address
            receiver.addressResolved(kind("UDP", ip, 0))
        receiver.resolutionComplete()


class NamingClock(Clock):
    """A clock that looks names up, as a reactor does."""

    def __init__(self) -> None:
        super().__init__()
        self.names = Names(self)
        self.nameResolver: IHostnameResolver = self.names


class Net:
    """A network in memory, and a clock with names, as a reactor has them.

    Attributes:
        clock: of all nodes.
        nodes: the protocols of UDP ports, by address.
        cut: addresses that nothing gets to or from.
        refuses: the system takes no packets.
    """

    def __init__(self) -> None:
        self.clock = NamingClock()
        self.names = self.clock.names
        self.nodes: dict[tuple[str, int], DatagramProtocol] = {}
        self.cut: set[tuple[str, int]] = set()
        self.refuses = False

    def send(self, packet: bytes, source: tuple[str, int], to: tuple[str, int]) -> None:
        """Bring a packet where it is sent, a moment later."""
        if self.refuses:
            raise OSError("no buffer space")
        node = self.nodes.get((to[0].removeprefix("::ffff:"), to[1]))
        if node is not None and not {source, to} & self.cut:
            self.clock.callLater(FLIGHT_S, node.datagramReceived, packet, source)

    def pass_time(self, seconds: float) -> None:
        """Let time pass, in turns that no node takes for a pause."""
        pass_time(self.clock, seconds, 0.01)


class Transport:
    """A bound socket."""

    def __init__(self, net: Net, address: tuple[str, int], interface: str) -> None:
        self._net = net
        self._address = address
        self._host = IPv6Address("UDP", interface, address[1]) if ":" in interface else IPv4Address("UDP", interface, 1)

    def write(self, packet: bytes, to: tuple[str, int]) -> None:
        self._net.send(packet, self._address, to)

    def getHost(self) -> Any:
        return self._host
