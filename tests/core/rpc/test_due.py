"""When a session is to be looked at: not before it has something to do, and never later."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pico_twisted.core.rpc.budget import Budget
from pico_twisted.core.rpc.heartbeats import HEARTBEAT_S, PATIENCE_S, QUIET_S, SILENCE_S, UNSURE_S
from pico_twisted.core.rpc.session import SessionV2


def session(asks_always: bool) -> SessionV2:
    """A session that begins at 0."""
    return SessionV2(asks_always=asks_always, max_calls=10, budget=Budget(1 << 20), now=0.0)


@given(st.booleans(), st.lists(st.tuples(st.floats(0, 30), st.booleans()), max_size=20))
def test_never_too_late(asks_always: bool, steps: list[tuple[float, bool]]) -> None:
    """Before it is due a tick does nothing, whatever came before; when it is due, the session asks, or is dead."""
    one = session(asks_always)
    now = 0.0
    for seconds, received in steps:
        due = one.due_at()
        now += seconds
        if received:
            one.last_received = now
            continue
        dead = one.tick(now)
        asked = one.has_output()
        if now < due:
            assert dead is None and not asked
        if dead is not None:
            return
        assert one.due_at() > now or now == one.last_received + SILENCE_S
        one.frames_to_send()


def test_due() -> None:
    """A node's session is due every 10 s, an agent's after 15 s of silence; both when they are silent for too long."""
    node, agent = session(True), session(False)
    assert (node.due_at(), agent.due_at()) == (0.0, QUIET_S)
    node.tick(0.0)
    assert node.due_at() == HEARTBEAT_S
    node.tick(HEARTBEAT_S)
    assert node.due_at() == min(2 * HEARTBEAT_S, SILENCE_S)
    agent.last_received = 7.0
    assert agent.due_at() == 7.0 + QUIET_S


def test_an_agent_that_is_unsure() -> None:
    """An agent that sent bytes of a response, and hears nothing for three seconds, asks; then the node is silent."""
    node, agent = session(True), session(False)
    for one in (node, agent):
        one.last_received = 10.0
        one.last_sent = 11.0
    assert agent.due_at() == 10.0 + UNSURE_S and agent.tick(12.9) is None and not agent.has_output()
    assert agent.tick(13.0) is None and agent.has_output()
    assert not agent.is_silent(13.0 + PATIENCE_S - 0.1) and agent.is_silent(13.0 + PATIENCE_S)
    agent.frames_to_send()
    assert agent.tick(16.0) is None and not agent.has_output(), "it asks once"
    agent.last_received = 16.0
    assert not agent.is_silent(17.0)
    node.tick(13.0)
    node.frames_to_send()
    assert node.tick(16.5) is None and not node.has_output(), "nodes ask when their routes say so"


def test_sooner() -> None:
    """A heartbeat can be asked for sooner, once."""
    node = session(True)
    node.tick(0.0)
    node.ask_sooner(4.0)
    assert node.due_at() == pytest.approx(HEARTBEAT_S - 4.0)
    node.tick(HEARTBEAT_S - 4.0)
    assert node.due_at() == pytest.approx(2 * HEARTBEAT_S - 4.0)
