"""The gossip of one node: one step for each packet and each tick. Read this module first.

What is needed. Every node knows, within moments, which nodes there are, which of them are alive, and what each says of
itself: its addresses, its status, the endpoints that it holds. There is no leader and no list that would have to be
right; nodes crash, stop for minutes, come back with another clock, and the network loses, repeats, delays and parts.

What can go wrong. *Ghosts*: one node remembers a dead one and tells another that had forgotten it. *Flapping*: a lost
packet, or our own pause, makes a living node look dead. *Lost deletes*: a replica that missed a tombstone shows an
endpoint for ever. *Amplification*: a packet with a forged sender makes us send much to a victim. *Twins*: two processes
with one ID. *Storms*: news that everybody repeats to everybody.

What was chosen. Scuttlebutt (van Renesse et al., 2008): only its owner writes a node's map, each write has a version,
and two nodes that meet compare how far each has got with every map, and give each other the rest. Beside that regular
exchange news are pushed at once. In each round a node exchanges digests with `FANOUT` random live nodes instead of one:
lost packets then cost so little time that the silence after which a node counts as dead can be short.

What was rejected. One random partner a round, as in the paper: with one packet in five lost, a false death an hour.
SWIM's indirect probes: they answer whether a node is alive, and the exchange is needed anyway. Wall clocks in packets:
they jump.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from pico_twisted.core.gossip import packets
from pico_twisted.core.gossip.challenge import Challenger
from pico_twisted.core.gossip.channel import PacketChannel
from pico_twisted.core.gossip.events import Event, SyncWanted, Value
from pico_twisted.core.gossip.farewell import Farewell
from pico_twisted.core.gossip.judging import judge
from pico_twisted.core.gossip.looking import Looking
from pico_twisted.core.gossip.members import GOSSIP_ADDR, HOST, LEFT, STATUS, Member
from pico_twisted.core.gossip.news import GATHER_S, News
from pico_twisted.core.gossip.own import VISITOR, OwnNode
from pico_twisted.core.gossip.packets import CHALLENGE, DELTA, REPLY, SYN, Received
from pico_twisted.core.gossip.partners import Partners, Random
from pico_twisted.core.gossip.pauses import Pauses
from pico_twisted.core.gossip.probes import Probes
from pico_twisted.core.gossip.sealing import RANDOM_BYTES, PacketError, Sealer
from pico_twisted.core.gossip.settings import GossipSettings
from pico_twisted.core.gossip.sync import pack_answer, pack_request, read_request
from pico_twisted.core.gossip.sync_source import SyncSource
from pico_twisted.core.gossip.taking import MapTaking
from pico_twisted.core.gossip.telling import OWN_ITEM_BYTES, Telling
from pico_twisted.core.gossip.view import View
from pico_twisted.core.protocol_limits import MAX_GENERATION

JITTER: Final = 0.1
"""Fraction of the interval by which a round may come earlier or later."""
GENERATIONS: Final = 1000
"""Number of milliseconds among which a generation is chosen, from our start on or after a later one that is dead."""
MAX_TOMBSTONES: Final = 20_000
"""Most tombstones kept in our own map. Beyond that its floor rises early, and a node below it takes the whole map."""


class Gossip:
    """One node's part in the gossip.

    Its driver calls `receive` for each packet and `tick` at `next_tick`, and then takes `packets()` and `events()`.
    Addresses are texts, `host:port`, the same for the same place.

    Args:
        settings: of the node.
        rng: the source of chance.
        now: monotonic seconds, as in every method.
        wall_ms: the wall clock in milliseconds: the generation, once our ID is claimed. It is not looked at again.

    Attributes:
        node_id: our ID.
        view: what we know, of ourselves and of others.
        probes: tries addresses.
    """

    def __init__(self, settings: GossipSettings, *, rng: Random, now: float, wall_ms: int) -> None:
        self._wall_ms = min(max(wall_ms, VISITOR + 1), MAX_GENERATION)  # a clock may be that wrong
        self.node_id = settings.node_id
        self._own = OwnNode(settings.node_id, VISITOR, now)
        self.view = View(self._own, settings.interval_s, settings.forget_s)
        if settings.host:
            self._own.write(HOST, settings.host, now)
        self._looking = Looking(self._own, settings.interval_s)
        self._telling = Telling(self.view)
        self._partners = Partners(self.view, rng, settings.host)
        self._syncs = SyncSource(self.view, settings.interval_s)
        self._farewell = Farewell(self.view, self._telling)
        self._forget_s = settings.forget_s
        self._interval_s = settings.interval_s
        self._rng = rng
        random = rng.randbytes(RANDOM_BYTES)
        self._sealer = Sealer(settings.cluster, settings.secrets, settings.node_id, VISITOR, random)
        self._channel = PacketChannel(self._sealer, Challenger(rng.randbytes(32)), settings.max_packet_bytes)
        self.probes = Probes(self._channel, self._telling)
        self._taking = MapTaking(self.view, self._syncs, self._channel.count)
        self._news = News(self.view, self._telling, self._partners, self._channel)
        self._round_at = now
        self._judge_at = now + settings.interval_s
        self._now = now
        self._pauses = Pauses(settings.interval_s, now)

    @property
    def generation(self) -> int:
        """Our generation; `VISITOR` until our ID is claimed. It rises when a later one turns out to be dead."""
        return self._own.generation

    @property
    def counts(self) -> dict[str, int]:
        """Packets, bytes and the like since the start, by name."""
        return self._channel.counts

    def set(self, key: str, value: Value, now: float) -> None:
        """Say something of ourselves.

        Args:
            key: what it is about.
            value: what is said.
            now: monotonic seconds.

        Raises:
            ValueError: it is too large to be said.
        """
        if self._own.map.get(key) != value:
            self._write(key, value, now)

    def delete(self, key: str, now: float) -> None:
        """Say it no longer."""
        if self._own.map.get(key) is not None:
            self._write(key, None, now)

    def seed(self, addresses: Sequence[str]) -> None:
        """Take the addresses at which nodes of the cluster are said to be. They are tried for ever."""
        self._partners.set_seeds(addresses)
        self._looking.set_seeds(addresses)

    def may_claim(self, now: float) -> bool:
        """Whether our ID is still to be claimed, and free as far as those know whom we found."""
        return not (self._own.claimed or self._farewell.begun) and self._looking.is_over(
            now, knows_the_cluster=self.knows_the_cluster, alone=next(self.view.live(), None) is None
        )

    def claim(self, now: float) -> None:
        """Take our ID: from now on we are a node, and the others are told so. Nothing happens when it is ours already.

        Its owner calls this when `may_claim` says so, or when there is nobody to ask.
        """
        if not self._own.claimed:
            self._take_generation(max(self._wall_ms, self._own.identity.successor(now) or 0), now)

    def set_secrets(self, secrets: tuple[str, ...]) -> None:
        """Seal with the first of these from now on, and open what any of them sealed."""
        self._sealer.set_secrets(secrets)

    def leave(self, now: float) -> None:
        """Say to every live node that we leave. `told` says when all of them have heard."""
        if not self._farewell.begun:
            self._write(STATUS, LEFT, now)
            self._farewell.begin(now)
            self.tick(now)

    @property
    def told(self) -> bool:
        """Whether we left and every live node knows that."""
        return self._farewell.told

    @property
    def joined(self) -> bool:
        """Whether our ID is ours, and we know the cluster."""
        return self._own.claimed and self.knows_the_cluster

    @property
    def knows_the_cluster(self) -> bool:
        """Whether we know a live node, and all that it knew when we met it."""
        return self._syncs.answered and any(True for _ in self.view.live())

    @property
    def senders(self) -> int:
        """Whose packets are told from repeated ones; bounded."""
        return self._sealer.senders

    def packets(self) -> list[tuple[bytes, str]]:
        """Take what is to be sent: packets and their addresses."""
        return self._channel.take()

    def events(self) -> list[Event]:
        """Take what has happened."""
        return self.view.take_events()

    def delays(self) -> list[float]:
        """Take the seconds that entries took from their owners to us."""
        return self.view.take_delays()

    def _write(self, key: str, value: Value | None, now: float) -> None:
        entry = (key, value, self._own.next_version(now))
        packed, _ = packets.pack_delta(self.node_id, MAX_GENERATION, 0, 0, (entry,), self._channel.room // 2)
        if not packed or len(key) > packets.MAX_KEY_BYTES or len(str(value).encode()) > packets.MAX_VALUE_BYTES:
            raise ValueError(f"too large to be told: {key}")
        self._own.write(key, value, now)
        self._news.wanted(now + GATHER_S)

    # Time

    def next_tick(self) -> float:
        """When `tick` is to be called, at the latest. A time in the past means at once, in turn with all else."""
        return -math.inf if self._taking.busy else self._due()

    def _due(self) -> float:
        own = self._own
        look_at = own.identity.due() if own.claimed else self._looking.due(self._now)
        return min(self._round_at, self._judge_at, self._news.due(), self._farewell.due(), look_at)

    def tick(self, now: float) -> None:
        """Do what is due."""
        self._now = now
        late = now - self._due()
        if self._pauses.woke(late, now):
            self._channel.count("pauses")
            self.view.woke(now)
        self._take_maps(now)
        if now >= self._judge_at:
            self._judge_at = now + self._interval_s / 4
            if late < self._interval_s / 2:  # else what came meanwhile is to be read first
                judge(self.view, now)
        if now >= self._round_at:
            self._round_at = now + self._interval_s * (1 - JITTER + 2 * JITTER * self._rng.random())
            if not self._farewell.begun:
                self._round(now)
        if now >= self._news.due():
            self._news.taken_up()
            if not self._farewell.begun:
                self._news.push(now)
                for member in self._partners.to_probe(now, again=False):
                    self._send_syn(member.address, member, now)
        if now >= self._farewell.due():
            for member, deltas in self._farewell.say(self._channel.room // 2, now):
                self._send_syn(member.address, member, now, deltas)
        if self._own.claimed:
            generation = self._own.identity.successor(now)
            if generation is not None and generation > self.generation:
                self._take_generation(generation, now)

    def _round(self, now: float) -> None:
        own = self._own
        own.tell_alive(now)
        if own.map.tombstones:
            kept_ms = int(2000 * self._forget_s)
            own.map.raise_floor(own.map.old_tombstones(own.uptime_ms(now) - kept_ms, MAX_TOMBSTONES))
        self.view.drop_rumours(now)
        self._want_sync(self._syncs.wanted, now)
        for member in self._partners.of_round(now):
            self._send_syn(member.address, member, now)
        for seed in self._partners.seeds(str(own.map.get(GOSSIP_ADDR))):
            self._send_syn(seed, None, now)
        self._ask_who_has_our_id(now, again=True)

    def _ask_who_has_our_id(self, now: float, *, again: bool = False) -> None:
        address = self._looking.whom_to_ask(again=again)
        if address:
            self._send_syn(address, None, now)

    def _want_sync(self, wanted: Callable[[float], str | None], now: float) -> None:
        if not self._taking.busy:  # else what we lack may be in what is being taken
            source = wanted(now)
            if source is not None:
                self.view.tell(SyncWanted(source))

    def _take_generation(self, least: int, now: float) -> None:
        """Be a generation that is not lower from now on, and tell everybody."""
        # by chance, since another process of our ID may take one at the same time: a copy of us that was started with
        # us, or one in the other half of a parted cluster
        self._own.generation = min(least + self._rng.randrange(GENERATIONS), MAX_GENERATION)
        self._channel.count("generations")
        self._sealer.set_generation(self.generation)
        self._news.begin_again(now)
        self._round_at = now

    # Packets out

    def _send_syn(self, address: str, member: Member | None, now: float, deltas: Sequence[bytes] = ()) -> None:
        """Begin an exchange."""
        digest = self._telling.digest(self._channel.room - sum(map(len, deltas)), now)
        self._channel.send(SYN, address, member, now, digest=digest, deltas=deltas)

    # Packets in

    def receive(self, packet: bytes, source: str, now: float) -> str | None:
        """Take a packet. One that is not for us, or not well made, is counted and dropped.

        Args:
            packet: as it came.
            source: the address that it came from.
            now: monotonic seconds.

        Returns:
            Why it was dropped, one of `REASONS`; None when it was not.
        """
        try:
            header, body = self._channel.receive(packet)
        except PacketError as error:
            if error.reason == "own":
                self._looking.met_ourselves(source)
            return error.reason
        self._now = now
        proven = self._channel.proves(body.echo, source, now)
        received = Received(
            header.node_id, header.generation, body, source, proven, self._pauses.said_at(now - self._due(), now)
        )
        self.probes.heard(header.node_id, body.echo, now)
        member = self.view.sender(received, now)
        if proven and header.generation == VISITOR and header.node_id != self.node_id:
            self._looking.met_visitor(source, now)
        if member is None:
            stranger = Member(received.node_id, received.generation, self._interval_s, now)
            stranger.speaks(body)
            self._answer(stranger, received, now)
        else:
            gap = self._learn(member, received, now)
            self._answer(member, received, now, gap=gap)
        self._ask_who_has_our_id(now)
        return None

    def _learn(self, member: Member, received: Received, now: float) -> bool:
        """Take what a packet says. Returns whether some entries before those in it are missing."""
        view, body, reporter = self.view, received.body, member.node_id
        if received.proven:
            view.hear_all(body.digest, reporter, received.said_at, now)
        else:
            view.hear_versions(body.digest, reporter, now)
        gap = False
        for delta in body.deltas:
            missing, after = view.apply(delta, reporter, now)
            gap = gap or missing
            if after is not None and body.kind == DELTA and not body.hops:
                self._news.pass_on(delta.node_id, after, now, first_hand=delta.node_id == reporter)
        self._want_sync(self._syncs.first_wanted, now)
        if view.take_can_probe():
            self._news.wanted(now + GATHER_S)
        return gap

    def _answer(self, member: Member, received: Received, now: float, *, gap: bool = False) -> None:
        """Send what a packet draws: at most one packet, and to an address that is not proven only a challenge, which is
        small."""
        body, source, telling, room = received.body, received.source, self._telling, self._channel.room
        if not received.proven and source != member.get(GOSSIP_ADDR):
            if body.kind == SYN:
                self._channel.send(CHALLENGE, source, member, now)
        elif body.kind == SYN:
            digest, deltas, wants = telling.answer(member, body, room, now)
            self._channel.send(REPLY, source, member, now, digest=digest, deltas=deltas, wants=wants)
        elif body.kind == CHALLENGE:
            self._send_syn(source, member, now)
        elif body.kind == REPLY:
            deltas = telling.deltas(telling.wanted(body), room - OWN_ITEM_BYTES)
            if deltas:
                self._channel.send(DELTA, source, member, now, digest=telling.own_digest(), deltas=deltas)
        elif gap:
            wants = telling.wants(body.digest, room // 2)
            if wants:
                self._channel.send(REPLY, source, member, now, digest=telling.own_digest(), wants=wants)

    # Maps, over node links

    def sync_request(self) -> bytes:
        """What to ask a node for: the maps that we are behind with, and all nodes that we do not know."""
        return pack_request(self._own.uptime_ms(self._now), *self._syncs.behind())

    def sync_answer(self, request: bytes, now: float, *, takes_parts: bool) -> Iterator[bytes]:
        """The maps that are asked for, in pieces, each of which is made when it is taken.

        Args:
            request: of another node.
            now: monotonic seconds.
            takes_parts: whether that node takes what it lacks of a map alone, and not only whole maps.

        Raises:
            SyncError: it is no request.
        """
        asked_ms, behind, known = read_request(request)
        self._channel.count("syncs answered")
        return pack_answer(asked_ms, self._syncs.given(behind, known, now, takes_parts=takes_parts))

    def sync_apply(self, answer: bytes, reporter: str, now: float) -> None:
        """Take maps; each whole one is one change. Some entries are taken now, the rest of them with the next ticks.

        Args:
            answer: of another node to our `sync_request`.
            reporter: the ID of that node.
            now: monotonic seconds.
        """
        self._taking.begin(answer, reporter)
        self._take_maps(now)

    def _take_maps(self, now: float) -> None:
        if self._taking.busy:
            self._taking.step(now)
            self._ask_who_has_our_id(now)
            if self.view.take_can_probe():
                self._news.wanted(now)
