"""Under which addresses and URLs others reach the ports of a node, or those that several workers of a host share."""

from __future__ import annotations

from collections.abc import Mapping

from twisted.logger import Logger

from pico_twisted import __version__
from pico_twisted.app.cli.banner import node_banner, warn_of_exposure
from pico_twisted.app.process.ports import advertised, is_loopback
from pico_twisted.config import Address, AdminConfig, NodeConfig, ProxyConfig, UpstreamConfig
from pico_twisted.config.values import UNIX

log = Logger(namespace="pico_twisted.app.node")

GOSSIP = "gossip"


class AdvertisedPorts:
    """What is told of the ports that are bound.

    Args:
        config: of the node.
        bound: where each port listens, by its name: `proxy`, `upstream`, `admin` and `gossip`.
    """

    def __init__(self, config: NodeConfig, bound: Mapping[str, Address]) -> None:
        cluster = config.cluster
        towards = [address.host for address in cluster.join]
        sections: dict[str, ProxyConfig | UpstreamConfig | AdminConfig] = {
            "proxy": config.proxy,
            "upstream": config.upstream,
            "admin": config.admin,
        }
        binds = {name: section.listen_addr for name, section in sections.items()}
        configured = {name: section.advertise_addr for name, section in sections.items()}
        binds[GOSSIP], configured[GOSSIP] = cluster.gossip_bind_addr, cluster.gossip.advertise_addr
        self._open = [name for name in sections if binds[name].is_all]
        private = [name for name in ("upstream", "admin") if not sections[name].auth.enabled]
        self.narrowed = [name for name in private if sections[name].bind_addr is None]
        """Ports of this machine alone, because they authenticate nobody."""
        self.unguarded = [name for name in private if not is_loopback(bound[name])]
        """Ports that other machines may reach though they authenticate nobody."""
        self.addresses = {
            name: advertised(bound[name], configured[name], towards if binds[name].is_all else None) for name in bound
        }
        """The address of each port, as text, by its name; empty for one that has none."""
        schemes = {name: "https" if section.tls.enabled else "http" for name, section in sections.items()}
        self.urls = {
            name: f"{schemes[name]}://{address}" if name in schemes and address else address or str(bound[name])
            for name, address in self.addresses.items()
        }
        """The URL of each port, by its name; of the gossip port the address, of a unix socket `unix:/path`."""
        self._strangers = bool(bound["proxy"].path) and UNIX not in config.proxy.trusted_proxies

    def banner(self, node_id: str, workers: int = 1) -> str:
        """The block for a terminal, once a node, or all workers of a host, serve."""
        urls = self.urls
        return node_banner(
            __version__,
            node_id,
            urls["proxy"],
            urls["admin"],
            urls["upstream"],
            workers=workers,
            open_to_all=self._open,
            unguarded=self.unguarded,
            narrowed=self.narrowed,
        )

    def warn(self, *, gossip_is_guarded: bool) -> None:
        """Say in the log which ports authenticate nobody, see `warn_of_exposure`; and of whom nothing is known."""
        if self._strangers:
            log.warn(
                "No client's address is known: what a proxy in front of the unix socket tells is not believed unless "
                "proxy.trusted_proxies has `unix`"
            )
        warn_of_exposure(
            self.urls, unguarded=self.unguarded, narrowed=self.narrowed, gossip_is_guarded=gossip_is_guarded
        )
