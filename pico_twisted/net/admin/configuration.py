"""The route by which a node tells the configuration that it goes by, without its secrets."""

from __future__ import annotations

from collections.abc import Callable

from twisted.web.iweb import IRequest
from zope.interface import implementer

from pico_twisted.config import NodeConfig
from pico_twisted.config.telling import told_values
from pico_twisted.net.admin.answers import answer_json
from pico_twisted.net.admin.routes import IRouteGroup, Routes
from pico_twisted.net.admin.shapes.paths import CONFIGURATION_PATH


@implementer(IRouteGroup)
class ConfigurationRoutes:
    """See above.

    Args:
        in_force: gives what the node goes by now: as it was started, and as far as reloads have changed it.
    """

    def __init__(self, in_force: Callable[[], NodeConfig]) -> None:
        self._in_force = in_force

    def routes(self) -> Routes:
        """See `IRouteGroup`."""
        return {CONFIGURATION_PATH: ("the configuration that the node goes by, without secrets", self._told)}

    def changes(self) -> Routes:
        """See `IRouteGroup`."""
        return {}

    def _told(self, request: IRequest) -> bytes:
        return answer_json(request, told_values(self._in_force()))
