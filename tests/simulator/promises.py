"""What the gossip promises, checked all the time by the simulator against the truth that it knows.

The truth is which processes there are, what each says of itself, and who could talk to whom. A pair of processes is
*calm* since a time when both ran without a stop since then, were together (see `network.Reach`), and knew
somebody or could have found a seed.

- *No ghost.* Nobody shows a process as active or draining that ended longer ago than `ghost_bound_s`; an observer that
  was stopped has that time from when it went on. Nobody begins to show it so after that time, stopped or not: what was
  unreachable, left or forgotten stays that, and who joins never hears of it.
- *No false unreachable.* Nobody shows a process as unreachable that ran without a stop and was together with the
  observer for `CALM_S`; that the observer itself was stopped is no excuse.
- *Claimed.* A process that started, and could find somebody for `CALM_S`, has its ID, unless another one has it.
- *One cluster.* A pair that was calm for `CALM_S` shows each other: after a start, a stop, a partition of any length.
  A process is shown within `ACTIVE_S` of claiming its ID by all that were calm with it since; before that, never.
- *Views equal the truth.* Such a pair knows of each other all that was written longer than `CALM_S` ago, deletes
  included, and where the versions are the same the maps are the same. No key is told as gone that is there.
- *One row.* An observer never goes back to an older generation of a node; never shows what never was; and what it tells
  in events is what its view holds.
- *Bounds.* Packets, entries, tombstones, unconfirmed nodes, replay windows and wanted syncs.
- *Twins.* A process does not claim the ID of another one with which it was calm for `CALM_S`. Of two that both have it,
  since they started together or were apart, one is told so, and one stays.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Final

from pico_twisted.core.gossip import Conflict, Event, IdInUse, KeysChanged, Member, Standing, StatusChanged, SyncWanted
from pico_twisted.core.gossip.events import ENDPOINT
from pico_twisted.core.gossip.sealing import MAX_SENDERS
from pico_twisted.core.gossip.suspicion import MOST_PATIENT
from pico_twisted.core.routing.table import ClusterTable
from tests.simulator.network import Reach, VirtualTime
from tests.simulator.node import Process

CALM_S: Final = 10.0
"""So long after the last disturbance everything is as it should be."""
ACTIVE_S: Final = 5.0
"""So long after its start a process is shown by all."""
HOPS_S: Final = 1.2
"""Packets may take this long on the few ways that news go at last: it makes them seem younger."""
SYNC_WINDOW_S: Final = 10.0
MAX_SYNCS: Final = 24
"""Syncs that one process may want in `SYNC_WINDOW_S`: the core lets one through in each round."""
TWINS_S: Final = 15.0
"""So long two processes that could talk may have the same ID."""
MOST_BROKEN: Final = 50
"""Broken promises that are kept; further ones are counted."""


def ghost_bound_s(interval_s: float) -> float:
    """How long a process may be shown after its end, at most.

    Nobody suffers a silence for longer than `MOST_PATIENT`, counted from when the last heartbeat was made that is known
    of the silent one, and that is not after its end. Ages of news leave out how long packets take, so that is added for
    a few hops of the slowest; and everybody is looked at a few times in an interval only.
    """
    return MOST_PATIENT * interval_s + HOPS_S + interval_s / 2


class Promises:
    """Looks at everything and keeps account of what is broken.

    Args:
        time: the clock.
        reach: who can talk to whom.
        ghost_s: how long a process may be shown after its end.
        processes: gives all processes that ever were.
        shows: is told who shows whom how: observer, observed, status or None, version.
        finds_a_seed: says whether a process and a running seed hear each other.

    Attributes:
        broken: what was broken: a line for each.
        more_broken: how many lines there would be further.
        most: the most that there was of each thing that is bounded.
    """

    def __init__(
        self,
        time: VirtualTime,
        reach: Reach,
        ghost_s: float,
        processes: Callable[[], list[Process]],
        shows: Callable[[Process, Process, str | None, int], None],
        finds_a_seed: Callable[[Process], bool],
    ) -> None:
        self._time = time
        self._reach = reach
        self._ghost_s = ghost_s
        self._processes = processes
        self._shows = shows
        self._finds_a_seed = finds_a_seed
        self._owners: dict[tuple[str, int], Process] = {}
        # observer and node ID -> the newest generation shown, and whether as there
        self._shown: dict[tuple[int, str], tuple[int, bool]] = {}
        self._tables: dict[int, ClusterTable] = {}
        self._twins: dict[str, float] = {}  # node ID -> when two processes had it last
        self._late: set[tuple[int, int]] = set()  # pairs told of already
        self.broken: list[str] = []
        self.more_broken = 0
        self.most: dict[str, int] = {}

    def witness(self, process: Process) -> None:
        """Have all events of a process kept in a table, as a node does, and that compared with its view."""
        self._tables[process.number] = ClusterTable(lambda: 0.0)

    def owns(self, process: Process) -> None:
        """A process started, or took another generation."""
        self._owners[process.node_id, process.generations[-1]] = process

    def claimed(self, process: Process) -> None:
        """A process claimed its ID."""
        since = self._time.now - CALM_S
        for other in self._processes():
            has_it = other.node_id == process.node_id and other is not process and not other.visits and other.running
            if has_it and other.left_at is None and self.calm(process, other, since):
                self._break("twins", f"{process} claims the ID of {other}, with which it can talk")

    def twins(self, node_id: str) -> None:
        """Two processes with this ID run, or did until now."""
        self._twins[node_id] = self._time.now

    def calm(self, one: Process, other: Process, since: float) -> bool:
        """Whether a pair is calm since then, but for the other's end."""
        if max(one.calm_since, one.found_since) > since:
            return False
        if other.ended_at is None and max(other.calm_since, other.found_since) > since:
            return False
        return self._reach.together_since(one.machine, other.machine) <= since

    def _break(self, promise: str, text: str) -> None:
        if len(self.broken) < MOST_BROKEN:
            self.broken.append(f"{self._time.now:.3f} s  {promise}: {text}")
        else:
            self.more_broken += 1

    # What is told

    def happened(self, observer: Process, event: Event) -> None:
        """A core told of an event."""
        table = self._tables.get(observer.number)
        if isinstance(event, StatusChanged):
            if table is not None:
                table.status_changed(event)
            self._status(observer, event)
        elif isinstance(event, KeysChanged):
            if table is not None:
                table.keys_changed(event)
            self._keys(observer, event)
        elif isinstance(event, SyncWanted):
            wanted = observer.synced_at
            wanted.append(self._time.now)
            while wanted[0] < self._time.now - SYNC_WINDOW_S:
                wanted.popleft()
            self._most("syncs wanted in 10 s by one node", len(wanted))
            if len(wanted) > MAX_SYNCS:
                self._break("bounds", f"{observer} wanted {len(wanted)} syncs in {SYNC_WINDOW_S:.0f} s")
                wanted.clear()
        elif (
            isinstance(event, Conflict | IdInUse)
            and self._time.now - self._twins.get(observer.node_id, -math.inf) > CALM_S
        ):
            self._break("twins", f"{observer} was told of another process, and nobody else has its ID")

    def _status(self, observer: Process, event: StatusChanged) -> None:
        now = self._time.now
        place = (observer.number, event.node_id)
        if event.status is None:
            self._shown.pop(place, None)
            return
        member = observer.gossip.view.members.get(event.node_id)
        if member is None:
            return
        generation = member.generation
        before, was_there = self._shown.get(place, (0, False))
        if generation < before:
            self._break("one row", f"{observer} went back to generation {generation} of {event.node_id}")
        is_there = event.status in ("active", "draining")
        self._shown[place] = generation, is_there
        process = self._owners.get((event.node_id, generation))
        if process is None:
            self._break("one row", f"{observer} shows {event.node_id}/{generation}, which never was")
            return
        self._shows(observer, process, event.status, member.map.version)
        if is_there:
            begins = not was_there or generation > before
            if begins and process.ended_at is not None and now - process.ended_at > self._ghost_s:
                ago_s = now - process.ended_at
                self._break("ghost", f"{observer} begins to show {process} as {event.status}, dead for {ago_s:.1f} s")
        elif event.status == "unreachable":
            if observer.left_at is None and self._was_to_be_heard(process, observer, now - CALM_S):
                self._break("false unreachable", f"{observer} marks {process}")
        elif process.left_at is None:
            self._break("one row", f"{observer} shows {process} as left, which it did not say")

    def _was_to_be_heard(self, process: Process, observer: Process, since: float) -> bool:
        """Whether a process ran since then and was together with an observer, which may have been stopped."""
        together_since = self._reach.together_since(observer.machine, process.machine)
        return process.running and max(process.calm_since, process.found_since, together_since) <= since

    def _keys(self, observer: Process, event: KeysChanged) -> None:
        member = observer.gossip.view.members.get(event.node_id)
        process = self._owners.get((event.node_id, member.generation)) if member is not None else None
        if member is None or process is None:
            return
        self._shows(observer, process, None, member.map.version)
        if member.generation != process.generations[-1]:
            return
        gone = [key for key in event.keys if event.said.get(key) is None]
        gone += [ENDPOINT + id for id in event.endpoints if event.said.get(ENDPOINT + id) is None]
        later = {key for key, _, _ in process.own.since(member.map.version)} if gone else set()
        for key in gone:
            if process.own.get(key) is not None and key not in later:
                self._break("flap", f"{observer} says that {key} of {process} is gone, which is there")

    # What is shown

    def look(self) -> None:
        """Look at what everybody shows of everybody. To be called several times a second."""
        now = self._time.now
        running = [process for process in self._processes() if process.running and process.left_at is None]
        for process in running:
            process.settle(now - CALM_S)
            self._look_for_others(process)
            if process.visits:
                self._look_at_visitor(process)
        self._look_at_twins()
        nodes = [process for process in running if not process.visits]
        for observer in running:
            self._look_at(observer, nodes)

    def _look_for_others(self, process: Process) -> None:
        """A process finds others by those whom it knows, and when it knows nobody, by a seed."""
        if next(process.gossip.view.live(), None) is None and not self._finds_a_seed(process):
            process.found_since = math.inf
        elif process.found_since == math.inf:
            process.found_since = self._time.now

    def _look_at_visitor(self, process: Process) -> None:
        waits_for_s = self._time.now - max(process.calm_since, process.found_since)
        if waits_for_s > CALM_S and process.node_id not in self._twins and self._first_time(process, process):
            self._break("claimed", f"{process} has not claimed its ID, though it could for {waits_for_s:.0f} s")

    def _look_at(self, observer: Process, running: list[Process]) -> None:
        now, owners = self._time.now, self._owners
        calm_from = now - CALM_S
        complete = 0
        for node_id, member in observer.gossip.view.members.items():
            process = owners.get((node_id, member.generation))
            if process is None:
                self._break("one row", f"{observer} holds {node_id}/{member.generation}, which never was")
                continue
            ended_at = process.ended_at
            if member.standing is Standing.LIVE:
                if ended_at is not None and now - max(ended_at, observer.resumed_at) > self._ghost_s:
                    if self._first_time(observer, process):
                        self._break("ghost", f"{observer} shows {process} as live, dead for {now - ended_at:.1f} s")
                elif ended_at is None and process.left_at is None and not process.stopped:
                    if member.generation == process.generations[-1]:
                        complete += 1
                        if member.map.version < process.settled and self._is_calm(observer, process):
                            self._break(
                                "views",
                                f"{observer} has version {member.map.version} of {process}, not {process.settled}",
                            )
            if member.previous and now > member.previous_until + CALM_S / 5 and observer.calm_since < calm_from:
                self._break("views", f"{observer} still holds keys of the last life of {process}")
        if complete < len(running) - 1:
            self._look_for_missing(observer, running)

    def _look_for_missing(self, observer: Process, running: list[Process]) -> None:
        now = self._time.now
        for process in running:
            if process.node_id == observer.node_id:
                continue
            member = observer.gossip.view.members.get(process.node_id)
            if member is not None and member.generation == process.generations[-1] and member.standing is Standing.LIVE:
                continue
            within_s = CALM_S
            if now - process.claimed_at < CALM_S + 1.0 and process.calm_since == process.claimed_at:
                within_s = ACTIVE_S
            if not self._is_calm(observer, process, within_s) or not self._first_time(observer, process):
                continue
            shown = "nothing" if member is None else f"{member.generation} as {member.standing.value}"
            self._break(
                "one cluster", f"{observer} shows of {process} {shown}, though they could talk for {within_s:.0f} s"
            )

    def _is_calm(self, observer: Process, process: Process, within_s: float = CALM_S) -> bool:
        since = self._time.now - within_s
        return process.node_id not in self._twins and self.calm(observer, process, since)

    def _first_time(self, observer: Process, process: Process) -> bool:
        """So that what lasts is told once."""
        pair = (observer.number, process.number)
        if pair in self._late:
            return False
        self._late.add(pair)
        return True

    def _look_at_twins(self) -> None:
        now = self._time.now
        for node_id, lately in list(self._twins.items()):
            twins = [one for one in self._processes() if one.node_id == node_id and one.ended_at is None]
            if len(twins) == 2:
                self._twins[node_id] = now
                if any(one.visits for one in twins):
                    continue
                if self.calm(twins[0], twins[1], now - TWINS_S) and self._first_time(*twins):
                    self._break("twins", f"{twins[0]} and {twins[1]} both run, though they could talk")
            elif now - lately > CALM_S:
                del self._twins[node_id]

    # What it takes

    def look_closely(self) -> None:
        """Compare whole maps, and see what memory is taken. To be called every few seconds."""
        everybody = self._processes()
        lately = sum(1 for process in everybody if process.ended_at is None or self._time.now - process.ended_at < 60.0)
        for observer in everybody:
            if observer.ended_at is not None:
                continue
            view = observer.gossip.view
            view._check_invariants()
            entries = tombstones = 0
            for member, process in self._known(observer):
                entries += member.map.keys
                tombstones += member.map.tombstones
                self._compare(observer, member, process)
            self._most("entries of others at one node", entries)
            self._most("tombstones of others at one node", tombstones)
            self._most("nodes known at one node", len(view.members))
            self._most("unconfirmed nodes at one node", len(view.unconfirmed))
            self._most("senders remembered at one node", observer.gossip.senders)
            if len(view.unconfirmed) > lately:
                self._break("bounds", f"{observer} has {len(view.unconfirmed)} unconfirmed nodes")
            if observer.gossip.senders > MAX_SENDERS:
                self._break("bounds", f"{observer} remembers {observer.gossip.senders} senders")
            self._compare_table(observer)

    def _known(self, observer: Process) -> Iterator[tuple[Member, Process]]:
        for member in observer.gossip.view.members.values():
            process = self._owners.get((member.node_id, member.generation))
            if process is not None:
                yield member, process

    def _compare(self, observer: Process, member: Member, process: Process) -> None:
        own = process.own
        if member.map.keys > process.most_keys or member.map.tombstones > process.most_tombstones:
            self._break("bounds", f"{observer} has more of {process} than that ever had")
        if member.map.version == own.version and member.generation == process.generations[-1]:
            if member.map.versions() != own.versions():
                self._break("views", f"{observer} has another map of {process} at the same version")

    def _compare_table(self, observer: Process) -> None:
        table = self._tables.get(observer.number)
        if table is None:
            return
        while table.behind:
            table.work()
        table._check_invariants()
        members = observer.gossip.view.members
        if table.nodes.keys() != members.keys():
            self._break("one row", f"{observer} told of other nodes than it holds")
        for node_id, node in table.nodes.items():
            member = members.get(node_id)
            if member is not None and (node.status != member.status or node.said is not member):
                self._break("one row", f"{observer} told of {node_id} something else than it holds")

    def packet(self, size: int, most: int) -> None:
        """The largest packet so far, and how large one may be."""
        if size > most:
            self._break("bounds", f"a packet of {size} bytes")

    def _most(self, what: str, count: int) -> None:
        if count > self.most.get(what, 0):
            self.most[what] = count
