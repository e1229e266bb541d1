"""What gossip knows of nodes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import attrs

GossipValue = str | int
"""What a key of a node may hold."""
MAX_SUSPICION: Final = 1000.0
"""Where suspicion ends as far as it is told: JSON knows no infinity, and by then a node is long unreachable."""


def _told_suspicion(value: float) -> float:
    return min(value, MAX_SUSPICION) if value >= 0 else 0.0  # neither comparison holds for what is no number


@attrs.frozen(kw_only=True)
class GossipRow:
    """What gossip knows of a node, in the list of nodes.

    Attributes:
        id: its node ID.
        generation: of its start; a later start has a higher one.
        status: as in `NodeRow`.
        local: whether it is the node that was asked.
        heartbeat: the newest one that is known.
        version: of its keys: how far the changes are known that it made to them.
        floor: deletes up to this version are forgotten; who knows less needs all of its keys again.
        entries: how many keys it has.
        tombstones: how many deleted keys are still remembered.
        suspicion: how unlikely its silence is, from 0 on; see `MAX_SUSPICION`.
        heard_s: seconds since it was last known to be alive, 0 for the node that was asked; None when it never was.
    """

    id: str
    generation: int
    status: str
    local: bool
    heartbeat: int
    version: int
    floor: int
    entries: int
    tombstones: int
    suspicion: float = attrs.field(converter=_told_suspicion)
    heard_s: float | None

    def with_keys(self, keys: Mapping[str, GossipEntry]) -> GossipDetail:
        """The same node with its keys."""
        common = [field.name for field in attrs.fields(GossipRow) if field.name != "entries"]
        return GossipDetail(**{name: getattr(self, name) for name in common}, keys=keys)


@attrs.frozen(kw_only=True)
class GossipEntry:
    """A key's value, and the version in which it was written."""

    value: GossipValue
    version: int


@attrs.frozen(kw_only=True)
class GossipDetail:
    """What gossip knows of one node: as `GossipRow`, but with the entries themselves.

    Attributes:
        keys: its keys.
    """

    id: str
    generation: int
    status: str
    local: bool
    heartbeat: int
    version: int
    floor: int
    tombstones: int
    suspicion: float = attrs.field(converter=_told_suspicion)
    heard_s: float | None
    keys: Mapping[str, GossipEntry] = attrs.field(factory=dict)

    def row(self) -> GossipRow:
        """The same node for the list."""
        common = {field.name: getattr(self, field.name) for field in attrs.fields(GossipDetail) if field.name != "keys"}
        return GossipRow(**common, entries=len(self.keys))
