"""The gossip engine of one node: one step for each packet and each tick.

What is needed. Every node knows, within moments, which nodes there are, which of them are alive, and what each says of
itself: its addresses, its status, the endpoints that it holds. There is no leader and no list that would have to be
right; nodes crash, stop for minutes, come back with another clock, and the network loses, repeats, delays and parts.

What can go wrong. *Ghosts*: somebody remembers a dead node and tells somebody who had forgotten it. *Flapping*: a lost
packet, or our own pause, makes a living node look dead. *Lost deletes*: a replica that missed a tombstone shows an
endpoint for ever. *Amplification*: a packet with a forged sender makes us send much to a victim. *Twins*: two processes
with one ID. *Storms*: news that everybody repeats to everybody.

What was chosen. Scuttlebutt (van Renesse et al., 2008): only its owner writes a node's map, each write has a version,
and two nodes that meet compare how far each has got with every map, and give each other the rest. Beside that regular
exchange news are pushed at once. In each round a node exchanges digests with `FANOUT` random live nodes instead of one:
lost packets then cost so little time that the silence after which a node counts as dead can be short.

Packets carry what fits. Who is further behind than that, or below a floor, asks for whole maps over a node link.

What was rejected. One random partner a round, as in the paper: with one packet in five lost, a false death an hour.
SWIM's indirect probes: they answer whether a node is alive, and the exchange is needed anyway. Wall clocks in packets:
they jump.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, Protocol

import attrs

from pico_twisted.core.gossip import packets
from pico_twisted.core.gossip.challenge import Challenger
from pico_twisted.core.gossip.events import Event, SyncWanted, Value
from pico_twisted.core.gossip.members import GOSSIP_ADDR, LEFT, STATUS, Member, Standing
from pico_twisted.core.gossip.packets import CHALLENGE, DELTA, FIXED_BYTES, REPLY, SYN, Body
from pico_twisted.core.gossip.sealing import RANDOM_BYTES, PacketError, Sealer
from pico_twisted.core.gossip.sync import pack_answer, pack_request, read_answer, read_request
from pico_twisted.core.gossip.telling import OWN_ITEM_BYTES, Telling
from pico_twisted.core.gossip.view import View
from pico_twisted.core.protocol_limits import MAX_GENERATION

FANOUT: Final = 4
"""Live nodes that each round exchanges digests with."""
SEEDS_ALONE: Final = 3
"""Seeds that are tried in each round while we know nobody; else one is that is no live node, in turn."""
PUSH_TO: Final = 8
"""Nodes that news go to at once."""
GATHER_S: Final = 0.02
"""How long changes wait for further ones."""
JITTER: Final = 0.1
"""By which share of the interval a round may come earlier or later."""
PAUSED: Final = 2.0
"""In intervals: a tick that late means that we did not run."""
FAREWELL_S: Final = 0.1
"""After this long without an answer a node is told again that we leave."""
GENERATIONS: Final = 1000
"""From so many the next generation is chosen when a later one of our ID turns out to be dead. They are milliseconds."""
MAX_TOMBSTONES: Final = 20_000
"""Of our own map: beyond it the floor rises early, and who is below it takes the whole map."""


class Random(Protocol):
    """What is asked of the source of chance; `random.Random` has it."""

    def random(self) -> float: ...
    def randbytes(self, n: int) -> bytes: ...
    def sample(self, population: Sequence[Member], k: int) -> list[Member]: ...
    def randrange(self, stop: int, /) -> int: ...


@attrs.frozen(kw_only=True)
class GossipSettings:
    """What a node is told.

    Attributes:
        node_id: 1 to 64 bytes.
        cluster: the cluster's name.
        secrets: the first seals; none: nothing is sealed.
        interval_s: between two rounds.
        max_packet_bytes: of a UDP payload, the seal included.
        forget_s: after this long a dead node is forgotten.
    """

    node_id: str
    cluster: str = "pico"
    secrets: tuple[str, ...] = ()
    interval_s: float = 0.5
    max_packet_bytes: int = 1400
    forget_s: float = 300.0


class Gossip:
    """One node's part in the gossip.

    Whoever drives it calls `receive` for each packet and `tick` at `next_tick`, and then takes `packets()` and
    `events()`. Addresses are texts, `host:port`, the same for the same place.

    Args:
        settings: of the node.
        rng: the source of chance.
        now: monotonic seconds, as in every method.
        wall_ms: the wall clock in milliseconds: the generation. It is not looked at again.

    Attributes:
        node_id: ours.
        view: what we know, of ourselves and of others.
        counts: packets, bytes and the like since the start, by name.
    """

    def __init__(self, settings: GossipSettings, *, rng: Random, now: float, wall_ms: int) -> None:
        wall_ms = min(max(wall_ms, 0), MAX_GENERATION)  # a clock may be that wrong
        self.node_id = settings.node_id
        self.view = View(settings.node_id, wall_ms, settings.interval_s, settings.forget_s)
        self.counts: dict[str, int] = {}
        self._own = self.view.own
        self._telling = Telling(self.view)
        self._settings = settings
        self._interval_s = settings.interval_s
        self._rng = rng
        self._began = now
        random = rng.randbytes(RANDOM_BYTES)
        self._sealer = Sealer(settings.cluster, settings.secrets, settings.node_id, wall_ms, random)
        self._challenger = Challenger(rng.randbytes(32))
        self._seeds: tuple[str, ...] = ()
        self._seeds_tried = 0
        self._out: list[tuple[bytes, str]] = []
        self._round_at = now
        self._judge_at = now + settings.interval_s
        self._news_at = math.inf
        self._pushed = 0
        self._relays: dict[str, int] = {}  # node ID -> the version from which on its news are passed on
        self._left_version = 0
        self._farewell_at = math.inf
        self._now = now
        self._slept_s = 0.0
        self._awake_at = now

    @property
    def generation(self) -> int:
        """Ours. It rises when a later one of our ID turns out to be dead."""
        return self.view.generation

    # What its owner does

    def set(self, key: str, value: Value, now: float) -> None:
        """Say something of ourselves. Raises ValueError when it is too large to be said."""
        if self._own.get(key) != value:
            self._write(key, value, now)

    def delete(self, key: str, now: float) -> None:
        """Say it no longer."""
        if self._own.get(key) is not None:
            self._write(key, None, now)

    def seed(self, addresses: Sequence[str]) -> None:
        """Where nodes of the cluster are said to be; tried for ever."""
        self._seeds = tuple(addresses)

    def set_secrets(self, secrets: tuple[str, ...]) -> None:
        """Seal with the first of these from now on, and open what any of them sealed."""
        self._sealer.set_secrets(secrets)

    def leave(self, now: float) -> None:
        """Say to every live node that we leave. `told` says when all of them have heard."""
        if not self._left_version:
            self._write(STATUS, LEFT, now)
            self._left_version = self._own.version
            self._farewell_at = now
            self.tick(now)

    @property
    def told(self) -> bool:
        """Whether we left and every live node knows that."""
        return self._left_version > 0 and all(self._knows(member) >= self._left_version for member in self.view.live())

    @property
    def joined(self) -> bool:
        """Whether we know a live node, and all that it knew when we met it."""
        return self.view.synced and any(True for _ in self.view.live())

    @property
    def senders(self) -> int:
        """Whose packets are told from repeated ones; bounded."""
        return self._sealer.senders

    def packets(self) -> list[tuple[bytes, str]]:
        """Take what is to be sent: packets and their addresses."""
        out, self._out = self._out, []
        return out

    def events(self) -> list[Event]:
        """Take what has happened."""
        events, self.view.events = self.view.events, []
        return events

    def delays(self) -> list[float]:
        """Take the seconds that entries took from their owners to us."""
        delays, self.view.delays = self.view.delays, []
        return delays

    def _write(self, key: str, value: Value | None, now: float) -> None:
        version = max(self._own.version + 1, self._uptime_ms(now))
        packed, _ = packets.pack_delta(self.node_id, self.generation, 0, 0, ((key, value, version),), self._room() // 2)
        if not packed or len(key) > packets.MAX_KEY_BYTES or len(str(value).encode()) > packets.MAX_VALUE_BYTES:
            raise ValueError(f"too large to be told: {key}")
        self._own.write(key, value, version)
        self._hurry(now + GATHER_S)

    def _hurry(self, at: float) -> None:
        """Have news told then."""
        self._news_at = min(self._news_at, at)

    def _uptime_ms(self, now: float) -> int:
        return int((now - self._began) * 1000) + 1

    def _room(self) -> int:
        return self._settings.max_packet_bytes - self._sealer.overhead - FIXED_BYTES

    def _knows(self, member: Member) -> int:
        return member.knows[1] if member.knows[0] == self.generation else 0

    def _count(self, name: str, by: int = 1) -> None:
        self.counts[name] = self.counts.get(name, 0) + by

    # Time

    def next_tick(self) -> float:
        """When `tick` is to be called, at the latest."""
        return min(
            self._round_at, self._judge_at, self._news_at, self._farewell_at, self.view.own_name.due() or math.inf
        )

    def tick(self, now: float) -> None:
        """Do what is due."""
        self._now = now
        late = now - self.next_tick()
        if late > PAUSED * self._interval_s:
            self._count("pauses")
            self.view.woke(now)
            self._slept_s = late
            self._awake_at = now + self._interval_s
        if now >= self._judge_at:
            self._judge_at = now + self._interval_s / 4
            if late < self._interval_s / 2:  # else what came meanwhile is to be read first
                self.view.judge(now)
        if now >= self._round_at:
            self._round_at = now + self._interval_s * (1 - JITTER + 2 * JITTER * self._rng.random())
            if not self._left_version:
                self._round(now)
        if now >= self._news_at:
            self._news_at = math.inf
            if not self._left_version:
                self._push(now)
        if now >= self._farewell_at:
            self._farewell_at = now + FAREWELL_S
            self._say_farewell(now)
        generation = self.view.own_name.successor(now)
        if generation is not None and generation > self.generation:
            self._take_generation(generation, now)

    def _round(self, now: float) -> None:
        self.view.heartbeat = max(self.view.heartbeat + 1, self._uptime_ms(now))
        if self._own.tombstones:
            kept_ms = int(2000 * self._settings.forget_s)
            self._own.raise_floor(self._own.old_tombstones(self._uptime_ms(now) - kept_ms, MAX_TOMBSTONES))
        self.view.drop_rumours(now)
        self._want_sync(self.view.sync_wanted(now))
        for member in self._partners(now):
            self._send_syn(member.address, member, now)
        known = {member.address for member in self.view.live()}
        known.add(str(self._own.get(GOSSIP_ADDR)))
        strangers = [seed for seed in self._seeds if seed not in known]
        for _ in range(min(SEEDS_ALONE if len(known) == 1 else 1, len(strangers))):
            self._seeds_tried += 1
            self._send_syn(strangers[self._seeds_tried % len(strangers)], None, now)

    def _want_sync(self, source: str | None) -> None:
        if source is not None:
            self.view.events.append(SyncWanted(source))

    def _partners(self, now: float) -> list[Member]:
        """Whom this round exchanges digests with."""
        live = [member for member in self.view.live() if member.address]
        partners = live
        if len(live) > FANOUT:
            # Behind a cut most may be out of reach: those who are not must find each other among them, and soon.
            suspects = [one for one in live if one.suspect(now)]
            others = [one for one in live if not one.suspect(now)] if suspects else live
            doubts = any(one.doubtful(now) for one in suspects)
            wished = 2 * FANOUT if doubts else FANOUT
            partners = self._rng.sample(others, min(wished, len(others)))
            partners += self._rng.sample(suspects, min(wished - len(partners) + FANOUT, len(suspects)))
        lost = [one for one in self.view.members.values() if one.standing is Standing.UNREACHABLE and one.address]
        if lost and self._rng.random() < 0.5:
            partners = [*partners, lost[self._rng.randrange(len(lost))]]
        return [*partners, *self._probes(now, again=True)]

    def _probes(self, now: float, *, again: bool) -> list[Member]:
        """The unconfirmed nodes to be asked now whether they are there."""
        asked = [one for one in self.view.unconfirmed.values() if one.address and (again or one.probed_at < 0)]
        asked.sort(key=lambda one: one.probed_at)
        del asked[2 * FANOUT :]
        for one in asked:
            one.probed_at = now
        return asked

    def _said_at(self, now: float) -> float:
        """When a packet that is read now was sent, at the earliest.

        While we are paused packets wait in the socket's buffer, and what they say gets no younger. They are read before
        the timer goes off that is overdue, or soon after it.
        """
        overdue_s = now - self.next_tick()
        if overdue_s > PAUSED * self._interval_s:
            return now - overdue_s
        return now - self._slept_s if now < self._awake_at else now

    def _take_generation(self, generation: int, now: float) -> None:
        # by chance, since in the other half of a parted cluster another one of our ID may take one at the same time
        generation = min(generation + self._rng.randrange(GENERATIONS), MAX_GENERATION)
        self._count("generations")
        self.view.generation = generation
        self._sealer.set_generation(generation)
        self._pushed = 0
        self._news_at = now

    # Packets out

    def _send(
        self,
        kind: int,
        address: str,
        member: Member | None,
        now: float,
        *,
        hops: int = 1,
        digest: list[bytes] | None = None,
        deltas: list[bytes] | None = None,
        wants: list[bytes] | None = None,
    ) -> None:
        have = (member.generation, member.map.version) if member is not None else (0, 0)
        body = packets.pack_body(
            kind,
            self._challenger.give(address, now),
            member.challenge if member is not None else b"",
            have,
            hops,
            digest or [],
            deltas or [],
            wants or [],
        )
        packet = self._sealer.seal(body)
        self._count(f"sent {packets.KINDS[kind]}")
        self._count("sent bytes", len(packet))
        self._out.append((packet, address))

    def _send_syn(self, address: str, member: Member | None, now: float, deltas: list[bytes] | None = None) -> None:
        """Begin an exchange."""
        digest = self._telling.digest(self._room() - sum(map(len, deltas or ())), now)
        self._send(SYN, address, member, now, digest=digest, deltas=deltas)

    # News

    def _push(self, now: float) -> None:
        """Tell what is new: of ourselves, and once what others pushed to us; and probe who was just heard of."""
        room = self._room() - 2 * OWN_ITEM_BYTES
        live = [member for member in self.view.live() if member.address]
        if self._own.version > self._pushed and live:
            targets = live if len(live) <= PUSH_TO else self._rng.sample(live, PUSH_TO)
            news = self._telling.news(self.node_id, self.generation, self._own, self._pushed, room)
            self._push_to(targets, news, now, hops=0 if len(live) > PUSH_TO else 1)
        self._pushed = self._own.version
        relays, self._relays = self._relays, {}
        for node_id, after in relays.items():
            member = self.view.members.get(node_id)
            others = [one for one in live if one is not member]
            if member is not None and others:
                targets = others if len(others) <= PUSH_TO else self._rng.sample(others, PUSH_TO)
                news = self._telling.news(node_id, member.generation, member.map, after, room)
                self._push_to(targets, news, now, hops=1, about=member)
        for member in self._probes(now, again=False):
            self._send_syn(member.address, member, now)

    def _push_to(
        self, targets: Sequence[Member], news: list[bytes], now: float, *, hops: int, about: Member | None = None
    ) -> None:
        digest = self._telling.own_digest()
        if about is not None:
            digest.append(packets.pack_digest(about.digest(now)))
        for target in targets:
            for packed in news:
                self._send(DELTA, target.address, target, now, hops=hops, digest=digest, deltas=[packed])

    def _say_farewell(self, now: float) -> None:
        """Tell those who did not yet say that they heard that we leave."""
        for member in self.view.live():
            known = self._knows(member)
            if known < self._left_version and member.address:
                after = self._own.before(self._left_version - 1)
                deltas = self._telling.deltas([(self.node_id, known), (self.node_id, after)], self._room() // 2)
                self._send_syn(member.address, member, now, deltas)

    # Packets in

    def receive(self, packet: bytes, source: str, now: float) -> str | None:
        """Take a packet. One that is not for us, or not well made, is counted and dropped.

        Args:
            source: the address that it came from.

        Returns:
            Why it was dropped, one of `REASONS`; None when it was not.
        """
        self._count("received bytes", len(packet))
        try:
            header, data = self._sealer.open(packet)
            body = packets.read_body(data)
            if body.kind != CHALLENGE and (
                not body.digest or body.digest[0][:2] != (header.node_id, header.generation)
            ):
                raise PacketError("garbage")
        except PacketError as error:
            self._count(f"dropped {error.reason}")
            return error.reason
        self._count(f"received {packets.KINDS[body.kind]}")
        self._now = now
        said_at = self._said_at(now)
        view = self.view
        proven = self._challenger.check(body.echo, source, now)
        member = None
        if header.node_id != self.node_id:
            member = view.sender(header, body, proven, source, said_at, now)
        elif proven and body.digest:
            view.hear(body.digest[0], header.node_id, said_at, now)
        if member is None:
            # Nobody whom we know and who proved its address; a life that is over, which may have to hear of that; or
            # another process with our ID, which has to hear of us.
            stranger = Member(header.node_id, header.generation, self._interval_s, now)
            stranger.challenge = body.challenge
            self._answer(stranger, body, False, proven, source, now)
            return None
        if proven:
            view.hear_all(body.digest, header.node_id, said_at, now)
        else:
            view.hear_versions(body.digest, header.node_id, now)
        gap = False
        for delta in body.deltas:
            missing, after = view.apply(delta, header.node_id, now)
            gap = gap or missing
            if after is not None and body.kind == DELTA and not body.hops and delta.node_id == header.node_id:
                self._relays.setdefault(delta.node_id, after)
                self._hurry(now + GATHER_S)
        if not view.synced:
            self._want_sync(view.first_sync_wanted(now))
        if view.to_probe:
            view.to_probe = False
            self._hurry(now + GATHER_S)
        self._answer(member, body, gap, proven or source == member.get(GOSSIP_ADDR), source, now)
        return None

    def _answer(self, member: Member, body: Body, gap: bool, proven: bool, source: str, now: float) -> None:
        """What a packet draws: at most one packet, and to a place that is not proven only a challenge, which is
        small."""
        if not proven:
            if body.kind == SYN:
                self._send(CHALLENGE, source, member, now)
        elif body.kind == SYN:
            digest, deltas, wants = self._telling.answer(member, body, self._room(), now)
            self._send(REPLY, source, member, now, digest=digest, deltas=deltas, wants=wants)
        elif body.kind == CHALLENGE:
            self._send_syn(source, member, now)
        elif body.kind == REPLY:
            deltas = self._telling.deltas(self._telling.wanted(body), self._room() - OWN_ITEM_BYTES)
            if deltas:
                self._send(DELTA, source, member, now, digest=self._telling.own_digest(), deltas=deltas)
        elif gap:
            wants = self._telling.wants(body.digest, self._room() // 2)
            if wants:
                self._send(REPLY, source, member, now, digest=self._telling.own_digest(), wants=wants)

    # Whole maps, over node links

    def sync_request(self) -> bytes:
        """What to ask a node for: the maps that we are behind with, and all nodes that we do not know."""
        return pack_request(self._uptime_ms(self._now), *self.view.behind())

    def sync_answer(self, request: bytes, now: float) -> bytes:
        """The whole maps that are asked for.

        Raises:
            SyncError: it is no request.
        """
        asked_ms, behind, known = read_request(request)
        self._count("syncs answered")
        return pack_answer(asked_ms, self.view.wholes(behind, known, now))

    def sync_apply(self, answer: bytes, reporter: str, now: float) -> None:
        """Take whole maps; each is one change.

        Raises:
            SyncError: it is no answer.
        """
        asked_ms, maps = read_answer(answer)
        # the answer is not older than its question, and may have waited for us as long as that
        said_at = min(now, self._began + asked_ms / 1000)
        for whole in maps:
            if self.view.take_whole(whole, reporter, said_at, now):
                self._count("maps taken")
        self.view.synced = True
        if self.view.to_probe:
            self.view.to_probe = False
            self._hurry(now)
