"""What agents tell of their services: who gets calls then, and what other nodes hear of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from twisted.internet.task import Clock
from twisted.logger import LogEvent

from pico_twisted.core.gossip.events import StatusChanged
from pico_twisted.core.routing.table import ALL_DRAIN, SOME_ARE_OUT, endpoint_key, last_choice_key
from pico_twisted.core.rpc.service_health import Standing, ToldHealth
from pico_twisted.net.routing.interfaces import IRoute
from pico_twisted.net.routing.routes import AgentRoute
from pico_twisted.net.routing.service_health import APART_S
from tests.doubles.node import MemoryNode, pass_time
from tests.doubles.said import says
from tests.doubles.tunnel import FakeTunnel
from tests.net.doubles import FakeDownstream, register, request_head
from tests.net.routing.test_cluster_service import FakeLinks, route_by
from tests.net.routing.test_pending_call import Sink

UP, OUT, TRIAL = (ToldHealth(standing=standing) for standing in (Standing.UP, Standing.OUT, Standing.TRIAL))


@pytest.fixture
def parts() -> MemoryNode:
    """A node."""
    return MemoryNode(Clock())


def asked(parts: MemoryNode, tried: tuple[IRoute, ...] = ()) -> str:
    """Open a call, and say who got it."""
    route = parts.cluster.take("my-ep", tried)
    assert route is not None
    pending = route.open(FakeDownstream(request_head()), b"", False, Sink())
    assert pending.response is not None
    pending.response.addErrback(lambda failure: None)  # its session may be lost
    return route.name


def test_out_is_the_last_choice(parts: MemoryNode) -> None:
    """Another agent of the endpoint is asked, however busy; the one that is out where there is no other."""
    first, second = register(parts, FakeTunnel()), register(parts, FakeTunnel(agent_id="agent-2"))
    parts.cluster.service_is(first, OUT)
    assert [asked(parts) for _ in range(5)] == ["agent-2"] * 5
    parts.cluster.service_is(second, OUT)
    assert {asked(parts) for _ in range(12)} == {"agent-1", "agent-2"}
    second.lose()
    assert asked(parts) == "agent-1"


def test_a_trial_is_one_call(parts: MemoryNode) -> None:
    """The next one goes there, and those behind it elsewhere until the agent says what came of it."""
    first = register(parts, FakeTunnel())
    register(parts, FakeTunnel(agent_id="agent-2"))
    for told in (OUT, TRIAL):
        parts.cluster.service_is(first, told)
    assert [asked(parts) for _ in range(4)] == ["agent-1", "agent-2", "agent-2", "agent-2"]
    parts.cluster.service_is(first, UP)
    assert [asked(parts) for _ in range(2)] == ["agent-1", "agent-1"]


@pytest.mark.parametrize("value", [ALL_DRAIN, SOME_ARE_OUT])
def test_other_nodes(parts: MemoryNode, value: int) -> None:
    """A node with a service that is there is asked before an agent of ours with one that is out, and ours before a node
    that has none that is there."""
    links = FakeLinks()
    route_by(parts, links, lambda *told: None)
    table = parts.cluster.table
    table.status_changed(StatusChanged("n2", "active"))
    says(table, "n2", {endpoint_key("my-ep"): 1})
    here = register(parts, FakeTunnel())
    assert parts.cluster.take("my-ep", ()).name == "agent-1"  # type: ignore[union-attr]
    parts.cluster.service_is(here, OUT)
    assert parts.cluster.take("my-ep", ()).name == "n2"  # type: ignore[union-attr]
    says(table, "n2", {last_choice_key("my-ep"): value})
    assert parts.cluster.take("my-ep", ()).name == "agent-1"  # type: ignore[union-attr]


def test_other_nodes_are_told_now_and_then(parts: MemoryNode) -> None:
    """At once of a change, and of what changes soon after it at the end of a second, as it is then."""
    told: list[int] = []
    route_by(parts, FakeLinks(), lambda endpoint, count, draining, out, owner, ties: told.append(out))
    agent = register(parts, FakeTunnel())
    told.clear()
    parts.cluster.service_is(agent, OUT)
    assert told == [1]
    for _ in range(100):
        for health in (TRIAL, OUT, UP, OUT, UP):
            parts.cluster.service_is(agent, health)
        pass_time(parts.clock, APART_S / 20, APART_S / 20)
    assert told[:2] == [1, 0] and len(told) <= 2 + 100 / 20
    pass_time(parts.clock, 3.0, 0.2)
    before = len(told)
    parts.cluster.service_is(agent, OUT)
    assert told[before:] == [1], "what was quiet for a second is news at once"
    agent.lose()
    pass_time(parts.clock, 3.0, 0.2)
    parts.cluster.service_is(agent, UP)
    assert len(told) == before + 2


def test_what_is_seen(parts: MemoryNode, lines: Callable[[str], list[LogEvent]]) -> None:
    """A line for each change, but not again and again; since when it is out; and how many are."""
    agent = register(parts, FakeTunnel())
    (route,) = parts.cluster.registry
    assert isinstance(route, AgentRoute) and parts.cluster.out_for_s(route) is None
    for _ in range(5):
        parts.cluster.service_is(agent, UP)
        parts.cluster.service_is(agent, ToldHealth(standing=Standing.OUT, out_for_s=7))
    assert parts.cluster.out_for_s(route) == 7.0
    (line,) = lines("The service of")[:1]
    assert line["endpoint"] == "my-ep" and line["agent_id"] == "agent-1" and line["log_level"].name == "warn"
    assert len(lines("The service of")) == 2
    assert b"pico_upstream_sessions_out 1.0" in parts.metrics.exposition()


def endpoints_out(parts: MemoryNode) -> float:
    """How many endpoints the node says that nobody serves."""
    (line,) = [one for one in parts.metrics.exposition().splitlines() if one.startswith(b"pico_endpoints_out ")]
    return float(line.split()[1])


def test_nobody_serves_an_endpoint(parts: MemoryNode) -> None:
    """Its service is out at all of its agents, such as drain included: it counts once, and no other endpoint."""
    first, second = register(parts, FakeTunnel()), register(parts, FakeTunnel(agent_id="agent-2"))
    register(parts, FakeTunnel("other"))
    assert endpoints_out(parts) == 0
    parts.cluster.service_is(first, OUT)
    assert endpoints_out(parts) == 0
    parts.cluster.resign(second)
    assert endpoints_out(parts) == 0, "it drains, and serves what others do not"
    parts.cluster.service_is(second, OUT)
    parts.cluster.service_is(first, TRIAL)
    assert endpoints_out(parts) == 1
    parts.cluster.service_is(first, UP)
    assert endpoints_out(parts) == 0


def test_another_node_serves_an_endpoint(parts: MemoryNode) -> None:
    """It is not out as long as a node that is there has an agent of it with a service that is there."""
    table = parts.cluster.table
    parts.cluster.service_is(register(parts, FakeTunnel()), OUT)
    assert endpoints_out(parts) == 1
    table.status_changed(StatusChanged("n2", "active"))
    says(table, "n2", {endpoint_key("my-ep"): 1})
    assert endpoints_out(parts) == 0
    says(table, "n2", {last_choice_key("my-ep"): SOME_ARE_OUT})
    assert endpoints_out(parts) == 1
    says(table, "n2", {last_choice_key("my-ep"): ALL_DRAIN})
    assert endpoints_out(parts) == 0
    table.status_changed(StatusChanged("n2", "draining"))
    assert endpoints_out(parts) == 0, "an operator may have taken it out for hours"
    table.status_changed(StatusChanged("n2", "unreachable"))
    assert endpoints_out(parts) == 1
