"""The gate of a port: who shows a credential, and what they may do.

Answers are dict look-ups wherever that is possible: by the hash of a token, which is all that is kept of it. How long a
look-up takes tells nothing about tokens that are close: nobody can choose a hash.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from zope.interface import implementer

from pico_twisted.config.credentials import Credentials, policy_of
from pico_twisted.core.access.client_certificate import subject_of
from pico_twisted.core.access.credentials_file import hash_of
from pico_twisted.core.access.refusals import REFUSALS, not_allowed
from pico_twisted.core.access.revocations import Revocations
from pico_twisted.core.access.rules import Action, Rule
from pico_twisted.core.access.subject import CredentialKind, Reason, Refused, Subject
from pico_twisted.net.access.interfaces import Credential, IGate
from pico_twisted.net.access.jwts import JwtKeys, Jwts, Kept
from pico_twisted.net.access.key_set import KeySet
from pico_twisted.net.access.signature_checks import SignatureChecks
from pico_twisted.net.observe.repeated_warning import RepeatedWarning

log = Logger()

MAX_BEARER_BYTES: Final = 8192
"""Most bytes of a token or JWT that is looked at."""
REFUSAL_S: Final = 1.0
"""Seconds after which a refusal for the same reason is logged again."""


@implementer(IGate)
class Gate:
    """See `IGate`.

    Args:
        port: its name: `proxy`, `upstream` or `admin`.
        enabled: whether the port authenticates.
        revoked: what is revoked, for all ports.
        checks: where signatures are checked.
        now: tells the time for what comes again and again, in seconds from anywhere.
        wall: tells the time of day, in seconds since 1970.

    Attributes:
        epoch: see `IGate`.
        results: how often somebody was let through (`allowed`), and how often refused, by the reason.
    """

    def __init__(
        self,
        port: str,
        enabled: bool,
        *,
        revoked: Revocations,
        checks: SignatureChecks,
        now: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self.port = port
        self.enabled = enabled
        self.epoch = object()
        self.results: Counter[str] = Counter()
        self._revoked = revoked
        self._now = now
        self._wall = wall
        self._warning = RepeatedWarning(REFUSAL_S)
        self._checks = checks
        self._credentials = Credentials()
        self._jwts: Jwts | None = None
        self._by_certificate: Kept[Subject | Refused] = Kept()

    @property
    def at_url(self) -> KeySet | None:
        """The JWK set at a URL; None when there is none."""
        return None if self._jwts is None else self._jwts.keys.at_url

    def subjects(self) -> Iterable[Subject]:
        """Who has a line in a file."""
        return (*self._credentials.tokens.values(), *self._credentials.certificates.values())

    def take(self, credentials: Credentials, at_url: KeySet | None) -> bool:
        """Go by these from now on.

        Args:
            credentials: what the files say.
            at_url: the JWK set at the URL of `credentials.jwt`, if that names one.

        Returns:
            Whether that changes anything.
        """
        if at_url is not None:
            at_url.on_change.add(self._keys_changed)
        if credentials == self._credentials and at_url is self.at_url:
            return False
        self._credentials = credentials
        jwt = credentials.jwt
        keys = JwtKeys(policy=policy_of(jwt), of_files=credentials.of_files, of_set=credentials.of_set, at_url=at_url)
        if self._jwts is None or self._jwts.keys != keys or not jwt.any_keys:
            self._jwts = Jwts(keys, self._checks, now=self._now, wall=self._wall) if jwt.any_keys else None
        self._by_certificate = Kept()
        self.epoch = object()
        return True

    def _keys_changed(self, gone: bool) -> None:
        if self._jwts is not None:
            self._jwts.forget(gone)
        if gone:
            self.epoch = object()

    # IGate

    def known(self, credential: Credential) -> Subject | Refused | None:
        """See `IGate.known`."""
        bearer = credential.bearer
        if bearer is None:
            return self._of_certificate(credential.certificate)
        if len(bearer) > MAX_BEARER_BYTES:
            return REFUSALS[Reason.MALFORMED]
        key = hash_of(bearer)
        found = self._credentials.tokens.get(key)
        if found is None and self._jwts is not None:
            return self._jwts.known(bearer, key)
        return found or REFUSALS[Reason.UNKNOWN]

    def _of_certificate(self, certificate: bytes | None) -> Subject | Refused:
        if certificate is None or not self._credentials.certificates:
            return REFUSALS[Reason.MISSING]
        key = hash_of(certificate)
        found = self._by_certificate.get(key)
        if found is None:
            found = subject_of(certificate, self._credentials.certificates)
            self._by_certificate.keep(key, found)
        return found

    def identify(self, credential: Credential) -> Deferred[Subject | Refused]:
        """See `IGate.identify`."""
        known = self.known(credential)
        if known is not None:
            return succeed(known)
        assert self._jwts is not None and credential.bearer is not None
        return self._jwts.identify(credential.bearer, credential.address)

    def check(
        self, subject: Subject, action: Action, endpoint: str | None = None, known: Rule | None = None
    ) -> Rule | Refused:
        """See `IGate.check`."""
        ended = self._ended(subject)
        rule = known or subject.rule_for(action, endpoint)
        if ended is not None or rule is None:
            return attrs.evolve(ended or not_allowed(action, endpoint), subject=subject.name)
        self.results["allowed"] += 1
        return rule

    def current(self, subject: Subject) -> Subject | Refused:
        """See `IGate.current`."""
        ended = self._ended(subject)
        if ended is not None:
            return ended
        if subject.kind is CredentialKind.TOKEN:
            return self._credentials.tokens.get(subject.token_hash) or REFUSALS[Reason.UNKNOWN]
        if subject.kind is CredentialKind.CERTIFICATE:
            found = self._credentials.certificates.get(subject.name)
            return REFUSALS[Reason.UNKNOWN] if found is None else attrs.evolve(subject, rules=found.rules)
        return subject

    def _ended(self, subject: Subject) -> Refused | None:
        """Why a credential that was good is so no more."""
        if subject.expires_at is not None and self._wall() >= subject.expires_at:
            return REFUSALS[Reason.EXPIRED]
        return REFUSALS[Reason.REVOKED] if self._revoked.is_revoked(subject) else None

    def refused(self, refused: Refused, credential: Credential, endpoint: str | None = None) -> None:
        """See `IGate.refused`."""
        reason = refused.reason.value
        self.results[reason] += 1
        suppressed = self._warning.due(reason, self._now())
        if suppressed is not None:
            log.warn(
                "Refused at the {port} port: {reason}",
                port=self.port,
                reason=reason,
                client=credential.address,
                subject=refused.subject,
                endpoint=endpoint or "",
                suppressed=suppressed,
            )
