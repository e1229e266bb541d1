"""Who somebody is at each port."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import attrs

from pico_twisted.core.access.rules import Action
from pico_twisted.core.access.subject import Refused, Subject

ACTIONS: Final[Mapping[str, tuple[Action, ...]]] = {
    "proxy": (Action.CONNECT,),
    "upstream": (Action.LISTEN,),
    "admin": (Action.ADMIN_READ, Action.ADMIN_OPERATE),
}
"""What the ports ask of a subject, by their names."""


@attrs.frozen(kw_only=True)
class KnownAs:
    """Who somebody is at one port.

    Attributes:
        authenticates: whether the port asks anybody.
        subject: their name; empty when the credential does not count there.
        kind: of the credential: `token`, `jwt` or `certificate`.
        rules: what it allows at this port, as they are written.
        expires_at: when it ends, in seconds since 1970; None when it does not.
        refused: why it does not count, in words; empty when it does.
    """

    authenticates: bool = True
    subject: str = ""
    kind: str = ""
    rules: tuple[str, ...] = ()
    expires_at: float | None = None
    refused: str = ""

    @classmethod
    def of(cls, found: Subject | Refused, port: str) -> KnownAs:
        """What a gate of this port found."""
        if isinstance(found, Refused):
            return cls(refused=found.message)
        rules = tuple(str(rule) for rule in found.rules if rule.action in ACTIONS[port])
        return cls(subject=found.name, kind=found.kind.value, rules=rules, expires_at=found.expires_at)
