"""What is revoked: credentials and agents that are refused, though they look good.

What is needed. An operator tells one node, and every node refuses that subject: those that were parted from it, those
that start again, and those that join later, too. What is taken back at one node is taken back at all.

What can go wrong. Nodes hear things twice, late, in different orders, and only a part of them. Their clocks differ.
The list grows for ever, or somebody floods it.

What was chosen. For each that is meant the list has the last word about it. Of two words the later one counts, and of
two at the same time any, as long as all nodes choose the same: so nodes that heard the same words, in whatever order,
have the same list, and one short digest tells whether they have. Who speaks at a node overrules what that node knows,
whatever its clock says: the new word is made later than the old one. To take back is a word like any other, which has
to be kept, as long as an older one may be somewhere. Words end, at the same moment at all nodes, and on full multiples
of `ROUND_S`, or of `BRIEF_ROUND_S` when they are brief: else two nodes whose clocks differ by a second would compare
their lists all the time. When words of
others are more than fit, the oldest go, at all nodes the same.

What was rejected. A key of the gossip for each word: it would be gone with the node that said it.
"""

from __future__ import annotations

import enum
import hashlib
import json
import math
from collections.abc import Iterable, Iterator
from typing import Final

import attrs

from pico_twisted.core.access.subject import CredentialKind, Subject

MOST_REVOCATIONS: Final = 10_000
"""Most words that a node keeps, and that an operator can have said."""
MAX_NAME_BYTES: Final = 512
"""Most bytes of the name of what is meant: it may be a long URI."""
MAX_BY_BYTES: Final = 128
"""Most bytes of who said it."""
MAX_LINE_BYTES: Final = 1500
"""Most bytes of a word as it is written: both texts, should each of their bytes become two, and numbers."""
MAX_LIST_BYTES: Final = MOST_REVOCATIONS * (MAX_LINE_BYTES + 1)
"""Most bytes of a list as it is written."""
ROUND_S: Final = 600
"""Words end on full multiples of that, in seconds since 1970."""
BRIEF_S: Final = 3600
"""Seconds; words that last less end on full multiples of `BRIEF_ROUND_S`."""
BRIEF_ROUND_S: Final = 60
"""See `BRIEF_S`."""
UNDONE_S: Final = 30 * 86_400
"""Seconds for which it is kept that something was taken back: a node that was away for longer may bring it again."""

MOST_LEEWAY_S: Final = 600.0
"""Most seconds for which a JWT may count after its `exp`."""

_ODD_LINES: Final = 16  # that are no words: comments, and what is behind the last one
_encode: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_LATEST: Final = 2**53
_DIGEST_CHARS: Final = 16


class BadRevocations(Exception):
    """What should be a list of revocations is none, and why."""


class TooManyRevocations(Exception):
    """There is no room for another one."""

    def __init__(self) -> None:
        super().__init__(
            f"there are {MOST_REVOCATIONS} revocations, and no more are kept: take credentials out of their files, "
            "and undo their revocations"
        )


class Meant(enum.Enum):
    """What a name is of."""

    NAME = "name"  # a token or a certificate, or the `jti` or `sub` of a JWT
    AGENT = "agent"  # an agent, by its ID


@attrs.frozen(kw_only=True)
class Revocation:
    """The last word about somebody.

    Attributes:
        meant: what the name is of.
        name: who is meant.
        revoked: whether they are refused; else a revocation was taken back.
        at_ms: when it was said, in milliseconds since 1970, or a little later than what it overrules.
        until_s: when it ends, in seconds since 1970; 0 for never.
        by: who said it, for people.
        line: it as it is written.
    """

    meant: Meant
    name: str
    revoked: bool
    at_ms: int
    until_s: int
    by: str
    line: str = attrs.field(init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        for text, most, least in ((self.name, MAX_NAME_BYTES, 1), (self.by, MAX_BY_BYTES, 0)):
            if type(text) is not str or not text.isprintable() or not least <= len(text.encode()) <= most:
                raise BadRevocations(f"a name has 1 to {MAX_NAME_BYTES} bytes, all of them printable")
        if type(self.revoked) is not bool:
            raise BadRevocations("a word revokes, or takes back")
        for number in (self.at_ms, self.until_s):
            if type(number) is not int or not 0 <= number <= _LATEST:
                raise BadRevocations("a time is a number")
        parts = (self.meant.value, self.name, self.revoked, self.at_ms, self.until_s, self.by)
        object.__setattr__(self, "line", _encode(parts))

    @property
    def _order(self) -> tuple[int, bool, int, str, str, str]:
        return (self.at_ms, self.revoked, self.until_s, self.by, self.meant.value, self.name)

    def overrules(self, other: Revocation | None) -> bool:
        """Whether it counts, and not the other one, which may be about the same."""
        return other is None or self._order > other._order

    def ended(self, now_s: float) -> bool:
        """Whether nothing has to be known of it any more."""
        return 0 < self.until_s <= now_s

    @classmethod
    def read(cls, line: bytes) -> Revocation:
        """Read a line. Raises BadRevocations."""
        if len(line) > MAX_LINE_BYTES:
            raise BadRevocations("a line that is too long")
        try:
            meant, name, revoked, at_ms, until_s, by = json.loads(line)
            return cls(meant=Meant(meant), name=name, revoked=revoked, at_ms=at_ms, until_s=until_s, by=by)
        except (ValueError, TypeError, RecursionError):
            raise BadRevocations("a line that is no revocation") from None


def lines_of(data: bytes, most: int = MOST_REVOCATIONS) -> list[bytes]:
    """The lines of a list; empty ones, and those that begin with #, mean nothing.

    Args:
        data: as `written` writes it.
        most: how many may stand in it.

    Raises:
        BadRevocations: it is too long.
    """
    lines = [line for line in data.split(b"\n", most + _ODD_LINES) if line.strip() and not line.startswith(b"#")]
    if len(lines) > most:
        raise BadRevocations(f"more than {most} revocations")
    return lines


def read_revocations(data: bytes, most: int = MOST_REVOCATIONS) -> list[Revocation]:
    """Read a list. The parameters are those of `lines_of`.

    Raises:
        BadRevocations: it is none.
    """
    return [Revocation.read(line) for line in lines_of(data, most)]


class Revocations:
    """The list of one node.

    Args:
        most: how many words it keeps.
    """

    def __init__(self, most: int = MOST_REVOCATIONS) -> None:
        self._most = most
        self._words: dict[tuple[Meant, str], Revocation] = {}
        self._refused: dict[Meant, set[str]] = {meant: set() for meant in Meant}
        self._digest: str | None = None

    def is_revoked(self, subject: Subject | None, agent_id: str = "") -> bool:
        """Whether somebody is refused: a subject, by any of its names, or an agent by its ID."""
        if not self._words:
            return False
        if agent_id in self._refused[Meant.AGENT]:
            return True
        return subject is not None and not self._refused[Meant.NAME].isdisjoint(subject.revocable_as)

    def revoke(self, meant: Meant, name: str, *, now_s: float, by: str, until_s: float = 0.0) -> Revocation:
        """Refuse somebody from now on.

        Args:
            meant: what the name is of.
            name: who.
            now_s: seconds since 1970.
            by: who says so.
            until_s: when that ends, in seconds since 1970, at the earliest; 0 for never.

        Raises:
            BadRevocations: nobody can have that name, or it has ended already.
            TooManyRevocations: there is no room.
        """
        return self._say(meant, name, True, now_s, by, until_s)

    def undo(self, meant: Meant, name: str, *, now_s: float, by: str) -> Revocation | None:
        """Take a revocation back; None when there is none. The parameters are those of `revoke`."""
        if name not in self._refused[meant]:
            return None
        return self._say(meant, name, False, now_s, by, now_s + UNDONE_S)

    def _say(self, meant: Meant, name: str, revoked: bool, now_s: float, by: str, until_s: float) -> Revocation:
        if 0 < until_s <= now_s:
            raise BadRevocations("it would have ended already: the time is in the past here")
        round_s = ROUND_S if until_s - now_s >= BRIEF_S else BRIEF_ROUND_S
        before = self._words.get((meant, name))
        if before is None and len(self._words) >= self._most:
            raise TooManyRevocations
        word = Revocation(
            meant=meant,
            name=name,
            revoked=revoked,
            at_ms=max(int(now_s * 1000), before.at_ms + 1 if before is not None else 0),
            until_s=math.ceil(until_s / round_s) * round_s,
            by=by.encode()[:MAX_BY_BYTES].decode("utf-8", "ignore"),
        )
        self._put(word)
        return word

    def merge(self, words: Iterable[Revocation], now_s: float) -> list[Revocation]:
        """Take words of other nodes, or of this one's file.

        Args:
            words: of them.
            now_s: seconds since 1970.

        Returns:
            Those that were news, and had room.
        """
        news: list[Revocation] = []
        for word in words:
            if not word.ended(now_s) and word.overrules(self._words.get((word.meant, word.name))):
                self._put(word)
                news.append(word)
        excess = len(self._words) - self._most
        if excess > 0:
            for word in sorted(self._words.values(), key=lambda word: word._order)[:excess]:
                self._drop(word)
        return [word for word in news if self._words.get((word.meant, word.name)) is word]

    def drop_ended(self, now_s: float) -> bool:
        """Forget what has ended. Returns whether anything had."""
        ended = [word for word in self if word.ended(now_s)]
        for word in ended:
            self._drop(word)
        return bool(ended)

    def _put(self, word: Revocation) -> None:
        self._words[word.meant, word.name] = word
        (set.add if word.revoked else set.discard)(self._refused[word.meant], word.name)
        self._digest = None

    def _drop(self, word: Revocation) -> None:
        del self._words[word.meant, word.name]
        self._refused[word.meant].discard(word.name)
        self._digest = None

    @property
    def digest(self) -> str:
        """A short text that is the same at nodes that have the same list."""
        if self._digest is None:
            self._digest = hashlib.sha256(self.written()).hexdigest()[:_DIGEST_CHARS]
        return self._digest

    def written(self) -> bytes:
        """The list as it is written: a line for each word, in an order that is the same everywhere."""
        return written(self)

    def __iter__(self) -> Iterator[Revocation]:
        return iter(self._words.values())

    def __len__(self) -> int:
        return len(self._words)


def end_of(jti: str, subjects: Iterable[Subject]) -> float:
    """When all JWTs with a `jti` count no more, in seconds since 1970, as far as these subjects showed some; 0 without
    any, and where somebody else has that name, who is meant, too, and may count for ever."""
    found = [subject for subject in subjects if jti in subject.revocable_as]
    ends = [one.expires_at for one in found if one.expires_at and one.kind is CredentialKind.JWT and one.name != jti]
    return max(ends) + MOST_LEEWAY_S if ends and len(ends) == len(found) else 0.0


def written(words: Iterable[Revocation]) -> bytes:
    """Words as they are written, a line for each."""
    return "".join(sorted(word.line + "\n" for word in words)).encode()
