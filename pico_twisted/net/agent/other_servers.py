"""Who else serves the endpoints of an agent: two people may have taken one name without knowing of each other."""

from __future__ import annotations

from twisted.logger import Logger

from pico_twisted.config import ListenerConfig
from pico_twisted.core.rpc.capabilities import NOT_SHARED
from pico_twisted.net.tunnel import TunnelClientProtocol

log = Logger(namespace="pico_twisted.net.agent.service")


class OtherServers:
    """Says what nodes tell about others, once for each of them."""

    def __init__(self) -> None:
        self._told: dict[str, str] = {}

    def session_opened(self, tunnel: TunnelClientProtocol, config: ListenerConfig) -> None:
        """A node has taken a session of a listener."""
        if not config.share and NOT_SHARED not in tunnel.capabilities:
            log.warn("Node {node} is too old to keep {endpoint} for us", node=tunnel.node_id, endpoint=config.endpoint)
        name = tunnel.shared_with.partition(" (")[0]
        if tunnel.shared_with and self._told.get(config.endpoint) != name:
            log.warn(
                "{endpoint} is also served by {other}: requests are shared out",
                endpoint=config.endpoint,
                other=tunnel.shared_with,
            )
            self._told[config.endpoint] = name
