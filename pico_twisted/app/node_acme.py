"""The part of a node that orders certificates, and answers for the names in them: see `net.tls.acme`."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from twisted.internet.threads import blockingCallFromThread

from pico_twisted import __version__
from pico_twisted.app.node import Node
from pico_twisted.app.process.handed import HandedSockets
from pico_twisted.app.process.ports import BoundPort, CannotStart
from pico_twisted.app.process.reactor import IDaemonReactor
from pico_twisted.config import Address
from pico_twisted.config.certificates import acme_sections, plain_http_addresses
from pico_twisted.core.routing.table import ACTIVE, DRAINING
from pico_twisted.net.proxy.plain_http import ChallengeResource, HttpsResource
from pico_twisted.net.proxy.proxy_protocol import behind_proxies
from pico_twisted.net.proxy.site import ProxySite
from pico_twisted.net.tls.acme.challenges import Challenges, ValidationContext
from pico_twisted.net.tls.acme.storage import Storage

if TYPE_CHECKING:  # what it needs takes a quarter of a second to import, and few nodes need it
    from pico_twisted.net.tls.acme.renewal import Renewal

SPREAD_S = 2.0
"""Seconds that other nodes get to hear what is to be answered, before the server asks."""
HTTP_PORT, HTTPS_PORT = 80, 443


class NodeAcme:
    """Certificates from ACME servers, for the ports of one node.

    Args:
        reactor: listens.
        node: whose ports they are.
        orders: whether this process orders; else another worker of the host does.
    """

    def __init__(self, reactor: IDaemonReactor, node: Node, orders: bool) -> None:
        self._reactor = reactor
        self._node = node
        self._orders = orders
        self._configs = acme_sections(node.config)
        self._told: set[str] = set()
        self._challenges = Challenges(self._say)
        self._renewal: Renewal | None = None
        self._ports: list[BoundPort] = []
        self._sites: list[ProxySite] = []
        self.validation = ValidationContext(self._challenges) if self._configs else None

    def _say(self, key: str) -> list[tuple[str, str]]:
        """What is told under a key, with the node that tells it, in the order of their IDs: the same at all nodes."""
        others = self._node.cluster.table.nodes.items()
        there = (ACTIVE, DRAINING)  # who died in the middle of an order answers nobody
        told = [(node_id, text) for node_id, one in others if one.status in there and (text := one.text(key))]
        own = self._node.membership.core.view.own.map.get(key)
        return sorted([*told, (self._node.node_id, own)] if isinstance(own, str) else told)

    def prepare(self) -> None:
        """Have a certificate for each port, be it our own, and answer at the proxy port.

        Raises:
            CannotStart: its directory cannot be used.
        """
        for path, config in self._configs.items():
            try:
                Storage(config).prepare()
            except OSError as error:
                raise CannotStart(f"{path}.storage: {config.storage}: {error.strerror}") from error
        if self._configs:
            proxy = self._node.proxy
            proxy.resource = ChallengeResource(self._challenges, proxy.resource)

    def listen(self, proxy: Address, handed: HandedSockets) -> None:
        """Listen for plain HTTP, where that is wanted.

        Args:
            proxy: where the proxy port listens.
            handed: sockets that systemd has bound.

        Raises:
            CannotStart: nothing can listen there.
        """
        for key, address in plain_http_addresses(self._node.config).items() if self._orders else ():
            port = HTTPS_PORT if address.port == HTTP_PORT else proxy.port
            site = ProxySite(self._node.proxy.settings, ChallengeResource(self._challenges, HttpsResource(port)), None)
            factory = behind_proxies(site, site)
            descriptor = handed.take(key, address)
            outlives = descriptor is not None
            self._ports.append(BoundPort(self._reactor, key, address, factory, descriptor, outlives=outlives))
            self._sites.append(site)

    def start(self) -> None:
        """Begin to order what is due."""
        if self._configs and self._orders:
            from pico_twisted.net.tls.acme.renewal import Renewal

            configs = list(dict.fromkeys(self._configs.values()))
            self._renewal = Renewal(configs, f"pico/{__version__}", self._publish, self._reactor)
            self._renewal.start()

    async def stop(self) -> None:
        """Order no more, and listen no longer."""
        if self._renewal is not None:
            self._renewal.stop()
        for port in self._ports:
            await port.stop()
        for site in self._sites:
            site.drain()

    def cut(self) -> None:
        """Drop every connection."""
        if self._renewal is not None:
            self._renewal.stop()
        for site in self._sites:
            for channel in list(site.connections):
                channel.shut()

    def _publish(self, answers: dict[str, str]) -> bool:
        """See `Publish`. Called in the thread that orders."""
        if not blockingCallFromThread(self._reactor, self.tell, answers):
            return False
        if answers and self._node.cluster.table.nodes:
            time.sleep(SPREAD_S)
        return bool(blockingCallFromThread(self._reactor, self.is_ours, answers))

    def is_ours(self, answers: Iterable[str]) -> bool:
        """Whether nodes give our answers. For a name there can be only one, and of two nodes that began at the same
        time the one with the lower ID goes on."""
        told = [self._say(key) for key in answers]
        return all(not by or by[0][0] == self._node.node_id for by in told)

    def tell(self, answers: dict[str, str]) -> bool:
        """Tell all nodes, unless another one has told its own for the same names. Returns whether it was done."""
        if not self.is_ours(answers):
            return False
        gossip = self._node.membership.gossip
        for key in self._told - answers.keys():
            gossip.delete(key)
        for key, answer in answers.items():
            gossip.set(key, answer)
        self._told = set(answers)
        return True
