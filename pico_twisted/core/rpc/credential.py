"""What the frames of a credential call say: a token from the agent, and what the node thinks of it.

docs/protocol.md describes the format for other implementations; this module is its only codec.
"""

from __future__ import annotations

import re
from typing import Final

import attrs

from pico_twisted.core.text import printable

MAX_CREDENTIAL_BYTES: Final = 8 * 1024
"""Most bytes of a token that is shown: what a field of a handshake may have, with its name."""
MAX_VERDICT_BYTES: Final = 512
"""Most bytes of the answer."""

_ACCEPTED: Final = re.compile(r"accepted(?: ([0-9]{1,10})| .*)?")


@attrs.frozen(kw_only=True)
class Verdict:
    """What a node thinks of a credential that an agent has shown on its session.

    Attributes:
        accepted: the session is held by it from now on; else it goes on with the one before.
        expires_at: when it ends, in seconds since 1970; None when it does not, or the node did not say.
        words: why it was refused.
    """

    accepted: bool
    expires_at: float | None = None
    words: str = ""


def encode_verdict(verdict: Verdict) -> bytes:
    """Return the payload of the answer."""
    if verdict.accepted:
        return b"accepted" if verdict.expires_at is None else b"accepted %d" % verdict.expires_at
    whole = f"refused {printable(verdict.words)}".encode("utf-8", "replace")[:MAX_VERDICT_BYTES]
    return whole.decode("utf-8", "ignore").encode("utf-8")


def decode_verdict(payload: bytes) -> Verdict:
    """Return what an answer says. What is no acceptance is a refusal."""
    text = payload[:MAX_VERDICT_BYTES].decode("utf-8", "replace")
    accepted = _ACCEPTED.fullmatch(text)
    if accepted is not None:
        return Verdict(accepted=True, expires_at=float(accepted[1]) if accepted[1] else None)
    return Verdict(accepted=False, words=printable(text.removeprefix("refused").strip()))
