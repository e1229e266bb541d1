"""Rules: what a subject may do, and with which endpoints. Nothing that no rule allows is allowed.

A rule is written `listen:acme-*;sessions=50;in_flight=500;rate=200/s`: an action, for the actions on endpoints a
pattern behind it, and limits. The rules for operators are `admin:read` and `admin:operate`; the second holds the first.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Mapping
from typing import Final

import attrs

from pico_twisted.core.text import ENDPOINT_ID_PATTERN

MAX_RULE_CHARS: Final = 300
"""Most characters of one rule."""

MOST_RULES: Final = 100
"""Most rules of one subject."""

_MOST: Final = 1_000_000_000
_RATE: Final = re.compile(r"([0-9]{1,9})/(s|min|h)")
_SECONDS: Final = {"s": 1, "min": 60, "h": 3600}


class BadRule(ValueError):
    """A text is no rule, and why."""


class Action(enum.Enum):
    """What a rule allows."""

    LISTEN = "listen"  # serve an endpoint, as an agent
    CONNECT = "connect"  # send requests to an endpoint, as a client
    ADMIN_READ = "admin:read"  # look at the admin port
    ADMIN_OPERATE = "admin:operate"  # change something there


_ALONE: Final = {action.value: action for action in (Action.ADMIN_READ, Action.ADMIN_OPERATE)}
_WITH_PATTERN: Final = {action.value: action for action in (Action.LISTEN, Action.CONNECT)}


@attrs.frozen
class Pattern:
    """An endpoint ID, or what endpoint IDs begin with and a `*` behind it; `*` alone is any. In lower case."""

    text: str

    @classmethod
    def read(cls, text: str) -> Pattern:
        """Read one, in any case. Raises BadRule."""
        begin = text.removesuffix("*")
        if not (text == "*" or ENDPOINT_ID_PATTERN.fullmatch(begin)):
            raise BadRule("a pattern is an endpoint ID, or the beginning of some with a * behind it")
        return cls(text.lower())

    def matches(self, endpoint: str) -> bool:
        """Whether an endpoint ID, in lower case, is meant."""
        return endpoint.startswith(self.text[:-1]) if self.text.endswith("*") else endpoint == self.text


@attrs.frozen(kw_only=True)
class Limits:
    """How much; None is no limit.

    Attributes:
        sessions: of agents, at once at one node.
        in_flight: requests in progress at once at one node.
        rate: requests a second at one node.
    """

    sessions: int | None = None
    in_flight: int | None = None
    rate: float | None = None


NO_LIMITS: Final = Limits()


@attrs.frozen
class Rule:
    """One thing that is allowed.

    Attributes:
        action: what.
        pattern: with which endpoints; None for the actions that have none.
        limits: how much of it.
    """

    action: Action
    pattern: Pattern | None = None
    limits: Limits = NO_LIMITS

    @classmethod
    def read(cls, text: str) -> Rule:
        """Read one as it is written. Raises BadRule with what is wrong, without the text itself."""
        if len(text) > MAX_RULE_CHARS:
            raise BadRule(f"a rule has {MAX_RULE_CHARS} characters at most")
        what, *limits = text.split(";")
        alone = _ALONE.get(what)
        if alone is not None:
            if limits:
                raise BadRule(f"{what} has no limits")
            return cls(alone)
        word, colon, pattern = what.partition(":")
        action = _WITH_PATTERN.get(word)
        if action is not None and colon:
            return cls(action, Pattern.read(pattern), _read_limits(limits))
        raise BadRule("a rule is listen:<pattern>, connect:<pattern>, admin:read or admin:operate")

    def allows(self, action: Action, endpoint: str | None = None) -> bool:
        """Whether it allows an action, with an endpoint (its ID in lower case) where the action has one."""
        if self.pattern is None:
            return action is self.action or (action is Action.ADMIN_READ and self.action is Action.ADMIN_OPERATE)
        return action is self.action and endpoint is not None and self.pattern.matches(endpoint)

    def __str__(self) -> str:
        limits = self.limits
        parts = [self.action.value if self.pattern is None else f"{self.action.value}:{self.pattern.text}"]
        if limits.sessions is not None:
            parts.append(f"sessions={limits.sessions}")
        if limits.in_flight is not None:
            parts.append(f"in_flight={limits.in_flight}")
        if limits.rate is not None:
            parts.append(f"rate={rate_text(limits.rate)}")
        return ";".join(parts)


def read_rate(text: str) -> float:
    """Read a rate, `200/s`, `30/min` or `1000/h`. Returns how many a second. Raises BadRule."""
    match = _RATE.fullmatch(text)
    if match is None or int(match[1]) == 0:
        raise BadRule("a rate is a number and its unit: 200/s, 30/min or 1000/h")
    return int(match[1]) / _SECONDS[match[2]]


def rate_text(rate: float) -> str:
    """Write a rate in the unit that makes it a whole number."""
    for unit, seconds in _SECONDS.items():
        if abs(rate * seconds - round(rate * seconds)) < 1e-6:
            return f"{round(rate * seconds)}/{unit}"
    return f"{rate:g}/s"


def _read_count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text[:11]) <= _MOST):
        raise BadRule(f"a limit is a number from 1 to {_MOST}")
    return int(text)


_LIMITS: Final[Mapping[str, Callable[[str], float]]] = {
    "sessions": _read_count,
    "in_flight": _read_count,
    "rate": read_rate,
}


def _read_limits(texts: list[str]) -> Limits:
    found: dict[str, float] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or name not in _LIMITS or name in found:
            raise BadRule("limits are sessions=, in_flight= and rate=, each once at most")
        found[name] = _LIMITS[name](value)
    return Limits(**found) if found else NO_LIMITS  # type: ignore[arg-type]  # each has the type of its reader
