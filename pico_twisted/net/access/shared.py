"""Revocations that all nodes of a cluster share.

What is needed. What is revoked at one node is revoked at all within a moment, also at those that are parted from it now
and come back, that start again, or that join in a year. An operator is told which nodes know.

What can go wrong. A node cannot be reached, or only from one side. It is of an earlier version. Two nodes whose lists
differ exchange them for ever. A node that does not know our secret talks us into something.

What was chosen. Who is told something new tells every node that it knows over a link, at once. Beside that each node
gossips the digest of its list, and when another one's differs for a moment, it exchanges lists with that node: both
have the same afterwards. So a node that missed something for whatever reason has it soon, and nobody has to remember
who was told what. Where an exchange does not help, for a node that cannot be reached, the next one comes later and
later. Links and gossip decide whom to believe: nobody who does not know the cluster's secret, where it has one.

What was rejected. To pass on what was heard: each node that is told would tell all others, and the digests find those
whom nobody told.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import attrs
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from pico_twisted.core.access.revocations import (
    BadRevocations,
    Meant,
    Revocation,
    Revocations,
    lines_of,
    read_revocations,
    written,
)
from pico_twisted.core.backoff import Backoff
from pico_twisted.core.sweep import Sweep
from pico_twisted.net.observe.metrics import Metrics

log = Logger()

TELL_S: Final = 5.0
"""Most seconds that the other nodes have to say that they know of a revocation, before it is said that they do not."""
DIFFERS_S: Final = 1.0
"""Seconds for which another node's list may differ before lists are exchanged: what is told is mostly on its way."""
MOST_WAIT_S: Final = 30.0
"""Most seconds between two exchanges that did not help."""
LOOK_S: Final = 0.5
"""Seconds between two looks at the digests of other nodes."""
CLEAN_S: Final = 60.0
"""Seconds between two looks for words that have ended."""
MOST_AT_ONCE: Final = 300
"""Most words of one request, and of those that are read in one turn of the reactor."""
MOST_LOGGED: Final = 20
"""Most words that came together and have a line of the log each."""

_MOST_DIGITS: Final = 10

UNREACHED: Final = "it cannot be reached now, and hears of it when it can"
"""Why another node may not know of a revocation yet."""
EARLIER: Final = "it is of an earlier version, and refuses nobody"
"""Why another node never will."""


@attrs.frozen(kw_only=True)
class Told:
    """What came of telling the other nodes.

    Attributes:
        nodes: by node ID "", or why it may not know yet.
        ended: how many sessions and requests that ends, at the nodes that know.
    """

    nodes: Mapping[str, str]
    ended: int


@attrs.frozen(kw_only=True)
class SharedParts:
    """What shared revocations work with.

    Attributes:
        clock: the reactor.
        sweep: the coarse timer.
        wall: gives seconds since 1970.
        metrics: counts.
        others: the other nodes, and the digest that each tells: "" for one of an earlier version, None for one that
            cannot be reached.
        tell: called with a node's ID and revocations, or nothing; a Deferred of its answer, of None where it has none.
        announce: called with our digest when that changed.
        chance: gives numbers from 0 up to 1.
    """

    clock: IReactorTime
    sweep: Sweep
    wall: Callable[[], float]
    metrics: Metrics
    others: Callable[[], Mapping[str, str | None]]
    tell: Callable[[str, bytes], Deferred[bytes | None]]
    announce: Callable[[str], object]
    chance: Callable[[], float] = random.random


class SharedRevocations:
    """What is revoked, at this node and at all others.

    Args:
        revocations: asked by the gates of all ports.
        parts: see there.

    Attributes:
        revocations: the same.
        changed: what is called whenever the list has become another one, and tells how much that ends.
    """

    def __init__(self, revocations: Revocations, parts: SharedParts) -> None:
        self.revocations = revocations
        self.changed: list[Callable[[], int]] = []
        self._parts = parts
        self._told = ""
        self._keep: Callable[[bytes], object] | None = None
        self._waits = Backoff(DIFFERS_S, MOST_WAIT_S)
        self._differ: list[str] = []
        self._exchange_at = math.inf
        self._look_at = self._clean_at = 0.0
        self._exchanging: Deferred[None] | None = None
        parts.metrics.gauge(
            "pico_revocations",
            "Subjects and agents that are revoked.",
            lambda: sum(word.revoked for word in revocations),
        )
        parts.sweep.each(self._look)

    # Operators

    def revoke(self, meant: Meant, name: str, by: str, until_s: float = 0.0) -> tuple[Revocation, Deferred[Told]]:
        """Refuse somebody at all nodes from now on.

        Args:
            meant: what the name is of.
            name: who.
            by: who says so.
            until_s: when that ends, in seconds since 1970; 0 for never.

        Returns:
            The word, and what fires once the others were told.

        Raises:
            BadRevocations, TooManyRevocations: as of `Revocations.revoke`.
        """
        word = self.revocations.revoke(meant, name, now_s=self._parts.wall(), by=by, until_s=until_s)
        log.info("{name} is revoked by {by}", name=name, meant=meant.value, by=by, until_s=word.until_s)
        return word, self._spread(word)

    def undo(self, meant: Meant, name: str, by: str) -> tuple[Revocation, Deferred[Told]] | None:
        """Take a revocation back, at all nodes; None when there is none. The rest is as of `revoke`."""
        word = self.revocations.undo(meant, name, now_s=self._parts.wall(), by=by)
        if word is None:
            return None
        log.info("The revocation of {name} is taken back by {by}", name=name, meant=meant.value, by=by)
        return word, self._spread(word)

    def _spread(self, word: Revocation) -> Deferred[Told]:
        ended = self._changed()
        digests = self._parts.others()
        others = [node_id for node_id, digest in digests.items() if digest]
        rest = {node_id: UNREACHED if digest is None else EARLIER for node_id, digest in digests.items() if not digest}
        telling = [self._tell(node_id, [word]).addTimeout(TELL_S, self._parts.clock) for node_id in others]
        waiting: Deferred[list[tuple[bool, bytes | None]]] = DeferredList(telling, consumeErrors=True)

        def told(results: list[tuple[bool, bytes | None]]) -> Told:
            answers = [answer if success else None for success, answer in results]
            words = (UNREACHED if answer is None else "" for answer in answers)
            nodes = {**dict(zip(others, words, strict=True)), **rest}
            return Told(nodes=nodes, ended=ended + sum(map(_count, answers)))

        return waiting.addCallback(told)

    def _tell(self, node_id: str, words: Sequence[Revocation]) -> Deferred[bytes | None]:
        return self._parts.tell(node_id, written(words[:MOST_AT_ONCE]))

    # What is kept

    @property
    def kept(self) -> bool:
        """Whether this node has them when it starts again and finds no other node."""
        return self._keep is not None

    def keep(self, keep: Callable[[bytes], object]) -> None:
        """Have the list kept whenever it has become another one.

        Args:
            keep: called with the list as it is written.
        """
        self._keep = keep

    def load(self, data: bytes) -> None:
        """Take the list that this node kept. Raises BadRevocations when it is none."""
        if self.revocations.merge(read_revocations(data), self._parts.wall()):
            self._changed()

    # Other nodes

    def take(self, node_id: str, data: bytes) -> bytes:
        """Take the words of another node. Returns all of ours when it sent none, else how much they end, as text.

        Raises:
            BadRevocations: they are none.
        """
        if not data:
            return self.revocations.written()
        words = read_revocations(data, MOST_AT_ONCE)
        return b"%d" % self._learned(node_id, self.revocations.merge(words, self._parts.wall()))

    def _learned(self, node_id: str, news: Sequence[Revocation]) -> int:
        if not news:
            return 0
        for word in news[:MOST_LOGGED]:
            said = "{name} is revoked by {by}" if word.revoked else "The revocation of {name} is taken back by {by}"
            log.info(f"{said}, says node {{node}}", name=word.name, meant=word.meant.value, by=word.by, node=node_id)
        if len(news) > MOST_LOGGED:
            log.info("{count} more revocations, says node {node}", count=len(news) - MOST_LOGGED, node=node_id)
        return self._changed()

    def _announce(self) -> None:
        if self.revocations.digest != self._told:
            self._told = self.revocations.digest
            self._parts.announce(self._told)

    def _changed(self) -> int:
        self._announce()
        self._waits.reset()
        ended = sum([tell() for tell in self.changed])
        if self._keep is not None:
            self._keep(self.revocations.written())
        return ended

    def _look(self, now: float) -> None:
        """Called by the sweep: forget what has ended, and see whether another node has another list."""
        if now >= self._clean_at:
            self._clean_at = now + CLEAN_S
            if self.revocations.drop_ended(self._parts.wall()):
                self._changed()
        if now < self._look_at or self._exchanging is not None:
            return
        self._announce()
        self._look_at = now + LOOK_S
        others, own = self._parts.others(), self.revocations.digest
        differ = [f"{node_id} {digest}" for node_id, digest in others.items() if digest and digest != own]
        if differ != self._differ:
            self._differ = differ
            self._waits.reset()
            soon = now + (self._waits.next_s() if len(self.revocations) else 0.0)
            self._exchange_at = min(self._exchange_at, soon) if differ else math.inf  # not put off again and again
        if differ and now >= self._exchange_at:
            self._exchange_at = now + self._waits.next_s()
            self._exchange(differ[int(self._parts.chance() * len(differ))].partition(" ")[0])

    def _exchange(self, node_id: str) -> None:
        """Have the same list as another node."""
        self._exchanging = Deferred.fromCoroutine(self._take_and_tell(node_id))
        self._exchanging.addErrback(self._not_exchanged, node_id)
        self._exchanging.addBoth(self._exchanged)

    async def _take_and_tell(self, node_id: str) -> None:
        answer = await self._parts.tell(node_id, b"")
        if answer is None:
            return
        theirs, news, lines = Revocations(), list[Revocation](), lines_of(answer)
        try:
            for at in range(0, len(lines), MOST_AT_ONCE):  # a long list takes a while: not all of it in one turn
                words = [Revocation.read(line) for line in lines[at : at + MOST_AT_ONCE]]
                theirs.merge(words, self._parts.wall())
                news += self.revocations.merge(words, self._parts.wall())
                await deferLater(self._parts.clock, 0)
        finally:
            self._learned(node_id, news)
        lacks = theirs.merge(self.revocations, self._parts.wall())
        if lacks:
            await self._tell(node_id, lacks)

    def _not_exchanged(self, failure: Failure, node_id: str) -> None:
        if failure.check(BadRevocations):
            log.warn("The revocations of node {node} are none: {reason}", node=node_id, reason=str(failure.value))
        else:
            log.debug("No revocations of node {node}: {reason}", node=node_id, reason=failure.getErrorMessage())

    def _exchanged(self, _: None) -> None:
        self._exchanging = None


def _count(answer: bytes | None) -> int:
    """How much another node says that it ends; 0 for what is no number."""
    return int(answer) if answer and answer.isdigit() and len(answer) < _MOST_DIGITS else 0
