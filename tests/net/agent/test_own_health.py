"""What an agent answers to a node that asks whether it has the CPU that it needs."""

from __future__ import annotations

from typing import Any

import pytest

from pico_twisted.core.rpc.frames import HEALTH
from pico_twisted.core.rpc.own_health import QUESTION
from tests.net.agent.agent_fakes import Bench, Request


def asked(bench: Bench, payload: bytes = QUESTION, more: bool = False) -> Request:
    """The node asks."""
    call = bench.tunnel.theirs.call(HEALTH, payload, more)
    request = bench.tunnel.requests[call] = Request(tunnel=bench.tunnel, call=call)
    bench.tunnel.pump()
    return request


def says(bench: Bench) -> bytes:
    """What the agent answers, in one frame."""
    ((payload, more),) = asked(bench).frames
    assert not more
    return payload


@pytest.fixture
def bench() -> Any:
    """An agent."""
    return Bench()


def test_well(bench: Bench) -> None:
    """An agent that comes to its work says so."""
    assert says(bench) == b"well"


def test_stopped_by_its_limit(bench: Bench) -> None:
    """One that its limit has stopped says for how long, and some seconds later that it is well."""
    bench.pass_time(30)
    bench.stopped_s = 0.25
    assert says(bench) == b"short 250"
    bench.pass_time(10)
    assert says(bench) == b"well"
    assert bench.nothing_is_left()


def test_late(bench: Bench) -> None:
    """So does one whose turns are late for seconds."""
    for _ in range(20):
        bench.clock.advance(0.3)
    assert says(bench).startswith(b"short ")


@pytest.mark.parametrize(("payload", "more"), [(b"x", False), (QUESTION * 2, False), (QUESTION, True)])
def test_nonsense_of_a_node(bench: Bench, payload: bytes, more: bool) -> None:
    """Another question ends that call alone."""
    assert asked(bench, payload, more).reset_code == "protocol"
    assert says(bench) == b"well"
