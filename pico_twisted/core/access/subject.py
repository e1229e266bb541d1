"""Subjects: who somebody is, once a credential says so, and what the rules let them do."""

from __future__ import annotations

import enum
from typing import Final

import attrs

from pico_twisted.core.access.rules import Action, Rule


class CredentialKind(enum.Enum):
    """What said who somebody is."""

    TOKEN = "token"
    JWT = "jwt"
    CERTIFICATE = "certificate"


@attrs.frozen(kw_only=True)
class Subject:
    """Somebody who has shown a credential.

    Attributes:
        name: for logs and people: the token's or the certificate's name, or the JWT's `sub`.
        kind: of the credential.
        rules: all that it may do.
        expires_at: when the credential ends, in seconds since 1970; None when it does not.
        revocable_as: the names by which it can be revoked: the token's or the certificate's name, the JWT's `jti` and
            `sub`.
        token_hash: tells a token from others that have had its name; empty for other credentials.
    """

    name: str
    kind: CredentialKind
    rules: tuple[Rule, ...]
    expires_at: float | None = None
    revocable_as: frozenset[str] = frozenset()
    token_hash: bytes = attrs.field(default=b"", repr=False)

    @property
    def key(self) -> str:
        """Tells it from all other subjects: two credentials with one key are of the same somebody."""
        return f"{self.kind.value}:{self.name}"

    def rule_for(self, action: Action, endpoint: str | None = None) -> Rule | None:
        """The first rule that allows an action.

        Args:
            action: what it wants to do.
            endpoint: with which endpoint, its ID in lower case; None for an action that has none.
        """
        for rule in self.rules:
            if rule.allows(action, endpoint):
                return rule
        return None


class Reason(enum.Enum):
    """Why somebody is refused: the label of a metric, and the code in the log."""

    MISSING = "missing"
    MALFORMED = "malformed"
    UNKNOWN = "unknown"  # no token, certificate or key is the one shown
    EXPIRED = "expired"
    TOO_EARLY = "too-early"
    AUDIENCE = "audience"
    ISSUER = "issuer"
    ALGORITHM = "algorithm"
    SIGNATURE = "signature"
    REVOKED = "revoked"
    NOT_ALLOWED = "not-allowed"
    KEYS_AWAY = "keys-away"  # of a server that was never reached
    BUSY = "busy"  # too many wait for their signatures to be checked


@attrs.frozen(kw_only=True)
class Refused:
    """Somebody may not do what they want.

    Attributes:
        reason: why.
        message: for them: what to do, and nothing that they may not know.
        subject: the name of who they are, for the log; empty when that is not known.
    """

    reason: Reason
    message: str
    subject: str = ""

    @property
    def status(self) -> int:
        """Of the HTTP answer (RFC 9110 15.5.2, 15.5.4, 15.6.4): 403 for who is known, 503 when asking later helps."""
        if self.reason is Reason.NOT_ALLOWED:
            return 403
        return 503 if self.reason in _LATER else 401

    @property
    def challenge(self) -> str:
        """The `WWW-Authenticate` of the answer (RFC 6750 3), which says nothing that a stranger may not know."""
        if self.reason is Reason.MISSING:
            return 'Bearer realm="pico"'
        return f'Bearer realm="pico", error="{"insufficient_scope" if self.status == 403 else "invalid_token"}"'


_LATER: Final = frozenset((Reason.KEYS_AWAY, Reason.BUSY))
