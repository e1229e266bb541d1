"""Who is in the cluster, who is alive, and what each node says of itself: Scuttlebutt gossip with accrual suspicion.

`gossip` is the one to read first. Pure: packets, `now` and chance in; packets and events out.
"""

from __future__ import annotations

from pico_twisted.core.gossip.events import Conflict, Event, IdInUse, KeysChanged, StatusChanged, SyncFailed, SyncWanted
from pico_twisted.core.gossip.gossip import Gossip
from pico_twisted.core.gossip.members import Member, Standing
from pico_twisted.core.gossip.sealing import REASONS, PacketError
from pico_twisted.core.gossip.settings import GossipSettings
from pico_twisted.core.gossip.sync import SyncError

__all__ = [
    "REASONS",
    "Conflict",
    "Event",
    "Gossip",
    "GossipSettings",
    "IdInUse",
    "KeysChanged",
    "Member",
    "PacketError",
    "Standing",
    "StatusChanged",
    "SyncError",
    "SyncFailed",
    "SyncWanted",
]
