"""Where a request goes whose client is tied to an agent: see `core.routing.affinity`.

A session of the agent at this node comes first, then one at another node, and what drains after those: an agent whose
node is about to stop is the same one as long as it lives. An agent that drains itself, whose service is out, or whose
session gives no sign of life counts as gone. When nothing leads to it, the next one of its client's order is taken; a
client with a cookie then goes where any request would, and gets another cookie.
"""

from __future__ import annotations

from collections.abc import Collection

from pico_twisted.core.routing.affinity import Servers
from pico_twisted.core.routing.latency import SILENT_LEVEL
from pico_twisted.core.routing.registry import Registry
from pico_twisted.core.routing.table import ACTIVE, DRAINING, ClusterTable
from pico_twisted.net.routing.interfaces import IDownstream, ILinks, IRoute
from pico_twisted.net.routing.route_watch import RouteWatch
from pico_twisted.net.routing.routes import AgentRoute, NodeRoute, RouteParts
from pico_twisted.net.routing.service_health import is_out


class TiedRoutes:
    """Finds the routes of tied requests.

    Args:
        parts: shared by all routes.
        registry: the registrations of this node.
        table: the other nodes, and who is where.
        links: the ways to them.
        watch: knows which of them give no sign of life.
        max_calls: how many calls one registration may have.
    """

    def __init__(
        self,
        parts: RouteParts,
        registry: Registry[AgentRoute],
        table: ClusterTable,
        links: ILinks,
        watch: RouteWatch,
        max_calls: int,
    ) -> None:
        self._parts = parts
        self._registry = registry
        self._table = table
        self._links = links
        self._watch = watch
        self._max_calls = max_calls

    def find(self, request: IDownstream, tried: Collection[IRoute], only_here: bool) -> IRoute | None:
        """Find the route that a request's client is tied to.

        Args:
            request: to an endpoint with affinity.
            tried: what is not chosen again.
            only_here: no other node is asked.

        Returns:
            None when any other route will do.
        """
        endpoint = request.endpoint
        servers = self._table.affinity.servers(endpoint)
        tie = request.tie()
        if servers is None:
            return None
        for agent in tie.agents(servers):
            route = self._here(endpoint, agent, tried, False)
            if route is None and not only_here:
                route = self._elsewhere(endpoint, agent, servers, tried, ACTIVE)
            route = route or self._here(endpoint, agent, tried, True)
            if route is None and not only_here:
                route = self._elsewhere(endpoint, agent, servers, tried, DRAINING)
            if route is not None:
                return route
        return None

    def _here(self, endpoint: str, agent: str, tried: Collection[IRoute], draining: bool) -> IRoute | None:
        held = self._registry.held(endpoint)
        routes = [one for one in held if one.short_id == agent and one not in tried and not one.latency.silent]
        if draining:
            routes = [route for route in routes if self._drains_with_us(route)]
        else:
            routes = [route for route in routes if self._registry.can_take(route)]
        return min(routes, key=lambda route: len(route.calls), default=None)

    def _drains_with_us(self, route: AgentRoute) -> bool:
        return len(route.calls) < self._max_calls and not route.resigned and not is_out(route)

    def _elsewhere(
        self, endpoint: str, agent: str, servers: Servers, tried: Collection[IRoute], status: str
    ) -> IRoute | None:
        found: list[tuple[int, str]] = []
        for node_id in servers.nodes[agent]:
            if self._table.holds(endpoint, node_id, status) and all(route.node_id != node_id for route in tried):
                load = self._links.load(node_id)
                if load is not None and self._watch.node_level(endpoint, node_id) != SILENT_LEVEL:
                    found.append((load, node_id))
        if not found:
            return None
        _, node_id = min(found)
        seen = self._watch.node(endpoint, node_id)
        return NodeRoute(self._parts, self._links.link(node_id), node_id, self._table, seen, agent)
