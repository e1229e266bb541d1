"""What is told of what happened at nodes: the lines of their logs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import attrs

EVENTS_PATH: Final = "/status/events"
"""Path of the route that tells the events which a node remembers."""
CLUSTER_EVENTS_PATH: Final = "/status/cluster/events"
"""Path of the route that tells those of all nodes."""

FieldValue = str | int | float | bool | None
"""What a field of an event may hold."""


@attrs.frozen(kw_only=True)
class EventRow:
    """Something that happened at a node.

    Attributes:
        node: its ID.
        at_s: when, in seconds since 1970.
        seq: the number of the row at that node since its start.
        level: `info`, `warn`, `error` or `critical`.
        subsystem: the part that says it.
        message: what happened.
        fields: more about it.
    """

    node: str
    at_s: float
    seq: int
    level: str
    subsystem: str
    message: str
    fields: Mapping[str, FieldValue] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class EventReach:
    """How far back a node remembers events.

    Attributes:
        now_s: its time, in seconds since 1970.
        since_s: it remembers all since then.
    """

    now_s: float
    since_s: float


@attrs.frozen(kw_only=True)
class Events:
    """What nodes remember of what happened.

    Attributes:
        rows: the newest of those that were asked for, by time.
        more: how many were left out because they are too many.
        reach: how far back each node remembers, by its ID.
        unanswered: why other nodes did not tell, by node ID.
    """

    rows: Sequence[EventRow] = ()
    more: int = 0
    reach: Mapping[str, EventReach] = attrs.field(factory=dict)
    unanswered: Mapping[str, str] = attrs.field(factory=dict)
