"""What one node takes that is new, as its parts are told of it."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import attrs

from pico_twisted.app.intake import SETTLE_S, NodeIntake
from pico_twisted.core.links.operations import Act, Operation
from pico_twisted.core.routing.intake import Intake


def part(**attributes: Any) -> Any:
    """Something with these attributes."""
    return SimpleNamespace(**attributes)


@attrs.define(eq=False)
class Session:
    """An idle session that was not told to go."""

    agent_id: str = "agent-1"
    endpoint: str = "web"
    draining: bool = False
    call_count: int = 0


class Held:
    """The registry of these sessions."""

    def __init__(self, tunnels: list[Session]) -> None:
        self._tunnels = tunnels

    def __len__(self) -> int:
        return len(self._tunnels)

    def held(self, endpoint: str) -> list[Any]:
        """Of an endpoint."""
        return [part(tunnel=one) for one in self._tunnels if one.endpoint == endpoint]


class Parts:
    """The parts that go by it, and a clock.

    Attributes:
        ended: how often idle sessions were ended.
        tunnels: the sessions, of which those are gone that were ended one by one.
    """

    def __init__(self) -> None:
        self.ended = 0
        self.tunnels = [Session()]
        self.cluster: Any = part(
            intake=Intake.OPEN,
            pending=(),
            registry=Held(self.tunnels),
            others=list,
            start_draining=self.start_draining,
            tunnels=lambda: list(self.tunnels),
        )
        nothing: Any = part(say=lambda intake: None, drain=lambda: None, drain_no_more=lambda: None, serving=lambda: 0)
        upstream: Any = part(credentials=part(end=self.end))
        self.sweep: Any = part(now=100.0, each=lambda look: setattr(self, "look", look))
        self.look: Any = None
        self.intake = NodeIntake(nothing, self.cluster, nothing, upstream, self.sweep)

    def start_draining(self, intake: Intake) -> None:
        self.cluster.intake = intake
        for one in self.tunnels:
            one.draining = True

    def end(self, which: Callable[[Session], bool], *_: object) -> int:
        self.ended += 1
        if self.cluster.intake is Intake.OPEN:
            self.tunnels[:] = [one for one in self.tunnels if not which(one)]
        return 0

    def asked(self, act: Act) -> None:
        """An operator asks for this."""
        self.intake.operate(Operation(act=act))

    def turn(self, seconds: float) -> None:
        """That much later the sweep turns."""
        self.sweep.now += seconds
        self.look(self.sweep.now)


def test_nodes_that_are_drained_at_once() -> None:
    """No session is ended before other nodes can have told that they are drained, too: else each of two would count on
    the other, and their agents would be served nowhere. To ask again makes that no longer; to begin again does."""
    parts = Parts()
    parts.asked(Act.DRAIN)
    parts.turn(SETTLE_S / 2)
    parts.asked(Act.DRAIN)
    assert parts.ended == 0
    parts.turn(SETTLE_S / 2)
    assert parts.ended == 1
    parts.asked(Act.UNCORDON)
    parts.turn(1.0)
    parts.asked(Act.DRAIN)
    parts.turn(SETTLE_S / 2)
    assert parts.ended == 1


def test_a_node_that_stops_goes_on_to() -> None:
    """Whatever operators ask for then."""
    parts = Parts()
    parts.intake.set(Intake.STOPPING)
    for act in (Act.UNCORDON, Act.CORDON, Act.DRAIN):
        parts.asked(act)
    assert parts.cluster.intake is Intake.STOPPING
    parts.turn(2 * SETTLE_S)
    assert parts.ended == 0


def test_an_agent_that_comes_back_has_no_session_too_many() -> None:
    """What was told to go while the node was drained is ended once its agent has replaced it here, and is idle."""
    parts = Parts()
    (old,) = parts.tunnels
    parts.asked(Act.DRAIN)
    parts.asked(Act.UNCORDON)
    others = [Session("agent-2"), Session(endpoint="other")]
    parts.tunnels.extend(others)
    parts.turn(SETTLE_S)
    assert parts.tunnels == [old, *others]
    old.call_count = 1
    new = Session()
    parts.tunnels.append(new)
    parts.turn(1.0)
    assert old in parts.tunnels
    old.call_count = 0
    parts.turn(1.0)
    assert parts.tunnels == [*others, new]
