"""A node for the tests of the admin port: a status of two nodes, and the port itself on 127.0.0.1."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
import treq
from twisted.internet.defer import fail, succeed
from twisted.internet.threads import deferToThread
from twisted.web.client import Agent
from twisted.web.iweb import IPolicyForHTTPS
from twisted.web.resource import IResource
from zope.interface import implementer

from pico_twisted.core.access.revocations import Revocations
from pico_twisted.net.access.shared import SharedParts, SharedRevocations
from pico_twisted.net.admin.app import AdminApp, AgentAdminApp
from pico_twisted.net.admin.entrance import AdminAccess
from pico_twisted.net.admin.logins import Logins
from pico_twisted.net.admin.operators import Reload
from pico_twisted.net.admin.origins import OwnHosts
from pico_twisted.net.admin.passes import NodePasses
from pico_twisted.net.admin.revocations import RevocationRoutes
from pico_twisted.net.admin.routes import IRouteGroup
from pico_twisted.net.admin.service_discovery import ServiceDiscovery
from pico_twisted.net.admin.shapes.agents import AgentDetail, Agents, AgentSession, ListenerRow, SessionRow
from pico_twisted.net.admin.shapes.gossip import GossipDetail, GossipEntry, GossipRow
from pico_twisted.net.admin.shapes.nodes import NodeDetail, NodeRow
from pico_twisted.net.admin.shapes.reload import Reloaded
from pico_twisted.net.admin.site import admin_site
from pico_twisted.net.admin.status import IAgentStatus, INodeStatus
from pico_twisted.net.admin.workers import Siblings
from pico_twisted.net.observe.metrics import Metrics
from pico_twisted.net.sweep import ReactorSweep
from pico_twisted.net.tls.fetch import Fetcher, HttpsPolicy
from pico_twisted.net.tls.port_context import ServerContext
from pico_twisted.net.tls.server import SniffingFactory
from tests.doubles.gate import ToldGate
from tests.net.in_reactor import DEADLINE_S, answer_to, reactor

DETAIL = NodeDetail(
    id="n1",
    status="active",
    proxy_addr="10.0.0.1:8000",
    admin_addr="10.0.0.1:8001",
    version="0.1.0",
    endpoints={"web": 2, "api": 1},
)

GOSSIP = GossipDetail(
    id="n1",
    generation=1790000000000,
    status="active",
    local=True,
    heartbeat=42,
    version=7,
    floor=3,
    tombstones=1,
    suspicion=0.0,
    heard_s=0.0,
    keys={
        "status": GossipEntry(value="active", version=2),
        "endpoint:web": GossipEntry(value=2, version=6),
    },
)


AGENT = AgentDetail(
    id="agent-1",
    version="1.2.3",
    ready=True,
    reason="",
    listeners=(
        ListenerRow(
            endpoint="web",
            service="localhost:3000",
            registered=True,
            in_flight=2,
            sessions=(SessionRow(node="n1", url="http://n1:8002", current=True, age_s=61.5, rtt_s=0.0042),),
        ),
        ListenerRow(endpoint="api", service="localhost:3001", registered=False, in_flight=0, sessions=()),
    ),
)


@implementer(IAgentStatus)
class OfAgent:
    """What an agent says of itself.

    Args:
        detail: that; it is ready when this says so.
    """

    def __init__(self, detail: AgentDetail = AGENT) -> None:
        self._detail = detail

    def ready(self) -> tuple[bool, str]:
        """Whether it is ready."""
        return self._detail.ready, self._detail.reason

    def detail(self) -> AgentDetail:
        """Its listeners."""
        return self._detail


def session(node: str, agent: str, endpoint: str) -> AgentSession:
    """An agent's session at a node."""
    return AgentSession(
        agent=agent,
        address="10.1.2.3:40000",
        version="0.1.0",
        node=node,
        endpoint=endpoint,
        since_s=7200.0,
        rtt_s=0.008,
    )


@implementer(INodeStatus)
class Status:
    """A node with two endpoints.

    Args:
        node_id: its ID.

    Attributes:
        why_not: why it is not ready; empty when it is.
        urls: the admin ports of the other nodes.
        sessions: of agents.
        left_out: sessions that are too many.
    """

    def __init__(self, node_id: str = "n1") -> None:
        self.node_id = node_id
        self.why_not = ""
        self.urls: dict[str, str] = {}
        self.detail = attrs.evolve(DETAIL, id=node_id)
        self.gossip = attrs.evolve(GOSSIP, id=node_id)
        self.left_out = 0
        self.sessions = [session(node_id, "agent-1", "web"), session(node_id, "agent-2", "web")]

    def ready(self) -> tuple[bool, str]:
        return not self.why_not, self.why_not

    def nodes(self) -> Sequence[NodeRow]:
        return [self.detail.row()]

    def nodes_there(self) -> Sequence[str]:
        return [row.id for row in self.nodes() if row.id != self.node_id and row.status in ("active", "draining")]

    def node(self, id: str) -> NodeDetail | None:
        if id == "broken":
            raise RuntimeError("a fault of ours")
        return self.detail if id in ("local", self.node_id, "nœud") else None

    def endpoints(self) -> Mapping[str, int]:
        return self.detail.endpoints

    def agents(self, endpoint: str) -> Agents:
        told = tuple(one for one in self.sessions if not endpoint or one.endpoint == endpoint)
        return Agents(sessions=told, more=self.left_out)

    def cluster_endpoints(self) -> Mapping[str, Mapping[str, int]]:
        return {endpoint: {self.node_id: count} for endpoint, count in self.detail.endpoints.items()}

    def holders(self, endpoint: str) -> Mapping[str, int]:
        return self.cluster_endpoints().get(endpoint, {})

    def gossip_nodes(self) -> Sequence[GossipRow]:
        return [self.gossip.row()]

    def gossip_node(self, id: str) -> GossipDetail | None:
        return self.gossip if id in ("local", self.node_id) else None

    def admin_url(self, id: str) -> str | None:
        if id == "broken":
            raise RuntimeError("a fault of ours")
        return self.urls.get(id)


def revocation_routes(others: Mapping[str, str] | None = None) -> RevocationRoutes:
    """Those of a node, n1, with `shared_revocations`."""
    return RevocationRoutes(shared_revocations(others), "n1", lambda jti: 0.0)


def shared_revocations(others: Mapping[str, str] | None = None) -> SharedRevocations:
    """Those of a node at which nobody is revoked.

    Args:
        others: why other nodes cannot be told, or "", by node ID.
    """
    others = others or {}
    parts = SharedParts(
        clock=reactor,
        sweep=ReactorSweep(reactor),
        wall=time.time,
        metrics=Metrics("node"),
        others=lambda: dict.fromkeys(others, "digest"),
        tell=lambda node_id, data: fail(ConnectionError()) if others[node_id] else succeed(b"7"),
        announce=lambda digest: None,
    )
    return SharedRevocations(Revocations(), parts)


def access(
    gate: ToldGate | None = None, *, name: str = "n1", secrets: Sequence[str] = (), hosts: Sequence[str] = ()
) -> AdminAccess:
    """Who may use an admin port: everybody, unless a gate says otherwise."""
    return AdminAccess(
        name=name,
        gate=gate or ToldGate({}, enabled=False),
        hosts=OwnHosts(hosts),
        logins=Logins(reactor.seconds, os.urandom),
        passes=NodePasses(name, "pico", secrets, wall=time.time, nonce=os.urandom),
    )


def node_app(
    status: Status | None = None,
    admits: AdminAccess | None = None,
    *,
    metrics: Metrics | None = None,
    tls: IPolicyForHTTPS | None = None,
    siblings: Siblings | None = None,
    reload: Reload | None = None,
    revocations: RevocationRoutes | None = None,
    more: Sequence[IRouteGroup] = (),
) -> IResource:
    """The app of a node."""
    status = status or Status()
    admits = admits or access(name=status.node_id)
    assert admits.passes is not None
    return AdminApp(
        status,
        metrics or Metrics("node"),
        reload or nothing_changes,
        admits,
        passes=admits.passes,
        fetcher=Fetcher(reactor, tls or HttpsPolicy()),
        groups=(revocations or revocation_routes(), ServiceDiscovery(status, "pico", "http"), *more),
        siblings=siblings,
    ).resource()


def agent_app(
    detail: AgentDetail = AGENT, admits: AdminAccess | None = None, *, reload: Reload | None = None
) -> IResource:
    """The app of an agent."""
    return AgentAdminApp(OfAgent(detail), Metrics("agent"), reload or nothing_changes, admits or access()).resource()


def nothing_changes(operator: str) -> Reloaded:
    """A reload that finds everything as it was."""
    return Reloaded()


class Served:
    """An admin port on 127.0.0.1 with the app of a node, or another one; over TLS, if it is given a certificate."""

    def __init__(
        self, resource: IResource | None = None, *, interface: str = "127.0.0.1", tls: ServerContext | None = None
    ) -> None:
        self.site = admin_site(resource if resource is not None else node_app())
        factory = self.site if tls is None else SniffingFactory(self.site, tls, "n1", timer=ReactorSweep(reactor))
        self.listening = reactor.listenTCP(0, factory, interface=interface)
        self.number: int = self.listening.getHost().port
        self.url = f"http://{f'[{interface}]' if ':' in interface else interface}:{self.number}"

    async def close(self) -> None:
        await self.listening.stopListening()
        for channel in list(self.site.open):
            channel.transport.abortConnection()

    async def ask(self, path: str, method: str = "GET", **more: Any) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of an answer."""
        answer = await treq.request(method, self.url + path, agent=Agent(reactor), timeout=DEADLINE_S, **more)
        body = await treq.content(answer)
        headers = {name.decode().lower(): values[0].decode() for name, values in answer.headers.getAllRawHeaders()}
        return answer.code, headers, body

    async def say(self, data: bytes, *, end: bool = False) -> bytes:
        """All that comes back for bytes sent as they are, until the port closes or, when told to, we do."""
        return await deferToThread(answer_to, self.number, data, end=end)


Serve = Callable[..., Served]
