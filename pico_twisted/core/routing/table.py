"""The table of the other nodes: who is there, and which of them holds an endpoint. Fed with the events of the gossip.

A node that was asked and said that it does not hold the endpoint is believed over the gossip, which may be late: it is
not asked again until it says something new of that endpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Final

import attrs

from pico_twisted.core.gossip.events import KeysChanged, StatusChanged, Value

ENDPOINT: Final = "endpoint:"
"""The beginning of a key that tells how many registrations of an endpoint a node holds."""
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


def endpoint_key(endpoint: str) -> str:
    """The key of an endpoint."""
    return ENDPOINT + endpoint


def alone_key(endpoint: str) -> str:
    """The key that says which agent will not share an endpoint."""
    return ALONE + endpoint


def last_choice_key(endpoint: str) -> str:
    """The key that says that what a node holds of an endpoint is the last choice."""
    return LAST_CHOICE + endpoint


@attrs.define(slots=True)
class KnownNode:
    """What is known of one other node.

    Attributes:
        status: `active`, `draining`, `unreachable` or `left`.
        keys: what it says of itself, but for its endpoints.
        endpoints: the registrations of each endpoint that it holds.
        last_choice: those of them that are the last choice there, and why.
        owners: the agents there that will not share an endpoint.
    """

    status: str
    keys: dict[str, Value] = attrs.field(factory=dict)
    endpoints: dict[str, int] = attrs.field(factory=dict)
    last_choice: dict[str, Value] = attrs.field(factory=dict)
    owners: dict[str, str] = attrs.field(factory=dict)

    def text(self, key: str) -> str:
        """The text of a key; "" when there is none."""
        value = self.keys.get(key)
        return value if isinstance(value, str) else ""


class ClusterTable:
    """The other nodes and what they hold.

    Args:
        random: gives numbers from 0 up to 1.

    Attributes:
        nodes: by node ID.
    """

    def __init__(self, random: Callable[[], float]) -> None:
        self.nodes: dict[str, KnownNode] = {}
        self._holders: dict[str, dict[str, int]] = {}  # endpoint -> node ID -> registrations
        self._random = random

    def status_changed(self, event: StatusChanged) -> None:
        """A node came, stands differently, or is forgotten."""
        if event.status is None:
            node = self.nodes.pop(event.node_id, None)
            for endpoint in node.endpoints if node is not None else ():
                self._drop(endpoint, event.node_id)
        elif event.node_id in self.nodes:
            self.nodes[event.node_id].status = event.status
        else:
            self.nodes[event.node_id] = KnownNode(event.status)

    def keys_changed(self, event: KeysChanged) -> None:
        """A node says something new of itself."""
        node = self.nodes.get(event.node_id)
        if node is None:
            return
        for key, value in event.changes.items():
            if key.startswith(LAST_CHOICE):
                node.last_choice.pop(key[len(LAST_CHOICE) :], None)
                if value is not None:
                    node.last_choice[key[len(LAST_CHOICE) :]] = value
                continue
            if key.startswith(ALONE):
                node.owners.pop(key[len(ALONE) :], None)
                if isinstance(value, str):
                    node.owners[key[len(ALONE) :]] = value
                continue
            if not key.startswith(ENDPOINT):
                if value is None:
                    node.keys.pop(key, None)
                else:
                    node.keys[key] = value
                continue
            endpoint = key[len(ENDPOINT) :]
            if isinstance(value, int) and value > 0:
                node.endpoints[endpoint] = value
                self._holders.setdefault(endpoint, {})[event.node_id] = value
            else:
                node.endpoints.pop(endpoint, None)
                self._drop(endpoint, event.node_id)

    def not_here(self, endpoint: str, node_id: str) -> None:
        """The node was asked and does not hold the endpoint."""
        self._drop(endpoint, node_id)

    def _drop(self, endpoint: str, node_id: str) -> None:
        holders = self._holders.get(endpoint)
        if holders is not None and holders.pop(node_id, None) is not None and not holders:
            del self._holders[endpoint]

    def choose(
        self,
        endpoint: str,
        status: str,
        excluded: Collection[str],
        in_flight: Callable[[str], int | None],
    ) -> str | None:
        """Choose the node that a call for an endpoint goes to.

        By chance, so that nodes do not choose alike, and by weight: with r registrations and f calls of ours in flight
        a node weighs r / (1 + f / r). Without load each registration gets the same; a node that is slow to answer gets
        less.

        Args:
            endpoint: in lower case.
            status: only nodes with this one; to have only what is the last choice is as if the node drained.
            excluded: not these nodes.
            in_flight: the calls in flight to a node; None when it cannot be called now.
        """
        holders = self._holders.get(endpoint)
        if not holders:
            return None
        if len(holders) == 1:
            (node_id,) = holders
            node = self.nodes[node_id]
            stands = DRAINING if node.status == ACTIVE and endpoint in node.last_choice else node.status
            there = stands == status and node_id not in excluded and in_flight(node_id) is not None
            return node_id if there else None
        weights: list[tuple[float, str]] = []
        total = 0.0
        for node_id, registrations in holders.items():
            node = self.nodes[node_id]
            stands = DRAINING if node.status == ACTIVE and endpoint in node.last_choice else node.status
            if stands != status or node_id in excluded:
                continue
            calls = in_flight(node_id)
            if calls is None:
                continue
            weight = registrations / (1 + calls / registrations)
            total += weight
            weights.append((weight, node_id))
        if not weights:
            return None
        if len(weights) == 1:
            return weights[0][1]
        mark = self._random() * total
        for weight, node_id in weights:
            mark -= weight
            if mark < 0:
                return node_id
        return weights[-1][1]

    def holds(self, endpoint: str, node_id: str) -> bool:
        """Whether a node that takes requests holds an endpoint."""
        return node_id in self._holders.get(endpoint, ()) and self.nodes[node_id].status == ACTIVE

    def served(self, endpoint: str) -> bool:
        """Whether a node that takes requests holds an endpoint, and not as the last choice."""
        return any(
            self.nodes[node_id].status == ACTIVE and endpoint not in self.nodes[node_id].last_choice
            for node_id in self._holders.get(endpoint, ())
        )

    def has_other(self, endpoint: str, excluded: Collection[str], in_flight: Callable[[str], int | None]) -> bool:
        """Say whether `choose`, with the same arguments, would find a node, active or draining. Nothing is drawn."""
        return any(
            self.nodes[node_id].status in (ACTIVE, DRAINING)
            and node_id not in excluded
            and in_flight(node_id) is not None
            for node_id in self._holders.get(endpoint, ())
        )

    def count_by_status(self) -> Mapping[str, int]:
        """How many nodes there are of each status."""
        counts: dict[str, int] = {}
        for node in self.nodes.values():
            counts[node.status] = counts.get(node.status, 0) + 1
        return counts

    def _check_invariants(self) -> None:
        """For tests."""
        for endpoint, holders in self._holders.items():
            assert holders, "an endpoint without holders is forgotten"
            for node_id, registrations in holders.items():
                assert self.nodes[node_id].endpoints[endpoint] == registrations > 0
