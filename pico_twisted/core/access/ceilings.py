"""Ceilings: how much of something may go on at once, and how often it may begin.

A ceiling holds what is in flight under it, so that nothing is counted twice and leaving is idempotent. `Ceilings` keeps
one for each key (an endpoint, a subject, an address), and forgets those that nobody can miss. What it keeps is bounded,
also against strangers who show a new key each time: then the keys are forgotten that were used longest ago and have
nothing in flight. Keys are texts, since Python seeds the hash of texts: nobody can choose some that collide.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from itertools import islice
from typing import Final

import attrs

from pico_twisted.core.rates import TokenBucket

MOST_KEYS: Final = 16_384
"""Most keys of a `Ceilings` that have nothing in flight: at about 600 bytes each, 10 MB."""

_LOOKED_AT: Final = 4
"""How many of the oldest keys are looked at for each new one: more than one, so that a flood is forgotten."""


class Limit(enum.Enum):
    """What was reached: the label of a metric, and an error's code."""

    ENDPOINT_RATE = "endpoint-rate"
    ENDPOINT_IN_FLIGHT = "endpoint-in-flight"
    ENDPOINT_SESSIONS = "endpoint-sessions"
    ENDPOINT_BODY = "endpoint-body"
    SUBJECT_RATE = "subject-rate"
    SUBJECT_IN_FLIGHT = "subject-in-flight"
    SUBJECT_SESSIONS = "subject-sessions"
    ADDRESS_RATE = "address-rate"
    ADDRESS_CONNECTIONS = "address-connections"
    SLOW_BODY = "slow-body"
    OVERLOADED = "overloaded"  # the node comes late to everything
    LISTENER_ADDRESS = "listener-address"
    LISTENER_LOGIN = "listener-login"
    LISTENER_LOGINS = "listener-logins"  # that wait to be checked
    LISTENER_RATE = "listener-rate"
    LISTENER_IN_FLIGHT = "listener-in-flight"


@attrs.frozen
class Over:
    """A ceiling is reached.

    Attributes:
        limit: which.
        retry_after_s: seconds after which it is worth asking again; None where nobody knows: as much is in flight as
            may be.
    """

    limit: Limit
    retry_after_s: float | None


@attrs.define(eq=False)
class Ceiling:
    """How much may go on at once, and how often it may begin.

    Args:
        full: what to say when as much is in flight as may be.
        fast: what to say when the rate is reached.

    Attributes:
        most: in flight at once; None for no limit.
        rate: how many may begin in a second; None for no limit.
        inside: what is in flight.
    """

    full: Limit
    fast: Limit
    most: int | None = None
    rate: float | None = None
    inside: set[object] = attrs.field(init=False, factory=set)
    _bucket: TokenBucket | None = attrs.field(init=False, default=None)

    def change(self, most: int | None, rate: float | None) -> None:
        """Hold to other limits from now on. What is in flight stays."""
        if rate != self.rate:
            self._bucket = None
        self.most, self.rate = most, rate

    def enter(self, what: object, now: float) -> Over | None:
        """Begin something, unless a limit is reached: then nothing of it is counted.

        Args:
            what: begins: stays inside until `leave`, if there is a limit for that. What is inside already stays so.
            now: in seconds.
        """
        if self.most is not None and len(self.inside) >= self.most and what not in self.inside:
            return Over(self.full, None)
        if self.rate is not None:
            if self._bucket is None:
                self._bucket = TokenBucket(self.rate, now)
            if not self._bucket.take(now):
                return Over(self.fast, self._bucket.wait_s(now))
        if self.most is not None:
            self.inside.add(what)
        return None

    def leave(self, what: object) -> None:
        """Something has ended. Idempotent."""
        self.inside.discard(what)

    def is_idle(self, now: float) -> bool:
        """Whether nothing depends on it: a new one would say the same."""
        return not self.inside and (self._bucket is None or self._bucket.is_full(now))


def enter_all(ceilings: Sequence[Ceiling], what: object, now: float) -> Over | None:
    """Begin something under several ceilings, or under none of them when a limit of one is reached.

    A rate that was taken from before that stays taken: put first the ceiling of the one who asks, so that nobody uses
    up what others share.
    """
    for index, ceiling in enumerate(ceilings):
        over = ceiling.enter(what, now)
        if over is not None:
            for entered in ceilings[:index]:
                entered.leave(what)
            return over
    return None


class Ceilings:
    """A ceiling for each key.

    Args:
        full: what each says when as much is in flight as may be.
        fast: what each says when the rate is reached.
    """

    def __init__(self, full: Limit, fast: Limit) -> None:
        self._full = full
        self._fast = fast
        self._of: dict[str, Ceiling] = {}  # the one that was asked for last is at the end

    def __len__(self) -> int:
        return len(self._of)

    def of(self, key: str, most: int | None, rate: float | None, now: float) -> Ceiling:
        """The ceiling of a key, with the limits that hold now, to be entered at once: what is idle may be forgotten.

        Args:
            key: whose.
            most: in flight at once; None for no limit.
            rate: how many may begin in a second; None for no limit.
            now: in seconds.
        """
        ceiling = self._of.pop(key, None)
        if ceiling is None:
            self._forget(now)
            ceiling = Ceiling(self._full, self._fast, most, rate)
        elif ceiling.most != most or ceiling.rate != rate:
            ceiling.change(most, rate)
        self._of[key] = ceiling
        return ceiling

    def _forget(self, now: float) -> None:
        """Forget some of the oldest: the idle ones, and when there are too many all that have nothing in flight."""
        for key in list(islice(self._of, _LOOKED_AT)):
            ceiling = self._of.pop(key)
            if ceiling.inside or (len(self._of) < MOST_KEYS and not ceiling.is_idle(now)):
                self._of[key] = ceiling  # looked at again when all others were
