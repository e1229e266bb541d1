"""Binds the ports of a node, with what is in front of each: PROXY protocol headers, and TLS."""

from __future__ import annotations

import contextlib
import os
import socket

from twisted.internet.defer import maybeDeferred
from twisted.internet.interfaces import IListeningPort, IProtocolFactory

from pico_twisted.app.node import Node
from pico_twisted.app.node_acme import NodeAcme
from pico_twisted.app.process.handed import HandedSockets, handed_over
from pico_twisted.app.process.local_admin import listen_locally, local_admin_socket
from pico_twisted.app.process.port_certificates import PortCertificates
from pico_twisted.app.process.ports import Attempts, BoundPort, GossipPort
from pico_twisted.app.process.reactor import IDaemonReactor
from pico_twisted.app.workers.worker import Worker
from pico_twisted.config import AdminConfig, ProxyConfig, UpstreamConfig
from pico_twisted.net.admin.operators import Reload
from pico_twisted.net.proxy.proxy_protocol import behind_proxies
from pico_twisted.net.socket.options import serve_first
from pico_twisted.net.tls.port_context import HTTP_1_1, HTTP_2
from pico_twisted.net.tls.server import SniffingFactory

MAX_DATAGRAM_BYTES = 64 * 1024
"""Largest packet that is read, in bytes: other nodes may have another `max_packet_size`."""


class NodePorts:
    """The ports of one node.

    Args:
        reactor: listens.
        worker: what the parent gave, when this is one of several processes that share the ports.

    Attributes:
        certificates: of all ports, and of the links.
        bound: the ports, by their names.
        acme: orders certificates for them, once they are bound.
    """

    def __init__(self, reactor: IDaemonReactor, worker: Worker | None) -> None:
        self._reactor = reactor
        self._worker = worker
        self._handed = HandedSockets()
        self._local: list[IListeningPort] = []
        self.certificates = PortCertificates()
        self.acme: NodeAcme | None = None
        self.bound: dict[str, BoundPort] = {}

    def bind(self, node: Node, reload: Reload, attempts: Attempts) -> None:
        """Read the certificates and bind all ports. What cannot be done is kept in `attempts`."""
        config, worker = node.config, self._worker
        self._handed = handed_over(self._reactor) if worker is None else HandedSockets()
        if node.link_tls is not None:
            with attempts.each():
                self.certificates.start("cluster", node.link_tls)
        if worker is not None:
            path = worker.sockets[worker.number]
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)  # of a process that was killed
            site = node.admin_site(reload, None, self.certificates.ends)
            self._local.append(self._reactor.listenUNIX(path, site))  # type: ignore[arg-type]  # a Site is a Factory
            serve_first(self._local[-1])
        siblings = None if worker is None else worker.siblings()
        admin_site = node.admin_site(reload, siblings, self.certificates.ends)
        self.acme = NodeAcme(self._reactor, node, orders=worker is None or worker.number == 0)
        with attempts.each():
            self.acme.prepare()
        with attempts.each():
            self._bind(node, "proxy", config.proxy, node.proxy)
        with attempts.each():
            self._bind(node, "upstream", config.upstream, node.upstream)
        with attempts.each():
            self._bind(node, "admin", config.admin, admin_site)
        with attempts.each():
            local = local_admin_socket(os.environ) if worker is None else worker.local_admin()
            self._local += listen_locally(self._reactor, local, admin_site)
        with attempts.each():
            self.acme.listen(config.proxy.listen_addr, self._handed)
        gossip = config.cluster.gossip_bind_addr
        with attempts.each():
            self.bound["gossip"] = GossipPort(
                self._reactor,
                "cluster.gossip.bind_addr",
                gossip,
                node.membership.links.port_factory,
                node.membership.gossip,
                MAX_DATAGRAM_BYTES,
                (self._handed.take("gossip", gossip), self._handed.take("gossip", gossip, socket.SOCK_DGRAM)),
            )
        addresses = {name: getattr(config, name).listen_addr for name in ("proxy", "upstream", "admin")}
        with attempts.each():
            self._handed.check({**addresses, "gossip": gossip})

    def _bind(
        self,
        node: Node,
        name: str,
        section: ProxyConfig | UpstreamConfig | AdminConfig,
        factory: IProtocolFactory,
    ) -> None:
        if section.tls.enabled:
            http2 = name == "proxy" and node.proxy.http2 is not None
            context = self.certificates.start(name, section.tls, (HTTP_2, HTTP_1_1) if http2 else (HTTP_1_1,))
            validation = None if self.acme is None else self.acme.validation
            factory = SniffingFactory(
                factory, context, node.node_id, timer=node.sweep, validation=validation, clock=self._reactor
            )
        if name == "proxy":
            factory = behind_proxies(factory, node.proxy)
        handed = self._handed.take(name, section.listen_addr)
        descriptor = handed if self._worker is None else self._worker.descriptors[name]
        self.bound[name] = BoundPort(
            self._reactor,
            f"{name}.bind_addr",
            section.listen_addr,
            factory,
            descriptor,
            socket_mode=section.socket_mode,
            outlives=handed is not None,
            first=name != "proxy",
        )

    def serve(self) -> None:
        """Order certificates that are due. The node has begun."""
        if self.acme is not None:
            self.acme.start()

    async def stop_plain(self) -> None:
        """Listen no longer for plain HTTP, and order no certificates."""
        if self.acme is not None:
            await self.acme.stop()

    def cut(self) -> None:
        """Drop the connections of clients that speak plain HTTP."""
        if self.acme is not None:
            self.acme.cut()

    async def stop_local(self) -> None:
        """Listen no longer at the sockets of this machine."""
        for port in self._local:
            await maybeDeferred(port.stopListening)
