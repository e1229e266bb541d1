"""The whole agent against the tunnel's real server side, with a real local service, from the start to its end."""

from __future__ import annotations

import re
from collections.abc import Callable

from twisted.internet.task import deferLater
from twisted.logger import LogEvent

from pico_twisted.config import ConnectConfig
from pico_twisted.net.agent.dial_throttle import FIRST_DIALS, OPEN_S, TRY_ONE_S
from pico_twisted.net.tunnel import Closed, Refusal
from tests.net.agent.agent_world import World
from tests.net.in_reactor import in_reactor, reactor, until


@in_reactor
async def test_it_registers_every_listener_and_serves(world: World) -> None:
    """Each under its endpoint, with the agent's ID, a slot of its own and the token."""
    node, agent = await world.registered(endpoints=("web", "api", "web"))
    assert agent.ready
    assert {(tunnel.endpoint, tunnel.slot) for tunnel in node.tunnels} == {
        ("web", "0.0"),
        ("api", "1.0"),
        ("web", "2.0"),
    }
    assert {tunnel.agent_id for tunnel in node.tunnels} == {agent.agent_id}
    assert agent.agent_id.startswith("agent-") and len(agent.agent_id) == 14
    assert node.tokens == [b"Bearer sesame"] * 3
    answers = [node.call(b"%d" % number, tunnel) for number, tunnel in enumerate(node.tunnels)]
    await until(lambda: all(answer.ended for answer in answers))
    assert [answer.data[-2:] for answer in answers] == [b"/0", b"/1", b"/2"]
    sessions = agent.sessions()
    assert [(one.tunnel.endpoint, one.url, one.tunnel.node_id, one.tunnel.version) for one in sessions] == [
        ("web", node.address, "n1", 2),
        ("api", node.address, "n1", 2),
        ("web", node.address, "n1", 2),
    ]
    assert sessions == [one for listener in agent.listeners for one in listener.connections.current]
    assert all(0 < one.handshake_s < 2 for one in sessions)
    assert b"pico_agent_registered 3.0" in agent._metrics.exposition()


@in_reactor
async def test_calls_of_one_tunnel_are_answered_in_any_order(world: World) -> None:
    """200 at once, answered last first, each to its own caller."""
    world.echo.at_once = False
    node, agent = await world.registered()
    answers = [node.call(b"%d" % number) for number in range(200)]
    await until(lambda: sum(len(one.waiting) for one in world.echo.made) == 200)
    for service in reversed(world.echo.made):
        service.answer()
    await until(lambda: all(answer.ended for answer in answers))
    for number, answer in enumerate(answers):
        assert answer.data.endswith(b"\r\n\r\n/%d" % number)
    assert agent.calls_in_flight() == 0


@in_reactor
async def test_a_node_that_was_killed_has_its_agent_back_within_a_second(world: World) -> None:
    """Counted from the moment at which it listens again."""
    node, agent = await world.registered()
    for away_s in (0.0, 0.5, 2.5):
        await until(lambda: node.tunnels)  # noqa: B023
        world.nodes.remove(node)
        await node.stop()
        await until(lambda: not agent.ready)
        await deferLater(reactor, away_s)
        node = world.node(node.port)
        start = reactor.seconds()
        await until(lambda: agent.ready)
        assert reactor.seconds() - start < 1.0


@in_reactor
async def test_many_listeners_find_their_node_again_and_try_for_each_other(world: World) -> None:
    """While it is away they knock ten times a second, however many they are; then all come back."""
    node, agent = await world.registered(endpoints=tuple(f"web-{number}" for number in range(200)))
    await deferLater(reactor, OPEN_S)
    world.nodes.remove(node)
    lost_at = reactor.seconds()
    await node.stop()
    await until(lambda: not any(one.connections.sessions for one in agent.listeners))
    await deferLater(reactor, 1.0)
    node = world.node(node.port)
    await until(lambda: agent.ready)
    knocks = re.search(
        rb'pico_agent_connection_failures_total{reason="connect"} ([0-9.]+)', agent._metrics.exposition()
    )
    assert knocks is not None
    # Who knocked last may do so again when its back-off says so, which is not often sooner than the next.
    assert 1 <= float(knocks.group(1)) <= FIRST_DIALS + 2 + 2 * (reactor.seconds() - lost_at) / TRY_ONE_S
    assert len(node.tunnels) == 200


@in_reactor
async def test_a_second_address_takes_over(world: World) -> None:
    """An agent that knows two nodes goes to the other one when its own dies."""
    one, two = world.node(), world.node()
    agent = world.agent(one.address, two.address)
    await agent.all_registered
    await until(lambda: one.tunnels or two.tunnels)
    lost, left = (one, two) if one.tunnels else (two, one)
    world.nodes.remove(lost)
    await lost.stop()
    await until(lambda: left.tunnels)
    answer = left.call(b"after")
    await until(lambda: answer.over)
    assert answer.data.endswith(b"/after")


@in_reactor
async def test_a_refusal_is_told_in_the_nodes_words(world: World, lines: Callable[[str], list[LogEvent]]) -> None:
    """And the agent goes on trying, late."""
    node = world.node()
    node.refusal = Refusal(status=403, message="this token may not register 'web'", code="forbidden")
    agent = world.agent(node.address)
    (line, *_) = await until(lambda: lines("Could not register"))
    assert line["reason"] == "the node refused (403): this token may not register 'web'"
    assert line["retry_s"] >= 5.0
    assert not agent.ready and not agent.sessions()


@in_reactor
async def test_a_new_token_is_shown_at_the_next_handshake(world: World) -> None:
    """A reload changes what comes after it."""
    node, agent = await world.registered()
    agent.show(ConnectConfig(token="open"))
    await until(lambda: node.tunnels)
    node.tunnels[0].abort()
    await until(lambda: len(node.tokens) == 2)
    assert node.tokens == [b"Bearer sesame", b"Bearer open"]
    await until(lambda: agent.ready)


@in_reactor
async def test_when_the_first_credential_ends_is_a_metric(world: World) -> None:
    """Of all sessions; it is not there while no node has said so."""
    _, agent = await world.registered(endpoints=("web", "api", "more"))
    assert b"credential_expiry" not in agent._metrics.exposition()
    for session, ends_at in zip(agent.sessions(), (2e9, 1.9e9, None), strict=True):
        session.tunnel.credential_until = ends_at
    assert b"pico_agent_credential_expiry_timestamp_seconds 1.9e+09" in agent._metrics.exposition()


@in_reactor
async def test_a_draining_node_is_relieved_by_another_while_it_serves_on(world: World) -> None:
    """The call in flight on the old session is answered there; the replacement has a slot of its own."""
    world.echo.at_once = False
    one, two = world.node(), world.node()
    agent = world.agent(one.address, two.address)
    await agent.all_registered
    await until(lambda: one.tunnels or two.tunnels)
    old, new = (one, two) if one.tunnels else (two, one)
    answer = old.call(b"slow")
    await until(lambda: world.echo.made and world.echo.made[0].waiting)
    await deferLater(reactor, 1.05)
    await old.tunnels[0].drain()
    await until(lambda: new.tunnels and agent.ready)
    assert (old.tunnels[0].slot, new.tunnels[0].slot) == ("0.0", "0.1")
    assert agent.sessions()[1:] == agent.listeners[0].connections.current
    world.echo.made[0].answer()
    await until(lambda: answer.over)
    assert answer.data.endswith(b"/slow")
    old.tunnels[0].close(1001, "done")
    await until(lambda: len(agent.sessions()) == 1)
    assert agent.ready


# The end


@in_reactor
async def test_it_drains_serves_what_is_in_flight_and_closes(world: World) -> None:
    """The node is told first. What is in flight is served, and what comes meanwhile; then the node is told again, and
    the session closes with 1001 behind the last answer."""
    world.echo.at_once = False
    node, agent = await world.registered()
    tunnel = node.tunnels[0]
    closed: list[Closed] = []
    tunnel.closed.addCallback(_remember(closed))
    answer = node.call(b"slow")
    await until(lambda: world.echo.made and world.echo.made[0].waiting)
    done = agent.stopService()
    again = agent.stopService()
    assert not agent.ready
    crossed = node.call(b"crossed")
    await until(lambda: len(world.echo.made) == 2 and world.echo.made[1].waiting)
    assert not done.called and not closed and node.drained == [tunnel]
    world.echo.made[0].answer()
    await until(lambda: node.drained == [tunnel, tunnel])
    assert not done.called and not closed
    world.echo.made[1].answer()
    await done
    await again
    await agent.stopService()
    assert answer.data.endswith(b"/slow") and crossed.data.endswith(b"/crossed")
    await until(lambda: closed)
    assert (closed[0].clean, closed[0].code) == (True, 1001)
    assert not agent.sessions()


@in_reactor
async def test_the_grace_period_ends_the_wait(world: World) -> None:
    """What is left then is cut: the service and the node see it."""
    world.echo.at_once = False
    node, agent = await world.registered(grace_period=0.3)
    answer = node.call(b"never")
    await until(lambda: world.echo.made and world.echo.made[0].waiting)
    start = reactor.seconds()
    await agent.stopService()
    assert 0.25 < reactor.seconds() - start < 2.0
    await until(lambda: answer.over)
    assert answer.was_lost
    await until(lambda: not node.tunnels)


@in_reactor
async def test_a_second_signal_cuts_at_once(world: World) -> None:
    """`abort` ends the drain, too."""
    world.echo.at_once = False
    node, agent = await world.registered()
    node.call(b"never")
    await until(lambda: world.echo.made and world.echo.made[0].waiting)
    done = agent.stopService()
    await deferLater(reactor, 0.1)
    assert not done.called
    start = reactor.seconds()
    agent.abort()
    await done
    assert reactor.seconds() - start < 1.0


@in_reactor
async def test_an_agent_without_a_node_stops_at_once(world: World) -> None:
    """While it waits to dial, and while it dials."""
    node = world.node()
    port = node.port
    world.nodes.remove(node)
    await node.stop()
    for pause_s in (0.0, 0.2):
        agent = world.agent(f"http://127.0.0.1:{port}")
        await deferLater(reactor, pause_s)
        await agent.stopService()


def _remember(seen: list[Closed]) -> Callable[[Closed], Closed]:
    def remember(closed: Closed) -> Closed:
        seen.append(closed)
        return closed

    return remember
