"""What the admin port says of revocations, as values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import attrs

REVOKE_PATH: Final = "/revoke"
"""Path of the route that revokes somebody at all nodes, or takes that back."""
REVOCATIONS_PATH: Final = "/status/revocations"
"""Path of the route that tells who is revoked."""


@attrs.frozen(kw_only=True)
class RevocationRow:
    """Somebody who is revoked.

    Attributes:
        name: of a credential, or the ID of an agent.
        kind: `name` or `agent`.
        at_s: when that was said, in seconds since 1970.
        until_s: when it ends; 0 for never.
        by: who said it.
    """

    name: str
    kind: str
    at_s: float
    until_s: int
    by: str


@attrs.frozen(kw_only=True)
class Revoked:
    """What came of a revocation, or of taking one back.

    Attributes:
        name: who is meant.
        revoked: whether they are revoked now.
        until_s: when that ends, in seconds since 1970; 0 for never.
        kept: whether the node that was asked has it when it starts again and finds no other node.
        nodes: those that know; the one that was asked is the first.
        unaware: why other nodes may not know, by node ID.
        ended: how many sessions of agents and requests in progress that ends, at the nodes that know.
    """

    name: str
    revoked: bool
    until_s: int
    kept: bool
    nodes: Sequence[str]
    unaware: Mapping[str, str]
    ended: int
