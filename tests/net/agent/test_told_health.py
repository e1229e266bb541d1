"""What nodes hear of a service: those that understand it, on sessions that are open and on new ones."""

from __future__ import annotations

import socket
from typing import Any

import attrs
import pytest

from pico_twisted.app.agent import AgentStatus
from pico_twisted.config import ServiceAddress
from pico_twisted.core.agent.service_judge import FAILURES_IN_A_ROW
from pico_twisted.core.rpc.capabilities import SERVICE_HEALTH
from pico_twisted.core.rpc.frames import HEALTH
from pico_twisted.net.agent.told_health import tell_health, tell_opened
from tests.net.agent.agent_world import World
from tests.net.agent.test_service_health import HealthBench
from tests.net.in_reactor import in_reactor, reactor, until


def unused_port() -> int:
    """A port on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


class Node:
    """The node's end of a session, as far as the agent sees it."""

    def __init__(self, capabilities: frozenset[bytes] = frozenset((SERVICE_HEALTH,)), version: int = 2) -> None:
        self.capabilities = capabilities
        self.version = version
        self.calls: list[tuple[int, bytes, bool]] = []

    def call(self, kind: int, payload: bytes, more: bool, receiver: Any) -> None:
        """A call came."""
        self.calls.append((kind, payload, more))
        receiver.frame(b"", False)
        receiver.reset("protocol", "")
        receiver.lost()
        receiver.drained()


@pytest.mark.parametrize("node", [Node(frozenset()), Node(version=1)])
def test_older_nodes_hear_nothing(node: Any) -> None:
    """What a node did not list is not sent to it."""
    bench = HealthBench()
    bench.fail()
    tell_health(node, bench.health)
    assert node.calls == []


def test_a_new_session() -> None:
    """Its node hears of a service that is out, and nothing of one that is up."""
    bench, node = HealthBench(), Node()
    untyped: Any = node
    tell_opened(untyped, bench.health)
    tell_opened(untyped, None)
    assert node.calls == []
    bench.fail()
    tell_opened(untyped, bench.health)
    assert node.calls == [(HEALTH, b"out 0", False)]


@in_reactor
async def test_an_agent_tells_its_nodes(world: World) -> None:
    """On all sessions of the listener whose service is out, and of no other; its status says so, too."""
    node, agent = await world.registered(endpoints=("web", "api"))
    heard: list[tuple[str, bytes]] = []

    def called(tunnel: Any, call: Any, kind: int, payload: bytes, more: bool) -> None:
        heard.append((tunnel.endpoint, payload))
        tunnel.send(call, b"", False)

    node.call_opened = called  # type: ignore[attr-defined]
    for tunnel in node.tunnels:
        tunnel.session._serves = frozenset((HEALTH,))
    web = next(tunnel for tunnel in node.tunnels if tunnel.endpoint == "web")
    gone = ServiceAddress("http", "127.0.0.1", unused_port())
    configs = [one.config for one in agent.listeners]
    agent.set_listeners([attrs.evolve(one, addr=gone) if one.endpoint == "web" else one for one in configs])
    calls = [node.call(b"%d" % number, web) for number in range(FAILURES_IN_A_ROW)]
    await until(lambda: all(call.over for call in calls))
    await until(lambda: heard)
    assert heard == [("web", b"out 0")]
    (listener,) = [one for one in agent.listeners if one.config.endpoint == "web"]
    assert listener.health is not None and listener.health.out_for_s is not None
    rows = {row.endpoint: row for row in AgentStatus(agent, reactor).detail().listeners}
    assert rows["web"].out_for_s is not None and "nothing listens" in rows["web"].why_out
    assert rows["api"].out_for_s is None and rows["api"].why_out == ""
