"""What one node takes that is new, as its parts are told of it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from pico_twisted.app.intake import SETTLE_S, NodeIntake
from pico_twisted.core.links.operations import Act, Operation
from pico_twisted.core.routing.intake import Intake


def part(**attributes: Any) -> Any:
    """Something with these attributes."""
    return SimpleNamespace(**attributes)


class Parts:
    """The parts that go by it, and a clock.

    Attributes:
        ended: how often idle sessions were ended.
    """

    def __init__(self) -> None:
        self.ended = 0
        self.cluster: Any = part(
            intake=Intake.OPEN, pending=(), registry=(1,), others=list, start_draining=self.start_draining
        )
        nothing: Any = part(say=lambda intake: None, drain=lambda: None, drain_no_more=lambda: None, serving=lambda: 0)
        upstream: Any = part(credentials=part(end=self.end))
        self.sweep: Any = part(now=100.0, each=lambda look: setattr(self, "look", look))
        self.look: Any = None
        self.intake = NodeIntake(nothing, self.cluster, nothing, upstream, self.sweep)

    def start_draining(self, intake: Intake) -> None:
        self.cluster.intake = intake

    def end(self, *_: object) -> int:
        self.ended += 1
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
