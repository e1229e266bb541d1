"""Which address to dial next, and how long to wait before: the pure part of the connector.

What is needed. A listener must have a session for ever, whatever happens to nodes and to the network between. Three
demands pull in different directions. A fleet of agents must not fall on a node that is starting or in trouble: so
waits are drawn evenly between nothing and a ceiling that doubles from 100 ms to 15 s ("full jitter"), and only a
session that held for a minute takes the ceiling back. A node that was killed must have its agents back within a second
of its return: so a wait of 15 s must not be pending at that moment. And a node that says no (a bad token, an endpoint
that is not ours) must not be asked over and over.

What was chosen. Failures are told apart by what they cost the other side:

- *The port is closed* (TCP refuses, or a load balancer in front says that nobody is behind it). No node is there to be
  hurt, and the answer costs the host one packet. For five
  minutes after we last had a session (or after our start: agents are often up before their node) the ceiling stays at
  0.7 s, which leaves 0.3 s for the handshake of a busy machine. The ceiling that other failures have grown is
  lowered to that too, so
  that the session lost next does not draw from a ceiling that closed ports have grown. Later the common rule holds.
- *Turned away* (the node answered the handshake with 4xx: our configuration, not its health). That address is left
  alone for 7.5 to 15 s; others may be tried meanwhile. A node's answer of
  5xx speaks of its state: it counts as a common failure.
- *Unwelcome* (the node answered 401 or 403: our credential does not count, or not for this endpoint). Nothing changes
  before somebody changes it, so that address is left alone for twice as long each time, from 10 s to a minute; a new
  credential ends the wait.
- *All else* (a timeout, no route, TLS, a session that broke): the common rule.

A session that the node closes in good order, or asks us to replace, is replaced at once and by another address if there
is one, unless it lasted less than a second: a node that greets and closes must not be dialled in a tight loop. What a
stopping node refused meanwhile (503, while its old sessions ended) does not delay us beyond what closed ports may.

A session that another agent with our ID took over, on a machine that was copied, is not taken back at once: the two
would throw each other out for ever. Each time it waits longer, from 2 s to 5 min.

A session that broke is followed by one at another address first, if there is one: the node may be dead, and an attempt
there may cost a whole time-out. If the session had held for a few seconds, that first attempt elsewhere waits no longer
than one at a closed port: what that node did says nothing against the other.

Addresses are taken in random order, each once before any is taken again; those that another session of the same
listener is at (`shun`) come last. A node that said that the session is wanted elsewhere is no failure: the next address
is tried at once, or the same one, behind which may be several nodes. When that came to nothing for a session that is
there only to be at another node, it is tried again after half a minute, and twice as long each time, up to a quarter of
an hour: the cluster has nodes that this agent cannot reach.

All this is about one session. What the many of one process do to a node together is the matter of the throttle that
their dials go through (`net.agent.dial_throttle`).

What was rejected. Decorrelated jitter: it cannot promise an upper limit for the first tries. A delay of its own for
each address: with several nodes down it would dial in bursts. Racing all addresses: it costs every node a handshake.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Collection, Sequence
from typing import Final, Protocol

import attrs

from pico_twisted.core.backoff import Backoff, Random

BASE_S: Final = 0.1
"""Most seconds of the first wait: a blip costs next to nothing."""
MAX_S: Final = 15.0
"""Most seconds of the longest wait: 1,000 agents make 130 handshakes a second at worst."""
STABLE_S: Final = 60.0
"""Seconds that a session has to last to end the count of failures."""
CLOSED_PORT_MAX_S: Final = 0.7
"""Most seconds of a wait while the port is closed and there is hope: so the agent is back within a second."""
HOPE_S: Final = 300.0
"""Seconds for which a closed port is taken for a node that restarts."""
HELD_S: Final = 5.0
"""Seconds after which a session that breaks does not delay the first attempt at another address."""
BRIEF_S: Final = 1.0
"""Seconds; a session that lasted less is not replaced at once, however well it was closed."""
ELSEWHERE_S: Final = 0.05
"""About how many seconds pass before another node is looked for: the next connection that a load balancer makes."""
SENT_ELSEWHERE_S: Final = 30.0
"""Most seconds of the first wait of a session that found no other node."""
SENT_ELSEWHERE_MAX_S: Final = 960.0
"""Most seconds of the longest wait of a session that found no other node."""
UNWELCOME_S: Final = 10.0
"""Most seconds of the first wait after a node refused our credential; it doubles each time."""
UNWELCOME_MAX_S: Final = 60.0
"""Most seconds of the longest such wait: a node that is told of our credential has us back within a minute."""
TAKEN_OVER_S: Final = 2.0
"""Most seconds of the first wait after another agent with our ID took our place; it doubles each time."""
TAKEN_OVER_MAX_S: Final = 300.0
"""Most seconds of the longest such wait: each takeover cuts the requests of the session that it ends."""


class AgentRandom(Random, Protocol):
    """The source of chance of an agent; `random.Random` will do."""

    def shuffle(self, x: list[str], /) -> None: ...
    def getrandbits(self, k: int, /) -> int: ...


class Failed(enum.Enum):
    """Why an attempt gave no session."""

    CLOSED_PORT = "closed port"
    TURNED_AWAY = "turned away"
    UNWELCOME = "unwelcome"
    SENT_ELSEWHERE = "sent elsewhere"
    OTHER = "other"


class Ended(enum.Enum):
    """Why a session needs a successor."""

    IN_ORDER = "in order"  # the node closed it properly, or asked for a replacement
    BROKEN = "broken"
    TAKEN_OVER = "taken over"  # another agent with our ID registered in its place


@attrs.frozen(kw_only=True)
class Dial:
    """What to do next.

    Attributes:
        url: the address.
        delay_s: how long to wait before dialling it.
    """

    url: str
    delay_s: float


class DialPlan:
    """Decides about the attempts of one listener.

    Args:
        urls: the addresses that may be dialled, at least one.
        rng: the source of chance.
        now: monotonic seconds, as in every method.
    """

    def __init__(self, urls: Sequence[str], rng: AgentRandom, now: float) -> None:
        if not urls:
            raise ValueError("no address to dial")
        self._urls = list(dict.fromkeys(urls))
        self._rng = rng
        self._backoff = Backoff(BASE_S, MAX_S, rng)
        self._sent_elsewhere = Backoff(SENT_ELSEWHERE_S, SENT_ELSEWHERE_MAX_S, rng, jitter=0.5)
        self._unwelcome = Backoff(UNWELCOME_S, UNWELCOME_MAX_S, rng, jitter=0.5)
        self._taken_over = Backoff(TAKEN_OVER_S, TAKEN_OVER_MAX_S, rng, jitter=0.5)
        self._round: list[str] = []
        self._left_alone_until = dict.fromkeys(self._urls, -math.inf)
        self._hoping_since = now

    def first(self, now: float, shun: Collection[str] = ()) -> Dial:
        """The first attempt: at once."""
        return self._next(0.0, now, None, shun)

    def elsewhere(self, url: str, now: float, shun: Collection[str] = ()) -> Dial:
        """Return the attempt after one whose node wants the session to be at another.

        Args:
            url: its address.
            now: monotonic seconds.
            shun: addresses that come last.
        """
        return self._next(self._rng.uniform(ELSEWHERE_S / 2, ELSEWHERE_S * 1.5), now, url, shun)

    def after_failure(self, url: str, failed: Failed, now: float, shun: Collection[str] = ()) -> Dial:
        """Return the attempt after one that gave no session.

        Args:
            url: its address.
            failed: why it gave none.
            now: monotonic seconds.
            shun: addresses that come last.
        """
        if failed is Failed.TURNED_AWAY:
            self._left_alone_until[url] = now + self._rng.uniform(MAX_S / 2, MAX_S)
        elif failed is Failed.UNWELCOME:
            self._left_alone_until[url] = now + self._unwelcome.next_s()
        if failed is Failed.SENT_ELSEWHERE:
            return self._next(self._sent_elsewhere.next_s(), now, url, shun)
        hopeful = failed is Failed.CLOSED_PORT and now - self._hoping_since < HOPE_S
        if hopeful:
            self._backoff.hold(CLOSED_PORT_MAX_S)
        delay_s = self._backoff.next_s()
        if hopeful:
            self._backoff.hold(CLOSED_PORT_MAX_S)
        return self._next(delay_s, now, url, shun)

    def after_session(self, url: str, ended: Ended, lasted_s: float, now: float, shun: Collection[str] = ()) -> Dial:
        """Return the attempt after a session.

        Args:
            url: its address.
            ended: why it needs a successor.
            lasted_s: how long it took new calls.
            now: monotonic seconds.
            shun: addresses that come last.
        """
        self._hoping_since = now
        self._sent_elsewhere.reset()
        self._unwelcome.reset()
        if ended is Ended.TAKEN_OVER:
            if lasted_s >= 2 * TAKEN_OVER_MAX_S:
                self._taken_over.reset()
            return self._next(self._taken_over.next_s(), now, url, shun)
        if lasted_s >= STABLE_S:
            self._backoff.reset()
        if ended is Ended.IN_ORDER and lasted_s >= BRIEF_S:
            self._backoff.hold(CLOSED_PORT_MAX_S)
            return self._next(0.0, now, url, shun)
        if len(self._urls) > 1 and lasted_s >= HELD_S:
            self._backoff.hold(CLOSED_PORT_MAX_S)
        return self._next(self._backoff.next_s(), now, url, shun)

    def _next(self, delay_s: float, now: float, avoid: str | None, shun: Collection[str]) -> Dial:
        at = now + delay_s
        for _ in range(2):
            self._round.sort(key=shun.__contains__)
            while self._round:
                url = self._round.pop(0)
                if self._left_alone_until[url] <= at:
                    return Dial(url=url, delay_s=delay_s)
            self._round = self._urls.copy()
            self._rng.shuffle(self._round)
            if self._round[0] == avoid:
                self._round.append(self._round.pop(0))
        url = min(self._urls, key=self._left_alone_until.__getitem__)
        return Dial(url=url, delay_s=min(max(self._left_alone_until[url] - now, 0.0), UNWELCOME_MAX_S))
