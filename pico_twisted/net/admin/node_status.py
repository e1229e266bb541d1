"""What a node says of itself and of the others on its admin port."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from pico_twisted.core.gossip import Member
from pico_twisted.core.gossip.members import GOSSIP_ADDR
from pico_twisted.core.gossip.state import VersionedMap
from pico_twisted.core.gossip.view import View
from pico_twisted.core.public_url import endpoint_url
from pico_twisted.core.routing.table import ACTIVE, DRAINING, THERE, KnownNode
from pico_twisted.net.admin.other_nodes import LOCAL
from pico_twisted.net.admin.shapes.agents import MAX_SESSIONS, Agents, AgentSession
from pico_twisted.net.admin.shapes.gossip import GossipDetail, GossipEntry, GossipRow
from pico_twisted.net.admin.shapes.nodes import NodeDetail, NodeRow
from pico_twisted.net.admin.status import INodeStatus
from pico_twisted.net.routing.cluster_service import ClusterService

PROXY_ADDR: Final = "proxy_addr"
"""Key of the address of a node's proxy port."""
ADMIN_ADDR: Final = "admin_addr"
"""Key of the address of a node's admin port."""
ADMIN_SCHEME: Final = "admin_scheme"
"""Key of the scheme of a node's admin port: `http` or `https`."""
INTAKE: Final = "intake"
"""Key of what a node takes that an operator has taken out: of a node that takes all, or stops, there is none."""
VERSION: Final = "version"
"""Key of the version of a node's program."""


@implementer(INodeStatus)
class NodeStatus:
    """A node's view.

    Args:
        cluster: of this node.
        view: what this node believes of the others.
        clock: tells the time.
        ready: whether requests may come, and if not, why.
        link: how the link to another node stands, as of `NodeRow.link`.
        public_url: where clients reach endpoints, as of `NodeDetail`.
    """

    def __init__(
        self,
        cluster: ClusterService,
        view: View,
        clock: IReactorTime,
        ready: Callable[[], tuple[bool, str]],
        link: Callable[[str], str],
        public_url: Callable[[], str] = str,
    ) -> None:
        self.node_id = cluster.node_id
        self.ready = ready
        self._cluster = cluster
        self._view = view
        self._clock = clock
        self._link = link
        self._public_url = public_url

    # INodeStatus

    def nodes(self) -> list[NodeRow]:
        """All nodes that this one knows, itself first."""
        return [self._own().row(), *(self._row(node) for _, node in sorted(self._cluster.table.nodes.items()))]

    def nodes_there(self) -> list[str]:
        """The IDs of the other nodes that are there."""
        return [node_id for node_id, node in self._cluster.table.nodes.items() if node.status in THERE]

    def node(self, id: str) -> NodeDetail | None:
        """One node by its ID, this one by `local`."""
        if id in (LOCAL, self.node_id):
            return self._own()
        node = self._cluster.table.nodes.get(id)
        return None if node is None else self._detail(node)

    def endpoints(self) -> Mapping[str, int]:
        """The registrations of this node."""
        return self._cluster.registry.counts()

    def agents(self, endpoint: str) -> Agents:
        """The sessions of agents at this node, in the order of their endpoints."""
        routes = [route for route in self._cluster.registry if not endpoint or route.endpoint == endpoint]
        routes.sort(key=lambda route: (route.endpoint, route.agent_id, route.slot))
        public_url = self._public_url()
        told = [
            AgentSession(
                agent=route.agent_id,
                address=route.tunnel.peer,
                version=route.tunnel.agent_version,
                node=self.node_id,
                endpoint=route.endpoint,
                url=endpoint_url(public_url, route.endpoint, route.tunnel.speaks),
                protocol=route.tunnel.speaks,
                since_s=round(self._cluster.registered_for_s(route), 1),
                rtt_s=route.tunnel.rtt_s or None,
                in_flight=len(route.calls),
                draining=route.tunnel.draining,
                out_for_s=self._cluster.out_for_s(route),
                standing=(standing := self._cluster.watch.standings.of(route.latency)),
                first_byte_s=round(route.latency.told_s, 3) if standing else None,
                subject="" if route.tunnel.subject is None else route.tunnel.subject.name,
            )
            for route in routes[:MAX_SESSIONS]
        ]
        return Agents(sessions=tuple(told), more=len(routes) - len(told))

    def cluster_endpoints(self) -> dict[str, dict[str, int]]:
        """The endpoints of all nodes that are there, each with its holders."""
        found = {endpoint: {self.node_id: count} for endpoint, count in self.endpoints().items()}
        for node_id, node in sorted(self._cluster.table.nodes.items()):
            for endpoint, count in _held(node).items():
                found.setdefault(endpoint, {})[node_id] = count
        return found

    def holders(self, endpoint: str) -> dict[str, int]:
        """The same of one endpoint."""
        own = len(self._cluster.registry.held(endpoint))
        return {**({self.node_id: own} if own else {}), **self._cluster.table.holders(endpoint)}

    def gossip_nodes(self) -> list[GossipRow]:
        """What gossip knows of each node, this one first."""
        return [self._own_gossip(), *(self._gossip(member) for _, member in sorted(self._view.members.items()))]

    def gossip_node(self, id: str) -> GossipDetail | None:
        """The same of one node with its keys."""
        if id in (LOCAL, self.node_id):
            return self._own_gossip().with_keys(_entries(self._view.own.map))
        member = self._view.members.get(id)
        return None if member is None else self._gossip(member).with_keys(_entries(member.map))

    def admin_url(self, id: str) -> str | None:
        """Where another node's admin port is reached; None when it is not known, or for that node's machine alone."""
        node = self._cluster.table.nodes.get(id)
        address = "" if node is None else node.text(ADMIN_ADDR)
        if node is None or not address or (_is_loopback(address) and not _is_loopback(node.text(GOSSIP_ADDR))):
            return None
        return f"{node.text(ADMIN_SCHEME) or 'http'}://{address}"

    # What they are made of

    def _own(self) -> NodeDetail:
        said = self._view.own.map.get
        return NodeDetail(
            id=self.node_id,
            status=ACTIVE if self._cluster.takes_agents else DRAINING,
            intake=str(said(INTAKE) or ""),
            proxy_addr=str(said(PROXY_ADDR) or ""),
            admin_addr=str(said(ADMIN_ADDR) or ""),
            gossip_addr=str(said(GOSSIP_ADDR) or ""),
            version=str(said(VERSION) or ""),
            endpoints=self._cluster.registry.counts(),
            public_url=self._public_url(),
        )

    def _detail(self, node: KnownNode) -> NodeDetail:
        return NodeDetail(endpoints=_held(node), **self._said(node))

    def _row(self, node: KnownNode) -> NodeRow:
        endpoints, upstreams = node.said.count_endpoints() if node.status in THERE else (0, 0)
        return NodeRow(endpoints=endpoints, upstreams=upstreams, **self._said(node))

    def _said(self, node: KnownNode) -> dict[str, str]:
        return {
            "id": node.id,
            "status": node.status,
            "intake": node.text(INTAKE),
            "proxy_addr": node.text(PROXY_ADDR),
            "admin_addr": node.text(ADMIN_ADDR),
            "gossip_addr": node.text(GOSSIP_ADDR),
            "version": node.text(VERSION),
            "link": self._link(node.id),
        }

    def _own_gossip(self) -> GossipRow:
        own = self._view.own
        return GossipRow(
            id=self.node_id,
            generation=own.generation,
            status=ACTIVE if self._cluster.takes_agents else DRAINING,
            local=True,
            heartbeat=own.heartbeat,
            version=own.map.version,
            floor=own.map.floor,
            entries=own.map.keys,
            tombstones=own.map.tombstones,
            suspicion=0.0,
            heard_s=0.0,
        )

    def _gossip(self, member: Member) -> GossipRow:
        now = self._clock.seconds()
        return GossipRow(
            id=member.node_id,
            generation=member.generation,
            status=member.status,
            local=False,
            heartbeat=member.heartbeat,
            version=member.map.version,
            floor=member.map.floor,
            entries=member.map.keys,
            tombstones=member.map.tombstones,
            suspicion=round(member.accrual.value(member.silence_s(now)), 2),
            heard_s=round(max(0.0, now - member.alive_at), 3),
        )


def _entries(held: VersionedMap) -> dict[str, GossipEntry]:
    """The keys of a node, as they are told."""
    return {key: GossipEntry(value=value, version=version) for key, (value, version) in held.versions().items()}


def _is_loopback(address: str) -> bool:
    """Whether an address that a node told is one of its own machine: here it would be another program's."""
    return address.startswith(("127.", "[::1]", "localhost:"))


def _held(node: KnownNode) -> dict[str, int]:
    """What another node holds, if it is there."""
    said = node.said
    return {id: said.registrations(id) for id in said.endpoints()} if node.status in THERE else {}
