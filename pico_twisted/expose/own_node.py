"""A node in the process of the command, for who has none: only this machine reaches it, and it ends with the command.

Its parts are those of every node (`build_node`). It has a port for clients and one for the agent beside it, both on
loopback, and neither an admin port nor a gossip port: nobody else is to join it. Browsers take every name below
`localhost` for this machine, so a name of an endpoint is a URL there.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import Any, Final

from pico_twisted.app.node import build_node
from pico_twisted.app.process.ports import BoundPort, CannotStart
from pico_twisted.config import Address, ProxyConfig, load_node
from pico_twisted.net.observe.access_log import AccessLog
from pico_twisted.net.socket.end_of_turn import EndOfTurn
from pico_twisted.net.sweep import ReactorSweep

PORTS: Final = (8000, *range(8004, 8100))
"""Ports for clients, the first free one of which is taken: not those that another port of a node has by default."""
_NO_SUCH_ADDRESS: Final = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


class OwnNode:
    """The node. It serves once it is made.

    Args:
        reactor: of this process.
        avoid: ports that are somebody's already, though nothing may listen there yet.
        endpoints: IDs of the endpoints. One alone is reached by `localhost` itself, too.

    Attributes:
        url: of its upstream port.
        proxy_url: of its proxy port.

    Raises:
        CannotStart: no port is free.
    """

    def __init__(self, reactor: Any, avoid: Collection[int], endpoints: Sequence[str]) -> None:  # a whole reactor
        config = load_node(None, {"cluster.node_id": "here", "proxy.access_log": "false"})
        self._sweep = ReactorSweep(reactor)
        self.node = build_node(
            config,
            reactor,
            sweep=self._sweep,
            end_of_turn=EndOfTurn(reactor),
            access_log=AccessLog(lambda _: None, enabled=False),
            ready=lambda: (True, ""),
        )
        self.node.access.prepare(config)()
        self._ports = self._listen(reactor, avoid)
        port = self._ports[0].bound.port
        upstream = BoundPort(reactor, "upstream", Address("127.0.0.1", 0), self.node.upstream)
        self._ports.append(upstream)
        self.url = f"http://{upstream.bound}"
        self.proxy_url = f"http://localhost:{port}"
        self.node.proxy.read_names(_named(port, endpoints))
        self._sweep.start()
        self.node.cluster.startService()

    def _listen(self, reactor: Any, avoid: Collection[int]) -> list[BoundPort]:
        """The port for clients, of both IP families: a program at the other one would get their requests."""
        last = CannotStart("no port is free")
        for port in (*(port for port in PORTS if port not in avoid), 0):
            if not _is_free(port):
                continue
            try:
                first = BoundPort(reactor, "proxy", Address("127.0.0.1", port), self.node.proxy)
            except CannotStart as error:
                last = error
                continue
            with suppress(CannotStart):  # there may be no IPv6
                return [first, BoundPort(reactor, "proxy", Address("::1", first.bound.port), self.node.proxy)]
            return [first]
        raise last

    async def stop(self) -> None:
        """Take no more clients, and cut those that are there: the agent has drained."""
        self.node.proxy.drain()
        self.node.cluster.start_draining()
        for port in self._ports:
            await port.stop()
        self.cut()
        self.node.cluster.close_sessions()

    def cut(self) -> None:
        """Drop every connection."""
        for channel in list(self.node.proxy.connections):
            channel.shut()
        for tunnel in list(self.node.upstream.connections):
            tunnel.transport.abortConnection()
        self.node.access.stop()
        self._sweep.stop()


def _is_free(port: int) -> bool:
    """Whether nobody listens at a port of IPv6's loopback; nobody does where there is none."""
    try:
        socket.create_server(("::1", port), family=socket.AF_INET6).close()
    except OSError as error:
        return error.errno in _NO_SUCH_ADDRESS
    return True


def _named(port: int, endpoints: Sequence[str]) -> ProxyConfig:
    """The section of the proxy port, with the names that lead to endpoints."""
    overrides: dict[str, str | list[str]] = {"proxy.public_url": f"http://*.localhost:{port}"}
    if len(endpoints) == 1:
        overrides["proxy.hosts"] = [f"{host}={endpoints[0]}" for host in ("localhost", "127.0.0.1")]
    return load_node(None, overrides).proxy
