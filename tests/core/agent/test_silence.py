"""When a service that says nothing is asked whether it is there."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from pico_twisted.core.agent.silence import PING_AFTER_S, PINGS_APART_S, PONG_S, Silence


def test_a_request_that_draws_nothing() -> None:
    """It is followed by a PING, which has to be answered in time."""
    silence = Silence()
    assert silence.due_at == math.inf
    silence.asked(100.0)
    silence.asked(105.0)
    assert silence.due_at == 100.0 + PING_AFTER_S and not silence.pinged
    silence.ping(110.0)
    assert silence.pinged and silence.due_at == 110.0 + PONG_S
    silence.nothing_open()
    assert silence.pinged, "its answer is still awaited"


def test_any_byte_is_a_sign_of_life() -> None:
    """Nothing is due then, until something is asked again."""
    silence = Silence()
    silence.asked(0.0)
    silence.ping(10.0)
    silence.heard()
    assert not silence.pinged and silence.due_at == math.inf


def test_a_service_without_messages_is_asked_rarely() -> None:
    """Only a message makes the next PING free: servers of gRPC count the others."""
    silence = Silence()
    silence.asked(0.0)
    silence.ping(10.0)
    silence.heard()
    silence.asked(20.0)
    assert silence.due_at == 10.0 + PINGS_APART_S
    silence.heard()
    silence.answered()
    silence.asked(30.0)
    assert silence.due_at == 30.0 + PING_AFTER_S


def test_nothing_is_asked_of_who_has_nothing_to_answer() -> None:
    """A request that was given up draws no answer."""
    silence = Silence()
    silence.asked(0.0)
    silence.nothing_open()
    assert silence.due_at == math.inf and not silence.pinged


@given(st.lists(st.sampled_from("ahmn"), max_size=60))
def test_pings_are_never_more_frequent_than_servers_of_grpc_allow(what: list[str]) -> None:
    """Whatever happens, each second for an hour: two PINGs have a message between them, or 300 s."""
    silence, now = Silence(), 0.0
    last: float | None = None
    for step in what * 20:
        for _ in range(7):
            now += 1.0
            if silence.due_at <= now:
                if silence.pinged:
                    return  # the connection ends
                assert last is None or now - last >= 300.0
                silence.ping(now)
                last = now
        if step == "a":
            silence.asked(now)
        elif step == "n":
            silence.nothing_open()
        else:
            silence.heard()
            if step == "m":
                silence.answered()
                last = None
