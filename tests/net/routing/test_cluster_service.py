"""ClusterService: registrations, pending calls, limits and draining, as all ports of a node see them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogEvent
from zope.interface import implementer

from pico_twisted.core.gossip.events import StatusChanged
from pico_twisted.core.http1.errors import Http1Error
from pico_twisted.core.http1.head import HeadLimits
from pico_twisted.core.routing.intake import Intake
from pico_twisted.core.routing.table import endpoint_key
from pico_twisted.net.observe.metrics import Metrics
from pico_twisted.net.routing.cluster_service import ClusterService, LocalRouter
from pico_twisted.net.routing.interfaces import CallFailed, ILinks, IPendingCall, IRoute
from tests.doubles.node import MemoryNode, pass_time
from tests.doubles.said import says
from tests.doubles.tunnel import FakeTunnel
from tests.net.doubles import FakeDownstream, register, request_head
from tests.net.routing.test_pending_call import Sink


@pytest.fixture
def parts() -> MemoryNode:
    """A node with small limits."""
    return MemoryNode(Clock(), calls=3, calls_per_session=2, buffered_bytes=1000)


def call(route: IRoute | None) -> IPendingCall:
    """Open a call on a route."""
    assert route is not None
    return route.open(FakeDownstream(request_head()), b"", False, Sink())


def taken(parts: MemoryNode, tried: list[IRoute] | None = None) -> str | None:
    """Who gets the next call for `my-ep`, by its name."""
    route = parts.cluster.take("my-ep", tried or [])
    return None if route is None else route.name


def is_busy(parts: MemoryNode) -> bool:
    """Whether the node takes on no more calls."""
    try:
        parts.cluster.take("my-ep", [])
    except Http1Error as error:
        assert (error.status, error.code) == (503, "busy")
        return True
    return False


def test_registration(parts: MemoryNode) -> None:
    """A session can be chosen from its registration until it is gone, by any case of its endpoint's ID."""
    cluster = parts.cluster
    assert taken(parts) is None and not cluster.tunnels() and not cluster.has_other("my-ep", [])
    tunnel = register(parts, FakeTunnel())
    assert taken(parts) == "agent-1" and cluster.tunnels() == [tunnel] and cluster.has_other("my-ep", [])
    assert cluster.take("other", []) is None
    tunnel.lose()
    assert taken(parts) is None
    cluster.deregister(tunnel)


def test_replacement(parts: MemoryNode) -> None:
    """A registration of the same agent, endpoint and slot closes the one before, whose calls may go elsewhere."""
    old = register(parts, FakeTunnel())
    register(parts, FakeTunnel(slot="1"))
    new = register(parts, FakeTunnel())
    assert old.over and not new.over
    assert parts.cluster.registry.counts() == {"my-ep": 2}


def test_a_call_on_a_session_that_ends(parts: MemoryNode) -> None:
    """When calls of a session fail, that session cannot be chosen any more."""
    tunnel = register(parts, FakeTunnel())
    chosen: list[object] = []

    def failed(failure: object) -> None:
        chosen.append(taken(parts))

    pending = call(parts.cluster.take("my-ep", []))
    assert pending.response is not None
    pending.response.addErrback(failed)
    tunnel.lose()
    assert chosen == [None]


def test_limits(parts: MemoryNode) -> None:
    """A session is full at its limit of calls, the node busy at its own, and both are free again when calls end."""
    cluster = parts.cluster
    a = register(parts, FakeTunnel())
    errors: list[CallFailed] = []
    pending = [call(cluster.take("my-ep", [])) for _ in range(2)]
    assert len(a.calls) == 2 and is_busy(parts)
    b = register(parts, FakeTunnel(slot="1"))
    last = call(cluster.take("my-ep", []))
    assert len(b.calls) == 1 and last.response is not None
    last.response.addErrback(lambda failure: errors.append(failure.value))  # type: ignore[call-overload]
    assert is_busy(parts) and len(cluster.pending) == 3
    pending[0].cancel("cancelled")
    assert not is_busy(parts)
    b.lose()
    assert len(errors) == 1 and len(cluster.pending) == 1 and not is_busy(parts)


def test_memory(parts: MemoryNode) -> None:
    """What the ports hold is summed up in each turn; at the limit the node is busy, until it holds less."""
    held = [900, 0]
    parts.cluster.holds_bytes(lambda: held[0])
    parts.cluster.holds_bytes(lambda: held[1])
    pass_time(parts.clock, 0.2)
    assert parts.budget.held == 900 and not is_busy(parts)
    held[1] = 100
    pass_time(parts.clock, 0.2)
    assert parts.budget.held == 1000 and is_busy(parts)
    held[0] = 0
    pass_time(parts.clock, 0.2)
    assert parts.budget.held == 100 and not is_busy(parts)


def test_draining(parts: MemoryNode) -> None:
    """Draining tells every agent, waits for their answers, and closing the sessions waits until they are gone."""
    waiting: list[Deferred[None]] = []

    class Slow(FakeTunnel):
        def drain(self) -> Deferred[None]:
            super().drain()
            waiting.append(Deferred())
            return waiting[-1]

    tunnels = [register(parts, FakeTunnel()), register(parts, Slow(slot="1"))]
    told: list[str] = []
    parts.cluster.start_draining().addCallback(lambda _: told.append("drained"))
    assert parts.cluster.draining and all(tunnel.draining for tunnel in tunnels)
    assert told == []
    waiting[0].callback(None)
    assert told == ["drained"]
    parts.cluster.close_sessions().addCallback(lambda _: told.append("closed"))
    assert told == ["drained", "closed"]
    assert all(tunnel.over for tunnel in tunnels)
    assert not parts.cluster.registry.counts()


def test_a_session_that_was_let_in_before_the_drain(parts: MemoryNode) -> None:
    """An agent whose handshake was under way when the node was drained is told to go elsewhere like all others."""
    parts.cluster.start_draining(Intake.DRAINED)
    assert register(parts, FakeTunnel()).draining
    parts.cluster.intake = Intake.CORDONED
    assert not register(parts, FakeTunnel(slot="1")).draining


def test_draining_nobody(parts: MemoryNode) -> None:
    """A node without agents has drained at once."""
    told: list[str] = []
    parts.cluster.start_draining().addCallback(lambda _: told.append("drained"))
    parts.cluster.close_sessions().addCallback(lambda _: told.append("closed"))
    assert told == ["drained", "closed"]


def test_gauges(parts: MemoryNode) -> None:
    """Endpoints, sessions, calls and held bytes are told to Prometheus."""
    register(parts, FakeTunnel())
    register(parts, FakeTunnel(slot="1"))
    register(parts, FakeTunnel("other"))
    parts.budget.measure(123)
    text = parts.metrics.exposition().decode()
    assert "pico_endpoints 2.0" in text
    assert "pico_upstream_sessions 3.0" in text
    assert "pico_calls_pending 0.0" in text
    assert "pico_buffered_bytes 123.0" in text


@implementer(ILinks)
class FakeLinks:
    """Ways to other nodes: a tunnel for each.

    Attributes:
        links: those that were asked for.
        unusable: nodes that no call gets to now.
    """

    def __init__(self) -> None:
        self.links: dict[str, FakeTunnel] = {}
        self.unusable: set[str] = set()

    def link(self, node_id: str) -> FakeTunnel:
        link = self.links.get(node_id)
        if link is None:
            link = self.links[node_id] = FakeTunnel("", agent_id=node_id, node_id=node_id)
        return link

    def load(self, node_id: str) -> int | None:
        return None if node_id in self.unusable else 0


@pytest.fixture
def links(parts: MemoryNode) -> FakeLinks:
    """The node has ways to others."""
    links = FakeLinks()
    route_by(parts, links, lambda endpoint, count, draining, out, owner, ties: None)
    return links


def route_by(parts: MemoryNode, links: ILinks, announce: Callable[[str, int, int, int, str, str], object]) -> None:
    """Give the node a ClusterService that uses these links and announces here."""
    parts.metrics = Metrics("node")
    parts.cluster = ClusterService(
        node_id="n1",
        sweep=parts.sweep,
        metrics=parts.metrics,
        budget=parts.budget,
        head_limits=HeadLimits(),
        limits=parts.node.config.limits,
        ceilings=parts.node.ceilings,
        table=parts.cluster.table,
        links=links,
        announce=announce,
        seconds=parts.clock.seconds,
        chance=lambda: 0.0,
    )


def tell(parts: MemoryNode, node_id: str, status: str | None, **endpoints: int | None) -> None:
    """Gossip tells of another node."""
    parts.cluster.table.status_changed(StatusChanged(node_id, status))
    changes = {endpoint_key(endpoint.replace("_", "-")): count for endpoint, count in endpoints.items()}
    says(parts.cluster.table, node_id, changes)


def test_order_of_choice(parts: MemoryNode, links: FakeLinks) -> None:
    """A registration of this node first, then an active node, then what drains: here, and at last elsewhere."""
    cluster = parts.cluster
    local = register(parts, FakeTunnel())
    tell(parts, "n2", "active", my_ep=1)
    tell(parts, "n3", "draining", my_ep=1)
    assert taken(parts) == "agent-1"
    local.draining = True
    tried: list[IRoute] = []
    for name in ("n2", "agent-1", "n3"):
        assert cluster.has_other("my-ep", tried)
        route = cluster.take("my-ep", tried)
        assert route is not None and route.name == name
        tried.append(route)
    assert cluster.take("my-ep", tried) is None and not cluster.has_other("my-ep", tried)
    tell(parts, "n2", "unreachable")
    tell(parts, "n3", "left")
    local.lose()
    assert taken(parts) is None and not cluster.has_other("my-ep", [])


def test_the_last_try_goes_to_another_node(parts: MemoryNode, links: FakeLinks) -> None:
    """Where all sessions of a node break at once, which it finds out by calling them one by one, a request that two of
    them failed is not lost on the third: it goes to another node, if there is one."""
    for number in range(3):
        register(parts, FakeTunnel(agent_id=f"agent-{number}"))
    tried: list[IRoute] = []
    for _ in range(2):
        route = parts.cluster.take("my-ep", tried)
        assert route is not None and route.name.startswith("agent-")
        tried.append(route)
    assert (taken(parts, tried) or "").startswith("agent-")
    tell(parts, "n2", "active", my_ep=1)
    assert taken(parts, tried) == "n2"


def test_a_full_registration(parts: MemoryNode, links: FakeLinks) -> None:
    """A registration that is full is passed over for another node; where there is none the client may come again."""
    register(parts, FakeTunnel())
    for _ in range(2):
        call(parts.cluster.take("my-ep", []))
    assert is_busy(parts)
    tell(parts, "n2", "active", my_ep=1)
    assert taken(parts) == "n2"


def test_a_question_dials_nobody(parts: MemoryNode, links: FakeLinks) -> None:
    """Whether there is another node is asked without a link to it."""
    tell(parts, "n2", "active", my_ep=1)
    assert parts.cluster.has_other("my-ep", []) and not links.links
    parts.cluster.take("my-ep", [])
    assert list(links.links) == ["n2"]


def test_a_node_alone(parts: MemoryNode) -> None:
    """A node that knows no other chooses among its own registrations, draining ones too."""
    assert taken(parts) is None
    local = register(parts, FakeTunnel())
    local.draining = True
    assert taken(parts) == "agent-1"


def test_a_node_that_cannot_be_called(parts: MemoryNode, links: FakeLinks) -> None:
    """A node whose link failed a moment ago is passed over, and so is one that said `not here`."""
    tell(parts, "n2", "active", my_ep=1)
    links.unusable.add("n2")
    assert taken(parts) is None and not parts.cluster.has_other("my-ep", [])
    links.unusable.clear()
    route = parts.cluster.take("my-ep", [])
    assert route is not None and route.name == "n2"
    assert route.not_here("my-ep")
    assert taken(parts) is None


def test_an_agent_is_where_it_is_registered(parts: MemoryNode) -> None:
    """An agent that refuses a request as a node would is not believed."""
    register(parts, FakeTunnel())
    route = parts.cluster.take("my-ep", [])
    assert route is not None and not route.not_here("my-ep")
    assert taken(parts) == "agent-1"


def test_requests_of_other_nodes(parts: MemoryNode, links: FakeLinks) -> None:
    """They hop once: only registrations of this node serve them."""
    router = LocalRouter(parts.cluster)
    tell(parts, "n2", "active", my_ep=1)
    assert router.take("my-ep", []) is None and not router.has_other("my-ep", [])
    register(parts, FakeTunnel())
    route = router.take("my-ep", [])
    assert route is not None and route.name == "agent-1"
    assert router.take("my-ep", [route]) is None
    assert taken(parts, [route]) == "n2"


def test_a_link_may_have_all_calls(parts: MemoryNode, links: FakeLinks) -> None:
    """The limit of one registration is not that of a link, behind which there may be many."""
    tell(parts, "n2", "active", my_ep=1)
    for _ in range(3):
        assert not is_busy(parts)
        call(parts.cluster.take("my-ep", []))
    assert is_busy(parts)


def test_routing_is_counted(parts: MemoryNode, links: FakeLinks) -> None:
    """Where calls go is told to Prometheus."""
    register(parts, FakeTunnel())
    tell(parts, "n2", "active", my_ep=1)
    tell(parts, "n3", "draining", my_ep=1)
    tried: list[IRoute] = []
    for _ in range(3):
        route = parts.cluster.take("my-ep", tried)
        assert route is not None
        call(route)
        tried.append(route)
    text = parts.metrics.exposition().decode()
    for to in ("agent", "node", "draining-node"):
        assert f'pico_routed_total{{to="{to}"}} 1.0' in text


def test_what_is_announced(parts: MemoryNode) -> None:
    """Other nodes are told of an endpoint's registrations, and how many of them drain, when that changes only."""
    told: list[tuple[int, int]] = []
    route_by(parts, parts.links, lambda endpoint, count, draining, out, owner, ties: told.append((count, draining)))
    first, second = register(parts, FakeTunnel()), register(parts, FakeTunnel(slot="1"))
    again = register(parts, FakeTunnel())
    assert first.over
    assert told == [(1, 0), (2, 0)]
    assert parts.cluster.resign(second) and not parts.cluster.resign(second)
    again.lose()
    assert told[2:] == [(2, 1), (1, 1)]
    assert not register(parts, FakeTunnel(slot="1")).over and second.over
    assert told[4:] == [(1, 0)]
    parts.cluster.deregister(second)
    assert not parts.cluster.resign(second)
    assert told[5:] == []


def test_two_agents_with_one_id(parts: MemoryNode, lines: Callable[[str], list[LogEvent]]) -> None:
    """That they replace each other in turn is told with both addresses; one that reconnects is not suspected."""
    tunnels = [register(parts, FakeTunnel()) for _ in range(3)]
    assert not lines("Two agents")
    again = FakeTunnel()
    again.peer = "192.0.2.8:50008"
    register(parts, again)
    (told,) = lines("Two agents have the ID")
    assert (told["endpoint"], told["peer"], told["other_peer"]) == ("my-ep", again.peer, tunnels[2].peer)
    pass_time(parts.clock, 1000, 1.0)
    register(parts, FakeTunnel())
    assert len(lines("Two agents")) == 1
