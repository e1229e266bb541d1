"""The gate of a port: who shows a credential, and what they may do.

Answers are dict look-ups wherever that is possible: by the hash of a token, which is all that is kept of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from zope.interface import implementer

from pico_twisted.config.credentials import Credentials
from pico_twisted.core.access.credentials_file import hash_of
from pico_twisted.core.access.refusals import REFUSALS, not_allowed
from pico_twisted.core.access.revocations import Revocations
from pico_twisted.core.access.rules import Action, Rule
from pico_twisted.core.access.subject import CredentialKind, Reason, Refused, Subject
from pico_twisted.net.access.interfaces import Credential, IGate
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
        now: tells the time for what comes again and again, in seconds from anywhere.
        wall: tells the time of day, in seconds since 1970.

    Attributes:
        epoch: see `IGate`.
        results: how often somebody was let through (`allowed`), and how often refused, by the reason.
    """

    def __init__(
        self, port: str, enabled: bool, *, revoked: Revocations, now: Callable[[], float], wall: Callable[[], float]
    ) -> None:
        self.port = port
        self.enabled = enabled
        self.epoch = object()
        self.results: Counter[str] = Counter()
        self._revoked = revoked
        self._now = now
        self._wall = wall
        self._warning = RepeatedWarning(REFUSAL_S)
        self._credentials = Credentials()

    def take(self, credentials: Credentials) -> bool:
        """Go by these from now on. Returns whether that changes anything."""
        changed = credentials != self._credentials
        if changed:
            self._credentials = credentials
            self.epoch = object()
        return changed

    # IGate

    def known(self, credential: Credential) -> Subject | Refused | None:
        """See `IGate.known`."""
        bearer = credential.bearer
        if bearer is None:
            return REFUSALS[Reason.MISSING]
        if len(bearer) > MAX_BEARER_BYTES:
            return REFUSALS[Reason.MALFORMED]
        return self._credentials.tokens.get(hash_of(bearer)) or REFUSALS[Reason.UNKNOWN]

    def identify(self, credential: Credential) -> Deferred[Subject | Refused]:
        """See `IGate.identify`."""
        return succeed(self.known(credential) or REFUSALS[Reason.UNKNOWN])

    def check(self, subject: Subject, action: Action, endpoint: str | None = None) -> Rule | Refused:
        """See `IGate.check`."""
        ended = self._ended(subject)
        if ended is not None:
            return ended
        rule = subject.rule_for(action, endpoint)
        if rule is None:
            return not_allowed(action, endpoint)
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
                endpoint=endpoint or "",
                suppressed=suppressed,
            )
