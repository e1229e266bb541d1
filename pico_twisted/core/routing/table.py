"""The table of the other nodes: who is there, and which of them holds an endpoint. Fed with the events of the gossip.

What a node holds is kept once, in the gossip's map of it, and read there (`Said`). Here is only an index: for each
endpoint the nodes that hold it, so that a request need not ask all of them. That is `holder_index`, in some ten bytes
an endpoint; what was found there is remembered for the endpoints that are asked for again and again.

The index says whom to ask, and never what is so: how a node stands, and what it holds, is looked up when a call is to
be made. So a node that dies with 40,000 endpoints is not chosen any more as soon as its status says so, and a whole map
that replaces another counts at once for all endpoints of which the index knows. What is new in it, and what is to be
cleared away, follows in slices (`work`), each a step that may be made at any time, in any order and twice. Meanwhile
an endpoint is found late, as if the news had taken longer; never at a node that does not say that it holds it.

A node that was asked and said that it does not hold the endpoint is believed over the gossip, which may be late: it is
not asked again until it says something new of that endpoint.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import islice
from typing import Final

import attrs

from pico_twisted.core.gossip.events import ENDPOINT, KeysChanged, Said, StatusChanged, Value
from pico_twisted.core.gossip.state import VersionedMap
from pico_twisted.core.routing.affinity import AffinityTable
from pico_twisted.core.routing.holder_index import MOST_NODES, HolderIndex

PASSED_OVER_LEVELS: Final = 6
"""A node that is so many levels (see `latency`) worse than the best one, 64 times slower, gets nothing."""
ACTIVE: Final = "active"
"""The status of a node that takes requests."""
DRAINING: Final = "draining"
"""The status of a node that is about to stop: it takes what no other node takes."""
LAST_CHOICE: Final = "last-choice:"
"""The beginning of a key that says that all registrations of an endpoint that a node holds are the last choice: why, as
`ALL_DRAIN` or `SOME_ARE_OUT`. Earlier versions say the first one alone, and take both for it."""
ALL_DRAIN: Final = 1
"""The agents of all of them drain."""
SOME_ARE_OUT: Final = 2
"""Those of them whose agents do not drain have a service that is out."""
ALONE: Final = "alone:"
"""The beginning of a key whose value is the ID of an agent that will not share an endpoint with others."""
AFFINITY: Final = "affinity:"
"""The beginning of a key that says what ties clients of an endpoint to which agents of a node."""


def endpoint_key(endpoint: str) -> str:
    """The key of an endpoint."""
    return ENDPOINT + endpoint


def alone_key(endpoint: str) -> str:
    """The key that says which agent will not share an endpoint."""
    return ALONE + endpoint


def affinity_key(endpoint: str) -> str:
    """The key that says what ties an endpoint's clients to whom."""
    return AFFINITY + endpoint


def last_choice_key(endpoint: str) -> str:
    """The key that says that what a node holds of an endpoint is the last choice."""
    return LAST_CHOICE + endpoint


SLICE: Final = 2000
"""Most endpoints of one step of `work`: some milliseconds, also on a slow machine."""
MOST_FOUND: Final = 4096
"""Endpoints whose holders are remembered, some hundred bytes each; beyond that all are looked up anew."""
THERE: Final = (ACTIVE, DRAINING)
"""The statuses of nodes that can be asked."""
_NOTHING: Final = VersionedMap()


@attrs.define(slots=True, eq=False)
class KnownNode:
    """What is known of one other node.

    Attributes:
        id: its node ID.
        status: `active`, `draining`, `unreachable` or `left`; empty once it is forgotten.
        said: what it says of itself, in the gossip's own map.
        not_here: endpoints that it says to have and denied when it was asked.
        number: by which the index calls it.
    """

    id: str
    status: str
    said: Said = _NOTHING
    not_here: set[str] = attrs.field(factory=set)
    number: int = 0

    def text(self, key: str) -> str:
        """The text of a key; "" when there is none."""
        value = self.said.get(key)
        return value if isinstance(value, str) else ""

    def registrations(self, endpoint: str) -> int:
        """How many registrations of an endpoint it has; 0 when it was asked and has none."""
        return 0 if endpoint in self.not_here else self.said.registrations(endpoint)

    def last_choice(self, endpoint: str) -> Value | None:
        """Why it is the last choice for an endpoint; None when it is not."""
        return self.said.get(LAST_CHOICE + endpoint)

    def standing(self, endpoint: str) -> str:
        """Its status, as far as an endpoint goes: where it is the last choice it is as if it drained."""
        return DRAINING if self.status == ACTIVE and self.last_choice(endpoint) is not None else self.status

    def owner(self, endpoint: str) -> str:
        """The ID of an agent there that will not share an endpoint; "" for none."""
        return self.text(ALONE + endpoint)


Holders = tuple[KnownNode, ...]


class ClusterTable:
    """The other nodes and what they hold.

    Args:
        random: gives numbers from 0 up to 1.

    Attributes:
        nodes: by node ID.
        affinity: of endpoints that have some; this node's agents are among those that it knows.
    """

    def __init__(self, random: Callable[[], float]) -> None:
        self.nodes: dict[str, KnownNode] = {}
        self.affinity = AffinityTable()
        self._index = HolderIndex()
        self._numbered: dict[int, KnownNode] = {}  # those that the index may name, also such as are forgotten
        self._found: dict[str, Holders] = {}  # what the index says
        self._behind: deque[tuple[KnownNode, Iterator[str]]] = deque()
        self._random = random

    def status_changed(self, event: StatusChanged) -> None:
        """A node came, stands differently, or is forgotten."""
        node = self.nodes.get(event.node_id)
        if node is None:
            if event.status is not None:
                self.nodes[event.node_id] = self._new_node(event.node_id, event.status)
                self.affinity.stands(event.node_id, event.status in THERE)
            return
        was_there, node.status = node.status in THERE, event.status or ""
        if event.status is None:
            del self.nodes[event.node_id]
            self.affinity.forget(event.node_id)
        else:
            self.affinity.stands(event.node_id, node.status in THERE)
        if was_there != (node.status in THERE):
            self._later(node, node.said.endpoints())
        self._drop_numbers()

    def _new_node(self, node_id: str, status: str) -> KnownNode:
        while len(self._numbered) >= MOST_NODES and self._behind:
            self.work()  # which gives numbers of forgotten nodes back
        number = next(number for number in range(MOST_NODES) if number not in self._numbered)
        node = self._numbered[number] = KnownNode(node_id, status, number=number)
        return node

    def _drop_numbers(self) -> None:
        """Give back the numbers of nodes that are forgotten, once the index does not name them any more."""
        named = {node.number for node, _ in self._behind}
        for number, node in list(self._numbered.items()):
            if not node.status and number not in named:
                del self._numbered[number]

    def keys_changed(self, event: KeysChanged) -> None:
        """A node says something new of itself."""
        node = self.nodes.get(event.node_id)
        if node is not None:
            node.said = event.said
            node.not_here.difference_update(event.endpoints)
            self._later(node, event.endpoints)
            for key in event.keys:
                if key.startswith(AFFINITY):
                    self.affinity.told(key[len(AFFINITY) :], event.node_id, event.said.get(key))

    def not_here(self, endpoint: str, node_id: str) -> None:
        """The node was asked and does not hold the endpoint."""
        node = self.nodes.get(node_id)
        if node is not None and node.said.registrations(endpoint):
            node.not_here.add(endpoint)
            self._settle(endpoint, node)

    # The index

    @property
    def behind(self) -> bool:
        """Whether there is something for `work`."""
        return bool(self._behind)

    def work(self) -> None:
        """Bring the index further to what the nodes say; to be called in turn with everything else while `behind`."""
        if self._behind:
            node, endpoints = self._behind[0]
            done = 0
            for endpoint in islice(endpoints, SLICE):
                self._settle(endpoint, node)
                done += 1
            if done < SLICE:
                self._behind.popleft()
                self._drop_numbers()

    def _later(self, node: KnownNode, endpoints: Sequence[str]) -> None:
        if len(endpoints) <= SLICE // 4:  # as packets bring them: at once
            for endpoint in endpoints:
                self._settle(endpoint, node)
        else:
            self._behind.append((node, iter(endpoints)))

    def _settle(self, endpoint: str, node: KnownNode) -> None:
        """Have the index say of a node and an endpoint what is so."""
        if node.status in THERE and node.registrations(endpoint) > 0:
            self._index.add(endpoint, node.number)
        else:
            self._index.discard(endpoint, node.number)
        self._found.pop(endpoint, None)

    def _holders(self, endpoint: str) -> Holders:
        """The nodes that the index names for an endpoint."""
        found = self._found.get(endpoint)
        if found is None:
            numbers = self._index.find(endpoint)
            found = tuple([node for number in numbers if (node := self._numbered.get(number)) is not None])
            if found:
                if len(self._found) >= MOST_FOUND:
                    self._found.clear()
                self._found[endpoint] = found
        return found

    def count_endpoints(self) -> int:
        """How many endpoints other nodes hold that are there."""
        return len(self._index)

    def is_held(self, endpoint: str) -> bool:
        """Whether another node that is there holds an endpoint."""
        return bool(self._holders(endpoint))

    def holders(self, endpoint: str) -> dict[str, int]:
        """The nodes that are there and hold an endpoint, with their registrations."""
        there = [node for node in self._holders(endpoint) if node.status in THERE]
        return {node.id: registrations for node in there if (registrations := node.registrations(endpoint))}

    def choose(
        self,
        endpoint: str,
        status: str,
        excluded: Collection[str],
        in_flight: Callable[[str], int | None],
        level: Callable[[str, str], int] = lambda endpoint, node_id: 0,
    ) -> str | None:
        """Choose the node that a call for an endpoint goes to.

        By chance, so that nodes do not choose alike, and by weight: with r registrations and f calls of ours in flight
        a node weighs r / (1 + f / r), and a quarter of that for each level that it is slower than the best. Without
        load each registration gets the same; what is slow to answer gets little.

        Args:
            endpoint: in lower case.
            status: only nodes with this one; to have only what is the last choice is as if the node drained.
            excluded: not these nodes.
            in_flight: the calls in flight to a node; None when it cannot be called now.
            level: given the endpoint and a node, how slow it is, as of `Latency`; not asked where there is but one.
        """
        holders = self._holders(endpoint)
        if not holders:
            return None
        if len(holders) == 1:
            (node,) = holders
            there = (
                node.standing(endpoint) == status
                and node.registrations(endpoint)
                and node.id not in excluded
                and in_flight(node.id) is not None
            )
            return node.id if there else None
        weights: list[tuple[float, str]] = []
        for node in holders:
            node_id, registrations = node.id, node.registrations(endpoint)
            if not registrations or node.standing(endpoint) != status or node_id in excluded:
                continue
            calls = in_flight(node_id)
            if calls is not None:
                weights.append((registrations / (1 + calls / registrations), node_id))
        if not weights:
            return None
        if len(weights) == 1:
            return weights[0][1]
        levels = [level(endpoint, node_id) for _, node_id in weights]
        best = min(levels)
        if best != max(levels):
            weights = [
                (weight / 4 ** (slower - best), node_id)
                for (weight, node_id), slower in zip(weights, levels, strict=True)
                if slower - best < PASSED_OVER_LEVELS
            ]
        mark = self._random() * sum(weight for weight, _ in weights)
        for weight, node_id in weights:
            mark -= weight
            if mark < 0:
                return node_id
        return weights[-1][1]

    def holds(self, endpoint: str, node_id: str, status: str = ACTIVE) -> bool:
        """Whether a node with a status, as a rule one that takes requests, holds an endpoint."""
        node = self.nodes.get(node_id)
        return node is not None and node.status == status and node.registrations(endpoint) > 0

    def served(self, endpoint: str) -> bool:
        """Whether a node that takes requests holds an endpoint, and not as the last choice."""
        return any(
            node.standing(endpoint) == ACTIVE and node.registrations(endpoint) for node in self._holders(endpoint)
        )

    def has_service(self, endpoint: str) -> bool:
        """Whether a node that is there has an agent of an endpoint whose service is there, though it may drain."""
        return any(
            node.status in THERE and node.registrations(endpoint) and node.last_choice(endpoint) != SOME_ARE_OUT
            for node in self._holders(endpoint)
        )

    def has_other(self, endpoint: str, excluded: Collection[str], in_flight: Callable[[str], int | None]) -> bool:
        """Say whether `choose`, with the same arguments, would find a node, active or draining. Nothing is drawn."""
        return any(
            node.status in THERE
            and node.registrations(endpoint)
            and node.id not in excluded
            and in_flight(node.id) is not None
            for node in self._holders(endpoint)
        )

    def count_by_status(self) -> Mapping[str, int]:
        """How many nodes there are of each status."""
        counts: dict[str, int] = {}
        for node in self.nodes.values():
            counts[node.status] = counts.get(node.status, 0) + 1
        return counts

    def _check_invariants(self) -> None:
        """For tests."""
        self._index._check_invariants()
        for endpoint, found in self._found.items():
            assert found == tuple(self._numbered[number] for number in self._index.find(endpoint))
        if not self._behind:
            assert list(self._numbered.values()) == list(self.nodes.values())
            held = {node.id: {id for id in node.said.endpoints() if node.registrations(id)} for node in self._there()}
            for endpoint in {id for ids in held.values() for id in ids}:
                assert {node.id for node in self._holders(endpoint)} == {id for id in held if endpoint in held[id]}
            assert len(self._index) == len({id for ids in held.values() for id in ids})

    def _there(self) -> list[KnownNode]:
        return [node for node in self.nodes.values() if node.status in THERE]
