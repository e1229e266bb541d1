"""An agent whose listeners change while it serves, against the tunnel's real server side and real services."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.task import deferLater
from twisted.logger import LogEvent

from pico_twisted.config import ListenerConfig, ServiceAddress
from tests.net.agent.agent_world import EchoFactory, World
from tests.net.in_reactor import in_reactor, reactor, until


def served_at(port: Any, endpoint: str, **more: Any) -> ListenerConfig:
    """A listener whose service is on a port of this machine."""
    return ListenerConfig(endpoint=endpoint, addr=ServiceAddress("http", "127.0.0.1", port.getHost().port), **more)


@in_reactor
async def test_listeners_are_added_changed_and_removed_while_it_serves(world: World) -> None:
    """Sessions of the others and of a changed one stay; what is in flight is answered where it began; new calls go to
    the new address; a removed listener closes its session behind its last call."""
    node, agent = await world.registered(endpoints=("stay", "change", "go"))
    others = EchoFactory()
    other_port = reactor.listenTCP(0, others, interface="127.0.0.1")
    try:
        sessions = {tunnel.endpoint: tunnel for tunnel in node.tunnels}
        world.echo.at_once = False
        slow = {name: node.call(name.encode(), sessions[name]) for name in ("stay", "change", "go")}
        await until(lambda: sum(len(one.waiting) for one in world.echo.made) == 3)
        stay = agent.listeners[0].config
        changed = served_at(other_port, "change", timeout=5.0)
        words = agent.set_listeners([served_at(world.echo_port, "new", timeout=5.0), stay, changed])
        addresses = [f"127.0.0.1:{port.getHost().port}" for port in (world.echo_port, other_port)]
        assert words == [
            "listener added: new",
            f"listener changed: change (addr {addresses[0]} -> {addresses[1]})",
            "listener removed: go",
        ]
        await until(lambda: agent.ready and len(node.tunnels) == 4)
        assert [one.config.endpoint for one in agent.listeners] == ["new", "stay", "change"]
        assert sessions["stay"] in node.tunnels and sessions["change"] in node.tunnels
        at_new = node.call(b"at-new", sessions["change"])
        await until(lambda: at_new.over)
        assert at_new.data.endswith(b"/at-new") and len(others.made) == 1
        assert agent.calls_in_flight() == 3
        assert not any(call.over for call in slow.values())
        assert node.drained == [sessions["go"]] * 2
        world.echo.at_once = True
        for connection in world.echo.made:
            while connection.waiting:
                connection.answer()
        await until(lambda: all(call.over for call in slow.values()))
        assert all(call.data.endswith(b"/" + name.encode()) for name, call in slow.items())
        await until(lambda: sessions["go"] not in node.tunnels)
        assert {tunnel.endpoint for tunnel in node.tunnels} == {"new", "stay", "change"}
        await until(lambda: agent.calls_in_flight() == 0 and not agent._leaving and not agent._retired)
        assert agent.set_listeners([one.config for one in agent.listeners]) == []
    finally:
        await other_port.stopListening()
        for connection in others.made:
            connection.transport.abortConnection()


@in_reactor
async def test_what_is_left_of_a_removed_listener_is_cut(world: World, lines: Callable[[str], list[LogEvent]]) -> None:
    """Behind the grace period, as at a stop: a line of the log says so, and the agent goes on."""
    world.echo.at_once = False
    node, agent = await world.registered(endpoints=("stay", "go"), grace_period=0.3)
    (session,) = [tunnel for tunnel in node.tunnels if tunnel.endpoint == "go"]
    answer = node.call(b"never", session)
    await until(lambda: world.echo.made and world.echo.made[0].waiting)
    agent.set_listeners([agent.listeners[0].config])
    await until(lambda: answer.over)
    assert answer.was_lost
    await until(lambda: not agent._leaving)
    assert [event["endpoint"] for event in lines("Cutting the last calls of a listener")] == ["go"]
    assert [tunnel.endpoint for tunnel in node.tunnels] == ["stay"]


@in_reactor
async def test_listeners_of_one_endpoint_are_told_apart(world: World) -> None:
    """Of two with the same ID the one that stays is left alone, whatever their order is; a removed one's slot is not
    given to another."""
    node, agent = await world.registered(endpoints=("web", "web"))
    slots = sorted(tunnel.slot for tunnel in node.tunnels)
    one, two = agent.listeners
    same, other = one.config, served_at(world.echo_port, "web", timeout=7.0)
    assert agent.set_listeners([other, same]) == ["listener changed: web (timeout 5s -> 7s)"]
    assert agent.listeners == [two, one]
    assert agent.set_listeners([same]) == ["listener removed: web"]
    await until(lambda: len(node.tunnels) == 1)
    assert agent.set_listeners([same, same]) == ["listener added: web"]
    await until(lambda: len(node.tunnels) == 2)
    assert [tunnel.slot for tunnel in node.tunnels if tunnel.slot not in slots] == ["2.0"]


@in_reactor
async def test_many_other_listeners_are_told_shortly(world: World) -> None:
    """A verdict of thousands is one line, and an agent that is not registered yet takes other listeners, too."""
    agent = world.agent("http://127.0.0.1:1")
    wanted = [served_at(world.echo_port, f"web-{number}") for number in range(12)]
    added, removed = agent.set_listeners(wanted)
    assert added.startswith("listeners added: web-0, web-1, ") and added.endswith(" and 2 more")
    assert removed == "listener removed: web"
    assert not agent._leaving and not agent.ready


@in_reactor
async def test_a_stop_waits_for_a_listener_that_leaves(world: World) -> None:
    """And so does the grace period: what is left of it then is cut."""
    world.echo.at_once = False
    node, agent = await world.registered(endpoints=("stay", "go"))
    (session,) = [tunnel for tunnel in node.tunnels if tunnel.endpoint == "go"]
    answer = node.call(b"slow", session)
    await until(lambda: world.echo.made and world.echo.made[0].waiting)
    agent.set_listeners([agent.listeners[0].config])
    done = agent.stopService()
    await deferLater(reactor, 0.1)
    assert not done.called
    world.echo.made[0].answer()
    await done
    assert answer.data.endswith(b"/slow")
