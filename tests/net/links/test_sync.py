"""Answers to the questions of other nodes for the maps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

from pico_twisted.core.links.sync_frames import encode_maps
from pico_twisted.core.rpc.capabilities import MAPS_SINCE
from pico_twisted.net.links.sync import Answers, SyncRequest


def _double(**attributes: Any) -> Any:
    """Something that has these attributes alone."""
    return SimpleNamespace(**attributes)


class Asked:
    """A question for the maps, whose answer has some pieces.

    Args:
        pieces: of the answer.
        capabilities: of who asks.

    Attributes:
        parts: whether parts of maps were asked for, each time.
        sent: what was sent of it, and whether more follows.
        turns: what is to be done in the next turn.
        call: the call.
    """

    def __init__(self, *pieces: bytes, capabilities: frozenset[bytes] = frozenset()) -> None:
        self.parts: list[bool] = []
        self.sent: list[tuple[bytes, bool]] = []
        self.turns: list[Callable[[], None]] = []
        self.call = _double(pausing=False)
        unused: Any = None

        def maps(node_id: str, request: bytes, takes_parts: bool) -> Iterator[bytes]:
            self.parts.append(takes_parts)
            return iter(pieces)

        answers = Answers(
            maps=maps,
            dial_back=unused,
            revoked=unused,
            operate=unused,
            later=self.turns.append,
        )
        tunnel = _double(
            node_id="n2",
            capabilities=capabilities,
            consumed=lambda call, size: None,
            send=lambda call, payload, more: self.sent.append((payload, more)),
        )
        self.request = SyncRequest(tunnel, self.call, answers)
        self.request.frame(encode_maps(b"what there is"), False)

    def turn(self) -> None:
        """The next turn of the reactor."""
        turns, self.turns[:] = self.turns[:], []
        for do in turns:
            do()


def test_each_piece_is_made_in_a_turn_of_its_own() -> None:
    """However fast the other node takes the maps, everything else comes in between two pieces."""
    asked = Asked(b"one", b"two")
    assert asked.sent == []
    for count in (1, 2, 3):
        asked.request.drained()
        asked.request.drained()
        assert len(asked.turns) == 1
        asked.turn()
        assert len(asked.sent) == count
    assert asked.sent == [(b"one", True), (b"two", True), (b"", False)]
    asked.request.drained()
    asked.turn()
    assert len(asked.sent) == 3 and not asked.turns


def test_who_takes_parts_of_maps_says_so() -> None:
    """A node gets parts of maps only where it says that it takes them; earlier versions do not."""
    assert Asked(b"one").parts == [False]
    assert Asked(b"one", capabilities=frozenset((MAPS_SINCE,))).parts == [True]


def test_no_piece_is_made_that_nobody_takes() -> None:
    """The next piece waits until there is room, and is not made for who has gone."""
    asked = Asked(b"one", b"two", b"three")
    asked.call.pausing = True
    asked.turn()
    assert asked.sent == [(b"one", True)] and not asked.turns
    asked.call.pausing = False
    asked.request.drained()
    asked.request.lost()
    asked.turn()
    assert asked.sent == [(b"one", True)] and not asked.turns
