"""A node's way into its cluster, until it is ready or gives up: what it waits for, and what it says of that.

Three things must be true before a node is ready. It knows what the cluster knows. Nobody else has its ID: the gossip
finds that out (`core.gossip.own`). And others reach it where it says that it is, over UDP and TCP: another node is
asked to dial it back, since only others can tell. A node of an earlier version does not do that; where all are such, it
is taken for granted.

While it waits it says why, address by address, in the log and to systemd. UDP tells little: nodes drop in silence what
is not for them. TCP tells more, since a node that is dialled answers with the reason, so a link to each seed is tried.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Final

from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from pico_twisted.app.membership import Membership
from pico_twisted.config.values import duration_text
from pico_twisted.core.gossip.members import GOSSIP_ADDR
from pico_twisted.core.links.sync_frames import Reached, SyncFormatError, decode_reached
from pico_twisted.core.ports import GOSSIP, wrong_port
from pico_twisted.core.text import span_text
from pico_twisted.net.links.dial_back import words_of
from pico_twisted.net.links.sync import FetchFailed
from pico_twisted.net.tunnel import HandshakeRefused

log = Logger()

LOOK_S: Final = 0.5
"""Seconds between two looks at whether there is something to say."""
SPEAK_AFTER_S: Final = 2.0
"""Seconds of waiting after which it is said why, unless the reason is certain before that."""
SPEAK_EVERY_S: Final = 10.0
"""Seconds after which it is said again."""
ASK_AGAIN_S: Final = 1.0
"""Seconds between two nodes that are asked to dial us back."""
MOST_ROUNDS: Final = 5
"""Times that all nodes are asked when one that could tell gives no answer."""
MOST_TOLD: Final = 16
"""Most addresses that are dialled and told of at a time; the others are only counted."""
ANY_NODE: Final = "any"
"""Node ID that a seed is dialled with first: the refusal names its own."""

_GOSSIP_PORT: Final = "nodes join at the gossip port"
_WORDS: Final = {
    "unauthenticated": "refused: another cluster.secret",
    "wrong-cluster": "refused: another cluster.name",
    "tls-required": "TLS is required there (cluster.tls)",
}
"""What a refusal means, by its code."""


class Joining:
    """Watches over the join of one node.

    Args:
        membership: the node's part in the cluster.
        reactor: tells the time.
        rng: chooses who is asked first.
        ours: whether a node ID is one of this host, which cannot tell how others reach us; None when none is.
    """

    def __init__(
        self, membership: Membership, reactor: IReactorTime, rng: random.Random, ours: Callable[[str], bool] | None
    ) -> None:
        self._membership = membership
        self._reactor = reactor
        self._rng = rng
        self._ours = ours or (lambda node_id: False)
        self._found: list[str] = []
        self._speak_at = 0.0
        self._said_final = False
        self._unreached: dict[str, Reached] = {}
        self._timers: dict[str, IDelayedCall] = {}
        self._asking: Deferred[None] | None = None
        self._over = False

    def begin(self, timeout_s: float, failed: Callable[[str], object]) -> None:
        """Begin to watch. The gossip has begun.

        Args:
            timeout_s: seconds that the node may take.
            failed: called with the reason when they are over, unless `end` was called before that.
        """
        self._speak_at = self._reactor.seconds() + SPEAK_AFTER_S
        self._timers["look"] = self._reactor.callLater(LOOK_S, self._look_again)
        self._timers["end"] = self._reactor.callLater(timeout_s, self._give_up, timeout_s, failed)
        self._membership.gossip.met.addCallback(self._met)

    def end(self) -> None:
        """The node is ready, or ends. Idempotent."""
        self._over = True
        for timer in self._timers.values():
            if timer.active():
                timer.cancel()
        if self._asking is not None:
            self._asking.cancel()

    @property
    def _own_address(self) -> str:
        """Where we say that we are reached."""
        return str(self._membership.core.view.own.map.get(GOSSIP_ADDR))

    # Being reached

    def _met(self, _: None) -> None:
        self._asking = Deferred.fromCoroutine(self.be_reached())
        self._asking.addCallbacks(self._vouch, lambda failure: failure.trap(CancelledError))

    def _vouch(self, _: None) -> None:
        if not self._over:  # then nobody is to hear of us any more
            self._membership.gossip.vouch()

    async def be_reached(self) -> None:
        """Ask one node after the other to dial us back, until one reaches us. Ends, too, when none of them can tell:
        all are of this host, or of an earlier version, or give no answer."""
        membership = self._membership
        address = self._own_address
        asked: set[str] = set()
        rounds_left = MOST_ROUNDS
        failed = False
        while not self._over:
            live = membership.core.view.live()
            others = [one for one in live if one.node_id not in asked and not self._ours(one.node_id)]
            if not others:
                rounds_left -= 1
                if not self._unreached and not (failed and rounds_left):
                    return
                asked.clear()
                await deferLater(self._reactor, ASK_AGAIN_S)
                continue
            other = self._rng.choice(others)
            asked.add(other.node_id)
            try:
                answer = await membership.links.ask_to_dial(other.node_id, address)
                reached = None if answer is None else decode_reached(answer)
            except (FetchFailed, SyncFormatError):  # such as one that is asked by too many at once
                failed = True
                continue
            if reached is not None and reached.both:
                self._unreached.clear()
                return
            if reached is not None:
                self._unreached[f"{other.node_id} at {other.address}"] = reached

    # What is said

    @property
    def id_is_in_use(self) -> bool:
        """Whether another process has our node ID."""
        return self._membership.in_use is not None and not self._membership.core.view.own.claimed

    @property
    def is_final(self) -> bool:
        """Whether the reason is the operator's to mend, and no matter of waiting longer: then we must not serve, not
        even alone."""
        return self.id_is_in_use or bool(self._unreached)

    def reasons(self) -> list[str]:
        """Why the node is not ready, one reason a line; empty when that is not known yet."""
        if self._membership.in_use is not None and self.id_is_in_use:
            return [self._id_in_use(*self._membership.in_use)]
        if self._unreached:
            return [self._not_reached()]
        return self._found

    def _id_in_use(self, address: str, uptime_s: float) -> str:
        return (
            f"node ID {self._membership.core.node_id} is in use by the process at {address or 'an unknown address'} "
            f"(up for {span_text(uptime_s)}): set another cluster.node_id"
        )

    def _not_reached(self) -> str:
        who, reached = next(reversed(self._unreached.items()))
        over = [f"{way} {words}" for way, words in (("UDP", reached.udp), ("TCP", reached.tcp)) if words]
        return (
            f"others cannot reach {self._own_address} (cluster.gossip.advertise_addr): {', '.join(over)} (says {who})"
        )

    def _look_again(self) -> None:
        self._timers["look"] = self._reactor.callLater(LOOK_S, self._look_again)
        now = self._reactor.seconds()
        if now >= self._speak_at or (self.is_final and not self._said_final):
            self._speak_at = now + SPEAK_EVERY_S
            self._said_final = self.is_final
            self.look().addCallback(self._say)

    def _give_up(self, timeout_s: float, failed: Callable[[str], object]) -> None:
        def tell(reasons: list[str]) -> None:
            why = "; ".join(reasons) or "no node answers"
            if not self._over:
                final = self.is_final
                failed(why if final else f"could not join within {duration_text(timeout_s)} (cluster.join): {why}")

        self.look().addCallback(tell)

    def _say(self, reasons: list[str]) -> None:
        if not self._over:
            for reason in reasons:
                log.warn("joining: {reason}", reason=reason)

    def look(self) -> Deferred[list[str]]:
        """Find out why the node is not ready: try each seed over TCP.

        Returns:
            A Deferred of the reasons. It never fails, and fires within a few seconds.
        """
        return Deferred.fromCoroutine(self._look())

    async def _look(self) -> list[str]:
        """See `look`. Once a node of another host was met, what the seeds say explains nothing."""
        if all(self._ours(member.node_id) for member in self._membership.core.view.live()):
            places = list(self._places())
            told = [self._of_address(*place) for place in places[:MOST_TOLD]]
            outcomes = await DeferredList([Deferred.fromCoroutine(one) for one in told], consumeErrors=True)
            self._found = [str(outcome) for success, outcome in outcomes if success and outcome]
            if len(places) > MOST_TOLD:
                self._found.append(f"and {len(places) - MOST_TOLD} further addresses")
        return self.reasons()

    def _places(self) -> Iterator[tuple[str, str]]:
        """Each address of each seed with what it is called; "" instead of an address where a name has none."""
        seeds = self._membership.gossip.seeds
        own = self._own_address
        for host, port in seeds.places:
            name = f"{host}:{port}"
            found = seeds.addresses.get((host, port), [])
            if not found:
                yield name, ""
            for address in found:
                if address != own:
                    yield (address if address == name or ":" in host else f"{name} ({address})"), address

    async def _of_address(self, name: str, address: str) -> str:
        """What stands between us and one address; "" when nothing does."""
        if not address:
            return f"{name}: the name has no address"
        said = self._membership.gossip.seeds.said(address)
        tcp = await self._over_tcp(address)
        udp = "no answer over UDP" if said is None else said and f"its packets are dropped: {said}"
        if udp:
            return f"{name}: {udp}; TCP: {tcp or 'answers'}"
        return f"{name}: it answers over UDP; TCP: {tcp}" if tcp else ""

    async def _over_tcp(self, address: str) -> str:
        """Why no link to an address can be opened; "" when one can."""
        node_id = ANY_NODE
        for _ in range(2):
            try:
                await self._membership.dial_once(address, node_id)
            except HandshakeRefused as error:
                if error.code == "wrong-node" and error.hop and node_id == ANY_NODE:
                    node_id = error.hop
                    continue
                return refusal_in_words(error)
            except Exception:
                return words_of(Failure())
            return ""
        return f"the node {node_id} refused"


def refusal_in_words(error: HandshakeRefused) -> str:
    """What a port that is no gossip port of our cluster said, as an operator needs it."""
    if error.code in _WORDS:
        return _WORDS[error.code]
    if elsewhere := wrong_port(error.port, GOSSIP):
        return f"{elsewhere}; {_GOSSIP_PORT}"
    return f"refused ({error.status}): {error.message}"
