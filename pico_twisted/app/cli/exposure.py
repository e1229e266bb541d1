"""What an operator is warned of at the start: who might reach ports that ask nobody who they are."""

from __future__ import annotations

from twisted.logger import Logger

log = Logger()


def warn_of_exposure(upstream_url: str, gossip_addr: str, gossip_is_guarded: bool) -> None:
    """Warn once, when the node or the host is up.

    Args:
        upstream_url: where agents connect.
        gossip_addr: where nodes do.
        gossip_is_guarded: by a secret, or because only this machine reaches it.
    """
    log.warn("Agents are not authenticated: keep the upstream port off the Internet", upstream=upstream_url)
    if not gossip_is_guarded:
        log.warn(
            "No cluster.secrets: whoever reaches the gossip port can join this cluster and take its requests",
            gossip=gossip_addr,
        )
