"""Which nodes a round exchanges digests with, which are told news at once, and which seeds are tried."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, Protocol

from pico_twisted.core.gossip.members import Member, Standing
from pico_twisted.core.gossip.view import View

FANOUT: Final = 4
"""Number of live nodes that each round exchanges digests with."""
SEEDS_ALONE: Final = 3
"""Number of seeds tried in each round while no other node is known. Later it is one, among those that are no live
nodes."""
MOST_SIBLINGS: Final = 64
"""Most nodes that are told news as workers of our host, since anybody may say to be one."""
PUSH_TO: Final = 8
"""Number of hosts that news are sent to at once."""


class Random(Protocol):
    """What is asked of the source of chance; `random.Random` has it."""

    def random(self) -> float: ...
    def randbytes(self, n: int) -> bytes: ...
    def sample(self, population: Sequence[Member], k: int) -> list[Member]: ...
    def randrange(self, stop: int, /) -> int: ...


class Partners:
    """Chooses, by chance, the nodes to talk to.

    Args:
        view: what we know.
        rng: the source of chance.
        host: the host of which we are one of several workers; "" when we are on our own.
    """

    def __init__(self, view: View, rng: Random, host: str) -> None:
        self._view = view
        self._host = host
        self._rng = rng
        self._seeds: tuple[str, ...] = ()
        self._seeds_tried = 0

    def set_seeds(self, addresses: Iterable[str]) -> None:
        """Take the addresses at which nodes of the cluster are said to be."""
        self._seeds = tuple(addresses)

    def reachable(self) -> list[Member]:
        """The live nodes whose address is known."""
        return [member for member in self._view.live() if member.address]

    def of_round(self, now: float) -> list[Member]:
        """The nodes that this round exchanges digests with."""
        partners = self._live_ones(now)
        lost = [one for one in self._view.members.values() if one.standing is Standing.UNREACHABLE and one.address]
        if lost and self._rng.random() < 0.5:
            partners = [*partners, lost[self._rng.randrange(len(lost))]]
        return [*partners, *self.to_probe(now, again=True)]

    def _live_ones(self, now: float) -> list[Member]:
        live = self.reachable()
        if len(live) <= FANOUT:
            return live
        # Behind a cut most may be out of reach: those who are not must find each other among them, and soon.
        suspects = [one for one in live if one.suspect(now)]
        others = [one for one in live if not one.suspect(now)] if suspects else live
        wished = 2 * FANOUT if any(one.doubtful(now) for one in suspects) else FANOUT
        partners = self._rng.sample(others, min(wished, len(others)))
        return partners + self._rng.sample(suspects, min(wished - len(partners) + FANOUT, len(suspects)))

    def to_probe(self, now: float, *, again: bool) -> list[Member]:
        """Take the unconfirmed nodes that are to be asked now whether they are there.

        Args:
            now: monotonic seconds.
            again: whether nodes that were asked before are asked again.
        """
        asked = [one for one in self._view.unconfirmed.values() if one.address and (again or one.probed_at < 0)]
        asked.sort(key=lambda one: one.probed_at)
        del asked[2 * FANOUT :]
        for one in asked:
            one.probed_at = now
        return asked

    @property
    def has_siblings(self) -> bool:
        """Whether our host has other workers."""
        return self._host != ""

    def siblings(self, live: list[Member]) -> list[Member]:
        """Those of these nodes that are workers of our host, as they say; some of them where they are very many."""
        siblings = [one for one in live if one.host == self._host] if self._host else []
        return siblings if len(siblings) <= MOST_SIBLINGS else self._rng.sample(siblings, MOST_SIBLINGS)

    def hosts(self, live: list[Member], now: float) -> list[Member]:
        """The nodes among these that are on their own, and one worker of each host but ours.

        It is the first by its ID, unless that is silent: all nodes choose the same one, so that what it passes on of
        many nodes shares packets.
        """
        first: dict[str, Member] = {}
        for one in live:
            if one.host and one.host != self._host:
                other = first.setdefault(one.host, one)
                if (one.doubtful(now), one.node_id) < (other.doubtful(now), other.node_id):
                    first[one.host] = one
        return [*[one for one in live if not one.host], *first.values()]

    def some(self, nodes: list[Member]) -> list[Member]:
        """Some of these nodes, to be told news at once."""
        return nodes if len(nodes) <= PUSH_TO else self._rng.sample(nodes, PUSH_TO)

    def seeds(self, own_address: str) -> list[str]:
        """The seeds to be tried in this round, in turn."""
        known = {member.address for member in self._view.live()}
        known.add(own_address)
        strangers = [seed for seed in self._seeds if seed not in known]
        found: list[str] = []
        for _ in range(min(SEEDS_ALONE if len(known) == 1 else 1, len(strangers))):
            self._seeds_tried += 1
            found.append(strangers[self._seeds_tried % len(strangers)])
        return found
