"""Whose JWTs are shown at one port: known at once when they were shown before, else found out beside the reactor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Generic, TypeVar

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from pico_twisted.core.access.credentials_file import hash_of
from pico_twisted.core.access.json_web_token import Header, JwtPolicy, keys_for, looks_like_jwt, read_header, verify
from pico_twisted.core.access.refusals import REFUSALS
from pico_twisted.core.access.signing_keys import SigningKey
from pico_twisted.core.access.subject import Reason, Refused, Subject
from pico_twisted.net.access.key_set import KeySet
from pico_twisted.net.access.signature_checks import SignatureChecks

log = Logger()

MOST_KNOWN: Final = 10_000
"""Most subjects that are kept, and as many refusals: some kilobytes each, and no more agents and clients than a node
takes. A credential that falls out is checked again."""
REFUSED_S: Final = 10.0
"""Seconds for which a refusal is kept: whoever tries again at once is answered without a check."""

_NO_KEY: Final = frozenset((Reason.KEYS_AWAY, Reason.UNKNOWN, Reason.ALGORITHM))
"""Why a token is refused that no key here may have signed."""

V = TypeVar("V")


class Kept(dict[bytes, V], Generic[V]):
    """What was found out, by the hash of a credential. Whoever invents credentials cannot choose their hashes."""

    def keep(self, key: bytes, value: V) -> None:
        """Keep it, and forget what has been here for longest when there is too much."""
        if len(self) >= MOST_KNOWN:
            del self[next(iter(self))]
        self[key] = value


@attrs.frozen(kw_only=True)
class JwtKeys:
    """Which JWTs count.

    Attributes:
        policy: what they have to say.
        of_files: keys of files that hold one, or some.
        of_set: keys of a JWK set in a file.
        at_url: those of one at a URL; None when there is none.
    """

    policy: JwtPolicy
    of_files: tuple[SigningKey, ...] = ()
    of_set: tuple[SigningKey, ...] = ()
    at_url: KeySet | None = None

    def all_in_sets(self) -> tuple[SigningKey, ...]:
        """Those of both sets."""
        return self.of_set if self.at_url is None else (*self.of_set, *self.at_url.keys)


class Jwts:
    """The JWTs of one port.

    Args:
        keys: which of them count.
        checks: where signatures are checked.
        now: tells the time for what is kept, in seconds from anywhere.
        wall: tells the time of day, in seconds since 1970.
    """

    def __init__(
        self, keys: JwtKeys, checks: SignatureChecks, *, now: Callable[[], float], wall: Callable[[], float]
    ) -> None:
        self.keys = keys
        self._checks = checks
        self._now = now
        self._wall = wall
        self._subjects: Kept[Subject] = Kept()
        self._refused: Kept[tuple[Refused, float]] = Kept()
        self._waiting: dict[bytes, list[Deferred[Subject | Refused]]] = {}

    def forget(self, gone: bool) -> None:
        """The keys are others: find out again who is refused, and when some are gone who is known by those."""
        if gone:
            self._subjects = Kept()
        self._refused = Kept()

    def known(self, token: bytes, key: bytes) -> Subject | Refused | None:
        """Say whose a token is, when that is known.

        Args:
            token: what is shown, perhaps no JWT.
            key: the hash of it.
        """
        found = self._subjects.get(key)
        if found is not None:
            return found
        refused, until = self._refused.get(key, (None, 0.0))
        if refused is not None and self._now() < until:
            return refused
        return None if looks_like_jwt(token) else REFUSALS[Reason.UNKNOWN]

    def identify(self, token: bytes, address: str) -> Deferred[Subject | Refused]:
        """Find out whose a token is that is not known. Never fails. All who show one together wait for one check."""
        answer: Deferred[Subject | Refused] = Deferred()
        key = hash_of(token)
        together = self._waiting.get(key)
        if together is not None:
            together.append(answer)
            return answer
        self._waiting[key] = [answer]
        finding = Deferred.fromCoroutine(self._find_out(token, key, address))
        finding.addErrback(lambda failure: log.failure("A JWT could not be checked", failure=failure))
        finding.addCallback(self._found, key)
        return answer

    def _found(self, found: Subject | Refused | None, key: bytes) -> None:
        for answer in self._waiting.pop(key):
            answer.callback(found or REFUSALS[Reason.BUSY])  # a bug of ours is not their fault

    async def _find_out(self, token: bytes, key: bytes, address: str) -> Subject | Refused:
        header = read_header(token)
        if isinstance(header, Refused):
            return header
        subjects, refused, tried = self._subjects, self._refused, self._fitting(header)
        found = await self._check(token, header, tried, address)
        at_url = self.keys.at_url
        reason = None if isinstance(found, Subject) else found.reason
        if at_url is not None and not at_url.has(header.kid) and (reason is Reason.SIGNATURE or reason in _NO_KEY):
            news = at_url.news()  # only now: with a key that is here nobody waits for a server that is slow
            if news is None:
                return REFUSALS[Reason.BUSY]
            await news
            subjects, refused = self._subjects, self._refused
            fresh = [one for one in self._fitting(header) if one not in tried]
            if fresh or not tried:
                found = await self._check(token, header, fresh, address)
        if isinstance(found, Subject):
            subjects.keep(key, found)  # where nobody looks any more, if the keys have changed meanwhile
        elif found.reason is not Reason.BUSY and found.reason not in _NO_KEY:
            refused.keep(key, (found, self._now() + REFUSED_S))
        return found

    def _fitting(self, header: Header) -> list[SigningKey]:
        return keys_for(header, self.keys.of_files, self.keys.all_in_sets())

    async def _check(self, token: bytes, header: Header, keys: list[SigningKey], address: str) -> Subject | Refused:
        if not keys:
            return REFUSALS[self._why_no_key(header.algorithm)]
        policy, now = self.keys.policy, self._wall()
        found = await self._checks.check(address, lambda: verify(token, header.algorithm, keys, policy, now))
        return found or REFUSALS[Reason.BUSY]

    def _why_no_key(self, algorithm: str) -> Reason:
        keys = self.keys
        if keys.at_url is not None and keys.at_url.read_at is None:
            return Reason.KEYS_AWAY
        allowed = any(algorithm in key.algorithms for key in (*keys.of_files, *keys.all_in_sets()))
        return Reason.UNKNOWN if allowed else Reason.ALGORITHM
