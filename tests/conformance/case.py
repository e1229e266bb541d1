"""What a case is, and where all of them are gathered."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from tests.conformance.conversation import Conversation

Play = Callable[[Conversation], None]


class Case(NamedTuple):
    """One promise of the standard.

    Attributes:
        number: that h2spec gives it.
        says: what happens in it.
        play: does it; raises `Unexpected`.
    """

    number: str
    says: str
    play: Play


class Cases(list[Case]):
    """The cases of a part, in order."""

    def __init__(self, part: str) -> None:
        super().__init__()
        self._part = part

    def case(self, number: str, says: str, *, greets: bool = True) -> Callable[[Play], Play]:
        """Add one. Unless told otherwise it begins after the prefaces."""

        def add(play: Play) -> Play:
            def whole(peer: Conversation) -> None:
                if greets:
                    peer.greet()
                play(peer)

            self.append(Case(f"{self._part}/{number}", says, whole))
            return play

        return add
