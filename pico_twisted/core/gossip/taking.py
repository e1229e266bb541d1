"""Taking the maps that other nodes answered with: in slices, so that nothing else waits for long.

An answer may have hundreds of thousands of entries. Each `step` reads some of them; packets, ticks and requests come in
between. Nothing of a whole map counts before all of it is read: then it takes the place of the one that we had, in one
step, unless we have come further with that meanwhile, or know another generation of the node. So whatever comes between
two slices finds the map as it was or as it is, and what is read of an answer that turns out to be none does no harm.

What an answer has of a map above the version that we had counts slice by slice, as if packets had brought it: each
slice takes our map to a later version, of which nothing is missing, whatever becomes of those behind it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

import attrs

from pico_twisted.core.gossip.events import SyncFailed, SyncWanted
from pico_twisted.core.gossip.members import Standing
from pico_twisted.core.gossip.sync import SLICE, Part, SyncError, Whole, read_answer
from pico_twisted.core.gossip.sync_source import SyncSource
from pico_twisted.core.gossip.view import View

PART: Final = 100
"""As so many entries more a part of a map counts: it is a change of its own, with which its map may have to be packed,
and maps that have grown alike are packed at the same time."""


@attrs.define(eq=False)
class _Answer:
    """An answer that is being taken.

    Attributes:
        reporter: the ID of the node that gave it.
        asked_ms: our time of the question.
        maps: what is left of it.
        taken: whether anything of it was new.
        has_more: whether its node left maps out.
    """

    reporter: str
    asked_ms: int
    maps: Iterator[Whole | Part | None]
    taken: bool = False
    has_more: bool = False


class MapTaking:
    """The answers that are being taken, one after the other.

    Args:
        view: what we know.
        syncs: is told when maps were taken.
        count: counts by name.
    """

    def __init__(self, view: View, syncs: SyncSource, count: Callable[[str], None]) -> None:
        self._view = view
        self._syncs = syncs
        self._count = count
        self._answers: deque[_Answer] = deque()

    @property
    def busy(self) -> bool:
        """Whether there is something for `step`."""
        return bool(self._answers)

    def begin(self, data: bytes, reporter: str) -> None:
        """Take an answer behind those that are being taken. One that is none is told as a `SyncFailed`."""
        try:
            self._answers.append(_Answer(reporter, *read_answer(data)))
        except SyncError as error:
            self._view.tell(SyncFailed(reporter, str(error)))

    def step(self, now: float) -> None:
        """Take one slice."""
        entries = 0
        while self._answers and entries < SLICE:
            answer = self._answers[0]
            try:
                found = next(answer.maps)
            except StopIteration:
                self._answers.popleft()
                self._end(answer, now)
                continue
            except SyncError as error:
                self._answers.popleft()
                self._view.tell(SyncFailed(answer.reporter, str(error)))
                continue
            if found is None:
                return
            entries += self._take(answer, found, now)

    def _take(self, answer: _Answer, found: Whole | Part, now: float) -> int:
        """Take one map, or a slice of what was lacking of one. Returns how many entries that counts as."""
        # the answer is not older than its question, and may have waited for us as long as that
        said_at = min(now, self._view.own.time_of(answer.asked_ms))
        if isinstance(found, Part):
            entries = PART + len(found.delta.entries)
            is_new = self._view.take_part(found, answer.reporter, said_at, now)
        else:
            entries = 1 if found.map is None else found.map.keys
            answer.has_more = answer.has_more or found.map is None
            is_new = self._view.take_whole(found, answer.reporter, said_at, now)
        if is_new:
            answer.taken = True
            self._count("maps taken")
        return entries

    def _end(self, answer: _Answer, now: float) -> None:
        source = self._view.members.get(answer.reporter)
        if answer.has_more and answer.taken and source is not None and source.standing is Standing.LIVE:
            self._syncs.asked(now)
            self._view.tell(SyncWanted(answer.reporter))
        else:
            self._syncs.maps_taken()
