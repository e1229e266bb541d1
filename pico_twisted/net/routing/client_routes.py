"""Which way the requests of a client's connection go that has a name (see `core.http1.client_connection`).

All of them go the same way for as long as that stands, for the agent at its end keeps a connection to the service for
this client. When the client's connection ends, whoever was called for it is told.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from zope.interface import classImplements

from pico_twisted.core.http1.client_connection import name_of
from pico_twisted.core.rpc.call import Call, OnlyTold
from pico_twisted.core.rpc.capabilities import CLIENT_CONNECTIONS
from pico_twisted.core.rpc.frames import CLIENT_GONE, PROTOCOL
from pico_twisted.net.routing.interfaces import IRoute
from pico_twisted.net.tunnel.interfaces import ICallee, ICallReceiver

MAX_CLIENTS: Final = 20_000
"""Most client's connections whose ways are known, as many as a node takes by default. Those of other nodes are among
them, which may die without a word; the one not seen for longest is forgotten."""

MAX_ENDPOINTS: Final = 16
"""Most endpoints that one client's connection is known to have used: a browser uses one."""

classImplements(OnlyTold, ICallReceiver)
_ONLY_TOLD: Final = OnlyTold()


class ClientRoutes:
    """The ways of the clients' connections that have a name.

    Args:
        most_clients: known at once.
    """

    def __init__(self, most_clients: int = MAX_CLIENTS) -> None:
        self._most_clients = most_clients
        self._routes: dict[bytes, dict[str, IRoute]] = {}  # by name, then by endpoint ID; the newest come last

    def last(self, client: bytes, endpoint: str) -> IRoute | None:
        """The route of the client's last call for an endpoint."""
        return self._routes.get(client, {}).get(endpoint)

    def went(self, client: bytes, endpoint: str, route: IRoute) -> None:
        """A call goes this way."""
        routes = self._routes.pop(client, {})
        self._routes[client] = routes
        if len(routes) < MAX_ENDPOINTS or endpoint in routes:
            routes[endpoint] = route
        if len(self._routes) > self._most_clients:
            self.gone(next(iter(self._routes)))

    def gone(self, client: bytes) -> None:
        """The client's connection has ended: tell those who were called last, if they understand that. Idempotent."""
        for route in self._routes.pop(client, {}).values():
            if CLIENT_CONNECTIONS in route.callee.capabilities:
                route.callee.call(CLIENT_GONE, client, False, _ONLY_TOLD)


def take_client_gone(tunnel: ICallee, call: Call, payload: bytes, more: bool, gone: Callable[[bytes], None]) -> None:
    """Take the call of a node that says that a client's connection has ended.

    Args:
        tunnel: that it came over.
        call: the call.
        payload: of its first frame.
        more: whether further frames follow.
        gone: called with the connection's name.
    """
    name = name_of(payload)
    if more or not name:
        tunnel.reset(call, PROTOCOL, "not the name of a client's connection")
        return
    tunnel.consumed(call, len(payload))
    gone(name)
    tunnel.send(call, b"", False)
