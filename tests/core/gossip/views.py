"""A view of a few nodes, and what they say to it."""

from __future__ import annotations

from pico_twisted.core.gossip.events import Event
from pico_twisted.core.gossip.own import OwnNode
from pico_twisted.core.gossip.packets import DELTA, Body, Received
from pico_twisted.core.gossip.view import View
from tests.doubles.said import Changed, as_of_now

INTERVAL_S = 0.5
FORGET_S = 300.0
T = 1000.0


def view_of(*members: str) -> View:
    """A view that holds live nodes of generation 5."""
    view = View(OwnNode("me", 7, T), INTERVAL_S, FORGET_S)
    for name in members:
        speak(view, name, 5, 100, T)
    view.take_events()
    return view


def speak(
    view: View, name: str, generation: int, heartbeat: int, now: float, *, version: int = 0, proven: bool = True
) -> None:
    """A node sends a packet."""
    body = Body(
        kind=DELTA,
        challenge=b"c" * 8,
        echo=b"",
        have=(0, 0),
        hops=1,
        digest=[(name, generation, heartbeat, version, 0, 0)],
        deltas=[],
        wants=[],
    )
    view.sender(Received(name, generation, body, f"{name}:1", proven, now), now)


def hear(view: View, *item: int, name: str = "x", at: float = T, by: str = "a") -> None:
    """A live node speaks of another: generation, heartbeat, version, floor, age in ms."""
    generation, heartbeat, version, floor, age_ms = item
    view.hear_all([(name, generation, heartbeat, version, floor, age_ms)], by, at, at)


def told(view: View) -> list[Event | Changed]:
    """The events since the last call, with the values that keys have now."""
    events = [as_of_now(event) for event in view.take_events()]
    view._check_invariants()
    return events
