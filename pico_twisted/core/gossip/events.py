"""What the gossip tells: only of nodes that are confirmed, so nothing here speaks of a ghost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

import attrs

Value = str | int
"""What a key of a node may hold."""
ENDPOINT: Final = "endpoint:"
"""The beginning of a key that tells how many registrations of an endpoint a node has. There may be very many such keys,
and few others."""


class Said(Protocol):
    """What a node says of itself, as it counts now. Whoever was told of it once may ask at any time."""

    def get(self, key: str) -> Value | None:
        """The value of a key."""

    def registrations(self, endpoint: str) -> int:
        """How many registrations of an endpoint it has."""

    def endpoints(self) -> list[str]:
        """The IDs of the endpoints of which it has some."""

    def count_endpoints(self) -> tuple[int, int]:
        """How many endpoints those are, and how many registrations."""


@attrs.frozen
class StatusChanged:
    """A node came, or stands differently. `status` is `active`, `draining`, `unreachable`, `left`; None: forgotten.

    A node that comes is told with this event first and all of its keys in a `KeysChanged` right behind it.
    """

    node_id: str
    status: str | None


@attrs.frozen
class KeysChanged:
    """Keys of a node may have other values now, or be gone.

    Attributes:
        node_id: its ID.
        said: what it says of itself, from now on until another event brings another one.
        keys: those that may have changed, without those of endpoints.
        endpoints: the IDs of those endpoints of which it may have other registrations.
    """

    node_id: str
    said: Said
    keys: Sequence[str]
    endpoints: Sequence[str]


@attrs.frozen
class SyncWanted:
    """Packets do not suffice: fetch `sync_request()` from this node over a link, and give the answer to
    `sync_apply`."""

    node_id: str


@attrs.frozen
class SyncFailed:
    """What that node answered is no answer, or not whole. The text says why."""

    node_id: str
    reason: str


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


Event = StatusChanged | KeysChanged | SyncWanted | SyncFailed | Conflict | IdInUse
