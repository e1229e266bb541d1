"""The gossip port's UDP side: feeds one `core.gossip.Gossip`, sends what it says, dispatches its events.

One timer wakes the core when it asks for it. Names, in `cluster.join` and in advertised addresses, are looked up again
and again: a seed whose address changed is found, and a healed partition rejoins however long it lasted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IUDPTransport
from twisted.internet.protocol import DatagramProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from pico_twisted.core.gossip import (
    Conflict,
    Event,
    Gossip,
    IdInUse,
    KeysChanged,
    StatusChanged,
    SyncFailed,
    SyncWanted,
)
from pico_twisted.core.text import is_ip
from pico_twisted.net.gossip.answers import Answers
from pico_twisted.net.gossip.metrics import GossipMetrics
from pico_twisted.net.gossip.resolver import NamingReactor, address_text, resolve, split_address
from pico_twisted.net.gossip.seeds import Seeds
from pico_twisted.net.observe.repeated_warning import RepeatedWarning

log = Logger()

NAME_S: Final = 30.0
"""Seconds for which the address of a node that advertises a name is used."""
MAX_NAMES: Final = 4096
"""Most names of nodes whose addresses are kept."""
AFTER_FAULT_S: Final = 0.5
"""Seconds that a core waits which failed and wants to be woken at once: it must not take all of our time."""
SAY_AGAIN_S: Final = 1.0
"""Seconds after which packets that are dropped for the same reason are logged again."""


class Table(Protocol):
    """Who keeps what the gossip tells of other nodes."""

    def status_changed(self, event: StatusChanged) -> None: ...
    def keys_changed(self, event: KeysChanged) -> None: ...
    @property
    def behind(self) -> bool: ...
    def work(self) -> None: ...


@attrs.frozen(kw_only=True)
class GossipParts:
    """What a gossip port works with.

    Attributes:
        clock: the reactor; it also looks names up.
        core: decides.
        table: is told what changes.
        metrics: counts.
        seeds: hosts and ports of nodes to join; names or IPs.
        fetch: asks a node for maps; a Deferred of its answer.
        heard: called with the ID of a node that was just found alive.
        doubted: called with the ID of a node that just became unreachable.
        conflict: called with a message when another process took our ID.
        in_use: called with the address and the uptime in seconds of another process, when we find that it has our ID.
    """

    clock: NamingReactor
    core: Gossip
    table: Table
    metrics: GossipMetrics
    seeds: Sequence[tuple[str, int]]
    fetch: Callable[[str, bytes], Deferred[bytes]]
    heard: Callable[[str], object]
    doubted: Callable[[str], object]
    conflict: Callable[[str], object]
    in_use: Callable[[str, float], object]


class GossipProtocol(DatagramProtocol):
    """The packets of one node.

    Args:
        parts: see there.

    Attributes:
        met: fires once with None, when we know what the cluster knows. Then `vouch` is awaited.
        joined: fires once with None, when we are a node of the cluster, or know that we are alone.
        seeds: where other nodes may be.
        answers: whether nodes answer packets.
    """

    transport: IUDPTransport

    def __init__(self, parts: GossipParts) -> None:
        self._parts = parts
        self._core = parts.core
        self.met: Deferred[None] = Deferred()
        self.joined: Deferred[None] = Deferred()
        self.answers = Answers(parts.clock, parts.core.probes, self._step)
        self.seeds = Seeds(parts.clock, parts.seeds, self._core.seed, lambda: self._core.joined)
        self._wake: IDelayedCall | None = None
        self._working: IDelayedCall | None = None
        self._running = False
        self._vouched = False
        self._names: dict[str, tuple[float, str]] = {}
        self._looked_up: set[str] = set()
        self._ours: set[str] = set()
        self._fetches: set[Deferred[bytes]] = set()
        # by reason, so that one stranger does not hide another
        self._dropped = {reason: RepeatedWarning(SAY_AGAIN_S) for reason in DROPPED}
        self._mapped = False

    # What the node calls

    def start(self) -> None:
        """Begin: look for others, and tell them of us. The port is bound and our keys are set."""
        self._running = True
        self._mapped = ":" in self.transport.getHost().host
        self.seeds.start()
        self._step()

    def vouch(self) -> None:
        """Others reach us, as far as can be told: our ID may be claimed."""
        self._vouched = True
        self._step()

    def begin_alone(self) -> None:
        """Be a node though no other one was found."""
        self._core.claim(self._parts.clock.seconds())
        self.vouch()

    def set(self, key: str, value: str | int) -> None:
        """Say something of this node."""
        self._core.set(key, value, self._parts.clock.seconds())
        self._step()

    def delete(self, key: str) -> None:
        """Say it no longer."""
        self._core.delete(key, self._parts.clock.seconds())
        self._step()

    def leave(self) -> None:
        """Say that this node leaves; `told` says when all know."""
        if self._running:
            self._core.leave(self._parts.clock.seconds())
            self._step()

    @property
    def told(self) -> bool:
        """Whether all live nodes know that we left."""
        return not self._running or self._core.told

    def stop(self) -> None:
        """Say and hear nothing more. Idempotent."""
        self._running = False
        self.seeds.stop()
        self.answers.stop()
        for timer in (self._wake, self._working):
            if timer is not None and timer.active():
                timer.cancel()
        self._wake = self._working = None
        for fetch in list(self._fetches):
            fetch.cancel()

    def set_secrets(self, secrets: tuple[str, ...]) -> None:
        """Use other secrets from now on."""
        self._core.set_secrets(secrets)

    # Packets

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        """A packet came."""
        if not self._running:
            return
        source = address_text(addr[0], addr[1])
        try:
            dropped = self._core.receive(datagram, source, self._parts.clock.seconds())
        except Exception:
            log.failure("A gossip packet failed by a fault of ours", source=source)
            dropped = None
        if not self.joined.called:
            self.seeds.heard(source, DROPPED[dropped] if dropped is not None else "")
        if dropped == "own":
            self._ours.add(source)
        elif dropped is not None:
            self._say_dropped(dropped, source)
        self.answers.look()
        self._step()

    def _say_dropped(self, reason: str, source: str) -> None:
        suppressed = self._dropped[reason].due(reason, self._parts.clock.seconds())
        if suppressed is None:
            return
        log.warn("Gossip packet dropped: {reason}", reason=DROPPED[reason], source=source, suppressed=suppressed)

    def _step(self) -> None:
        """Send, dispatch, and be woken again: after whatever happened to the core."""
        if not self._running:
            return
        core = self._core
        if not core.view.own.claimed:
            self._claim_if_free()
        for packet, address in core.packets():
            self._send(packet, address)
        for event in core.events():
            try:
                self._dispatch(event)
            except Exception:
                log.failure("A gossip event failed by a fault of ours")
        if self._parts.table.behind and self._working is None:
            self._working = self._parts.clock.callLater(0, self._work)
        if core.knows_the_cluster and not self.met.called:
            self.met.callback(None)
        if not self.joined.called and core.view.own.claimed and (self._vouched or self._alone()):
            self.joined.callback(None)
        at = core.next_tick()
        wake = self._wake
        if wake is None or wake.getTime() > at:
            if wake is not None:
                wake.cancel()
            self._wake = self._parts.clock.callLater(max(0.0, at - self._parts.clock.seconds()), self._tick)

    def _claim_if_free(self) -> None:
        """Claim our ID, if nobody else has it and those who could not reach us need not learn of us first."""
        now = self._parts.clock.seconds()
        reached = self._vouched or not self._core.knows_the_cluster
        if self._alone() or (reached and self._core.may_claim(now)):
            self._core.claim(now)

    def _work(self) -> None:
        """Let the table take a slice of what was told, and then whatever else waits."""
        table = self._parts.table
        table.work()
        self._working = self._parts.clock.callLater(0, self._work) if table.behind else None

    def _tick(self) -> None:
        self._wake = None
        try:
            self._core.tick(self._parts.clock.seconds())
        except Exception:
            log.failure("A gossip round failed by a fault of ours")
            self._wake = self._parts.clock.callLater(AFTER_FAULT_S, self._tick)
            return
        self._step()

    def _send(self, packet: bytes, address: str) -> None:
        place = self._place(address)
        if place is None:
            return
        try:
            self.transport.write(packet, place)
        except Exception as error:  # no route, a full buffer, no such family: the next round tries again
            self._parts.metrics.not_sent()
            log.debug("A gossip packet was not sent: {reason}", reason=str(error), to=address)

    def _place(self, address: str) -> tuple[str, int] | None:
        """Where to send, as the socket wants it; None while a name is being looked up."""
        try:
            host, port = split_address(address)
        except ValueError:
            return None
        if not is_ip(host):
            host = self._ip_of(host)
            if not host:
                return None
        if self._mapped and ":" not in host:
            host = "::ffff:" + host
        elif not self._mapped and ":" in host:
            self._parts.metrics.not_sent()
            return None
        return host, port

    def _ip_of(self, name: str) -> str:
        now = self._parts.clock.seconds()
        at, ip = self._names.get(name, (0.0, ""))
        if (not ip or now - at > NAME_S) and name not in self._looked_up and len(self._names) < MAX_NAMES:
            self._looked_up.add(name)
            resolve(self._parts.clock.nameResolver, name).addCallback(self._name_found, name)
        return ip

    def _name_found(self, ips: list[str], name: str) -> None:
        self._looked_up.discard(name)
        usable = [ip for ip in ips if self._mapped or ":" not in ip]
        if usable:
            self._names[name] = (self._parts.clock.seconds(), usable[0])

    def _alone(self) -> bool:
        """Whether there is no node to join: no seeds, or all of them are us."""
        seeds = self.seeds
        own = self._core.view.own.map.get("gossip_addr")
        return seeds.all_found and all(
            address == own or address in self._ours for found in seeds.addresses.values() for address in found
        )

    # Events

    def _dispatch(self, event: Event) -> None:
        parts = self._parts
        if isinstance(event, KeysChanged):
            parts.table.keys_changed(event)
        elif isinstance(event, StatusChanged):
            parts.table.status_changed(event)
            if event.status == "active":
                parts.heard(event.node_id)
            elif event.status == "unreachable":
                parts.doubted(event.node_id)
            self._say_status(event)
        elif isinstance(event, SyncWanted):
            self._fetch(event.node_id)
        elif isinstance(event, SyncFailed):
            self._not_well_made(event)
        elif isinstance(event, Conflict):
            parts.conflict(event.message)
        elif isinstance(event, IdInUse):
            parts.in_use(event.address, event.uptime_s)

    def _say_status(self, event: StatusChanged) -> None:
        node_id, status = event.node_id, event.status
        if status is None:
            log.info("Node {node} is forgotten", node=node_id, status="forgotten")
            return
        say = log.warn if status == "unreachable" else log.info
        say("Node {node} at {address} is {status}", node=node_id, address=self._where(node_id), status=status)

    def _where(self, node_id: str) -> str:
        """The address of a node, for people."""
        member = self._core.view.members.get(node_id)
        return member.address if member is not None and member.address else "an unknown address"

    def _fetch(self, node_id: str) -> None:
        fetch = self._parts.fetch(node_id, self._core.sync_request())
        self._fetches.add(fetch)
        fetch.addCallback(self._fetched, node_id)
        fetch.addErrback(self._not_fetched, node_id)
        fetch.addBoth(lambda _: self._fetches.discard(fetch))

    def _fetched(self, answer: bytes, node_id: str) -> None:
        if self._running:
            self._core.sync_apply(answer, node_id, self._parts.clock.seconds())
            self._step()

    def _not_fetched(self, failure: Failure, node_id: str) -> None:
        if failure.check(CancelledError):
            return
        log.debug(
            "The maps of {node} at {address} were not fetched: {reason}",
            node=node_id,
            address=self._where(node_id),
            reason=failure.getErrorMessage(),
        )
        self._parts.metrics.sync_failed()

    def _not_well_made(self, event: SyncFailed) -> None:
        log.warn(
            "The maps of {node} at {address} are not well made: {reason}",
            node=event.node_id,
            address=self._where(event.node_id),
            reason=event.reason,
        )
        self._parts.metrics.sync_failed()


DROPPED: Final = {
    "garbage": "it is no packet of a node",
    "format": "it has another format: is that node of another version?",
    "cluster": "it is of another cluster",
    "secret": "it is sealed with a secret that this node does not have, or not sealed though it must be",
    "seal": "its seal does not fit",
    "replay": "it came before",
    "own": "it is our own",
}
"""The reasons of `core.gossip.REASONS` in words."""
