"""What other nodes say of themselves, for a table of nodes that no gossip feeds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import attrs

from pico_twisted.core.gossip import Event, Member
from pico_twisted.core.gossip.events import ENDPOINT, KeysChanged, Value
from pico_twisted.core.gossip.state import Entry, VersionedMap
from pico_twisted.core.routing.table import ClusterTable


def said_of(values: Mapping[str, Value]) -> VersionedMap:
    """What a node says that says all of this."""
    said = VersionedMap()
    for key, value in values.items():
        said.write(key, value, said.version + 1)
    return said


def whole_map(entries: Iterable[Entry], version: int, floor: int) -> VersionedMap:
    """A map as it is received whole."""
    held = VersionedMap()
    for key, value, at in entries:
        held.write(key, value, at)
    held.version, held.floor = version, floor
    return held


def says(table: ClusterTable, node_id: str, changes: Mapping[str, Value | None]) -> None:
    """A node says something new of itself; it may be one that the table does not know."""
    node = table.nodes.get(node_id)
    said = VersionedMap()
    if node is not None and isinstance(node.said, VersionedMap):
        for key, value, version in node.said.since(0):
            said.write(key, value, version)
    for key, value in changes.items():
        said.write(key, value, said.version + 1)
    endpoints = [key[len(ENDPOINT) :] for key in changes if key.startswith(ENDPOINT)]
    table.keys_changed(KeysChanged(node_id, said, [key for key in changes if not key.startswith(ENDPOINT)], endpoints))


@attrs.frozen
class Changed:
    """What a node said of its keys at the time that it was told; None: the key was gone."""

    node_id: str
    changes: Mapping[str, Value | None]


def as_of_now(event: Event) -> Event | Changed:
    """The same event, or the values that its keys have now."""
    if not isinstance(event, KeysChanged):
        return event
    values: dict[str, Value | None] = {key: event.said.get(key) for key in event.keys}
    values.update((ENDPOINT + id, event.said.get(ENDPOINT + id)) for id in event.endpoints)
    return Changed(event.node_id, values)


def all_said(said: Member) -> dict[str, Value]:
    """All that a node says."""
    values = {key: value for key in said.others() if (value := said.get(key)) is not None}
    return {**values, **{ENDPOINT + id: said.registrations(id) for id in said.endpoints()}}
