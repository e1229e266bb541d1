"""What an operator asks of a node, as another node passes it on over a link, and what that one answers.

Both are small JSON objects. They are read strictly: whatever else comes is refused.
"""

from __future__ import annotations

import enum
import json
from typing import Any, Final

import attrs

from pico_twisted.core.text import NAME_PATTERN, printable

MAX_OPERATION_BYTES: Final = 2048
"""Most bytes of a question or an answer."""
MAX_BY_CHARS: Final = 256
"""Most characters of who asks."""
_MOST: Final = 2**53


class BadOperation(ValueError):
    """What should be a question of an operator, or its answer, is none."""


class Act(enum.Enum):
    """What is asked of a node."""

    CORDON = "cordon"
    DRAIN = "drain"
    UNCORDON = "uncordon"
    KICK = "kick"
    LOOK = "look"  # changes nothing


@attrs.frozen(kw_only=True)
class Operation:
    """A question.

    Attributes:
        act: what to do.
        by: who asks, for the log.
        agent: ID of the agent whose sessions are ended; empty unless `act` is `KICK`.
    """

    act: Act
    by: str = ""
    agent: str = ""

    def encoded(self) -> bytes:
        """As it goes over a link."""
        by = printable(self.by)[:MAX_BY_CHARS].encode("ascii", "replace").decode("ascii")
        return json.dumps({"act": self.act.value, "by": by, "agent": self.agent}).encode("ascii")


def decode_operation(data: bytes) -> Operation:
    """Read a question.

    Raises:
        BadOperation: it is none.
    """
    found = _object(data)
    try:
        act = Act(found.get("act"))
    except ValueError:
        raise BadOperation("nothing that this node does") from None
    by, agent = found.get("by"), found.get("agent")
    if type(by) is not str or type(agent) is not str or len(by) > MAX_BY_CHARS:
        raise BadOperation("not the question of an operator")
    if agent if act is not Act.KICK else not NAME_PATTERN.fullmatch(agent):
        raise BadOperation("not the ID of an agent")
    return Operation(act=act, by=printable(by), agent=agent)


@attrs.frozen(kw_only=True)
class Progress:
    """An answer: how a node stands. Of a host with workers it is the sum.

    Attributes:
        intake: the value of an `Intake`.
        requests: in progress, those that end by themselves.
        streams: in progress, those that nobody ends.
        sessions: of agents.
        elsewhere: other nodes that take agents.
        ended: sessions that this has begun to end.
        silent: workers of the host that did not answer.
    """

    intake: str
    requests: int = 0
    streams: int = 0
    sessions: int = 0
    elsewhere: int = 0
    ended: int = 0
    silent: int = 0

    def encoded(self) -> bytes:
        """As it goes over a link."""
        return json.dumps(attrs.asdict(self)).encode("ascii")


_COUNTS: Final = ("requests", "streams", "sessions", "elsewhere", "ended", "silent")


def decode_progress(data: bytes) -> Progress:
    """Read an answer.

    Raises:
        BadOperation: it is none.
    """
    found = _object(data)
    intake = found.get("intake")
    counts = {name: found.get(name) for name in _COUNTS}
    if type(intake) is not str or any(type(count) is not int or not 0 <= count < _MOST for count in counts.values()):
        raise BadOperation("not an answer to an operator")
    return Progress(intake=printable(intake), **counts)  # type: ignore[arg-type]  # looked at above


def _object(data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data) if len(data) <= MAX_OPERATION_BYTES else None
    except (ValueError, RecursionError):
        found = None
    if type(found) is not dict:
        raise BadOperation("not a JSON object of the size that is expected")
    return found
