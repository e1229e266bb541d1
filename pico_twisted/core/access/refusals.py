"""What somebody who is refused is told: what to do, and nothing of what others may do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pico_twisted.core.access.rules import Action
from pico_twisted.core.access.subject import Reason, Refused

REFUSALS: Final[Mapping[Reason, Refused]] = {
    reason: Refused(reason=reason, message=message)
    for reason, message in {
        Reason.MISSING: "this port wants a token, a JWT or a client certificate, and there was none",
        Reason.MALFORMED: "the token cannot be read: show it whole, as it was given to you",
        Reason.UNKNOWN: "the credential is not known here: check that it is for this server, or ask for a new one",
        Reason.EXPIRED: "the credential has expired: get a new one",
        Reason.TOO_EARLY: "the credential is not valid yet: check the clocks of this machine and of who issued it",
        Reason.AUDIENCE: "the JWT is for another audience: get one that is issued for this server",
        Reason.ISSUER: "the JWT is from another issuer than the one that counts here",
        Reason.ALGORITHM: "the JWT is signed in a way that no key here allows",
        Reason.SIGNATURE: "the signature of the JWT is wrong: it was changed, or signed with another key",
        Reason.REVOKED: "the credential was revoked: ask for a new one",
        Reason.NOT_ALLOWED: "the credential does not allow this: ask for a rule that does",
        Reason.KEYS_AWAY: "the keys that JWTs are checked with cannot be fetched at the moment: try again",
        Reason.BUSY: "too many credentials wait to be checked: try again",
    }.items()
}
"""For each reason its refusal."""

AGENT_REVOKED: Final = Refused(
    reason=Reason.REVOKED, message="this agent was revoked, by its ID: ask who runs the server"
)
"""What an agent is told whose ID is revoked, whatever credential it has."""


def not_allowed(action: Action, endpoint: str | None) -> Refused:
    """Refuse what no rule allows, and say which rule would."""
    wanted = action.value if endpoint is None else f"{action.value}:{endpoint}"
    message = f"the credential does not allow {wanted}: ask for a rule that does"
    return Refused(reason=Reason.NOT_ALLOWED, message=message)
