"""What the gossip tells: only of nodes that are confirmed, so nothing here speaks of a ghost."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

Value = str | int
"""What a key of a node may hold."""


@attrs.frozen
class StatusChanged:
    """A node came, or stands differently. `status` is `active`, `draining`, `unreachable`, `left`; None: forgotten.

    A node that comes is told with this event first and all of its keys in a `KeysChanged` right behind it.
    """

    node_id: str
    status: str | None


@attrs.frozen
class KeysChanged:
    """Keys of a node have new values; None: the key is gone. A value may be written again unchanged."""

    node_id: str
    changes: Mapping[str, Value | None]


@attrs.frozen
class SyncWanted:
    """Packets do not suffice: fetch `sync_request()` from this node over a link, and give the answer to
    `sync_apply`."""

    node_id: str


@attrs.frozen
class Conflict:
    """A later live process has our node ID: end, with this message."""

    message: str


@attrs.frozen
class IdInUse:
    """We have not claimed our node ID, and another live process has it. It may go away; then it is ours.

    Attributes:
        address: where that process gossips; "" when it is not known.
        uptime_s: for how long it has been up.
    """

    address: str
    uptime_s: float


Event = StatusChanged | KeysChanged | SyncWanted | Conflict | IdInUse
