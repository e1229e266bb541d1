"""What a node shows when it asks the admin port of another one for somebody.

What is needed. The asked node must know that a node of its cluster asks, and for whom: somebody who may look, or
somebody who may change things. Nobody may get more than they have, and nobody who sees a pass can use it for something
else.

What was chosen. A pass is an HMAC over everything that it says: the cluster, who asks whom, what that somebody may do,
what is asked for, when, and a nonce. The key comes out of a secret of the cluster, for this purpose alone. So a pass
that was recorded asks for the same once more, while it lasts, and for nothing else. Nodes without a secret make none.

    Authorization: Pico-Node <asking> <asked> <action> <issued> <nonce> <proof>

The IDs are quoted as in URLs, the time is in seconds since 1970, nonce and proof are in hexadecimal.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from typing import Final
from urllib.parse import quote, unquote

import attrs

from pico_twisted.core.access.rules import Action
from pico_twisted.core.links.proof import derived, joined

SCHEME: Final = "pico-node"
"""The scheme of the Authorization field, in lower case."""
LASTS_S: Final = 30.0
"""Seconds for which a pass counts, and by which the clocks of two nodes may differ."""
PASS_NONCE_BYTES: Final = 16
"""Random bytes in a pass."""
MAX_PASS_CHARS: Final = 1024
"""Most characters of a pass: two IDs of 64 bytes, quoted, and less than 200 besides."""

_LABEL: Final = b"pico node pass 1"
_ACTIONS: Final = {action.value: action for action in (Action.ADMIN_READ, Action.ADMIN_OPERATE)}


class PassError(Exception):
    """A pass does not count, and why, in words for whoever asked."""


@attrs.frozen(kw_only=True)
class NodePass:
    """What a pass says.

    Attributes:
        asking: ID of the node that asks.
        asked: ID of the node that is to answer.
        action: what the somebody for whom it asks may do at the asking node.
        target: what is asked for: method, path and query.
        issued_at: in seconds since 1970.
        nonce: `PASS_NONCE_BYTES` random bytes.
    """

    asking: str
    asked: str
    action: Action
    target: bytes
    issued_at: int
    nonce: bytes

    def _said(self) -> tuple[str, ...]:
        ids = (quote(self.asking, safe=""), quote(self.asked, safe=""))
        return (*ids, self.action.value, str(self.issued_at), self.nonce.hex())

    def proof(self, secret: bytes, cluster: str) -> bytes:
        """The proof that the asking node knows a secret of the cluster."""
        name = cluster.encode("utf-8")
        said = [text.encode("ascii") for text in self._said()]
        return hmac.digest(derived(secret, _LABEL, name, 32), joined(_LABEL, name, *said, self.target), hashlib.sha256)

    def written(self, secret: bytes, cluster: str) -> str:
        """The value of the Authorization field."""
        return " ".join(("Pico-Node", *self._said(), self.proof(secret, cluster).hex()))


def read_pass(text: str, secrets: Iterable[bytes], cluster: str, target: bytes, now: float) -> NodePass:
    """Read a pass, and check all but whether we are the node that is asked.

    Args:
        text: what is behind the scheme in the Authorization field.
        secrets: all that the cluster has now.
        cluster: its name.
        target: what is asked for, as of `NodePass`.
        now: in seconds since 1970.

    Raises:
        PassError: it does not count.
    """
    parts = text.split(" ")
    try:
        if len(text) > MAX_PASS_CHARS or len(parts) != 6 or not text.isascii():
            raise ValueError
        found = NodePass(
            asking=unquote(parts[0], errors="strict"),
            asked=unquote(parts[1], errors="strict"),
            action=_ACTIONS[parts[2]],
            target=target,
            issued_at=int(parts[3]),
            nonce=bytes.fromhex(parts[4]),
        )
        given = bytes.fromhex(parts[5])
    except (KeyError, ValueError):
        raise PassError("what it shows is no pass of a node") from None
    proofs = [found.proof(secret, cluster) for secret in secrets]
    if not proofs:
        raise PassError("it has no cluster.secrets, and nodes that have none authenticate to nobody")
    if not sum(hmac.compare_digest(given, proof) for proof in proofs):  # all are compared, in the same time
        raise PassError("the nodes have no secret of cluster.secrets in common, or are of different clusters")
    if not abs(now - found.issued_at) <= LASTS_S:
        raise PassError(f"the clocks of the nodes differ by more than {LASTS_S:g} s, or the pass was used before")
    return found
