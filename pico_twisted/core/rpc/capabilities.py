"""What a peer understands beyond what every peer of its version does. What it did not list is never sent to it.

Both sides list it in the handshake, with commas between. What one does not know is ignored.
"""

from __future__ import annotations

from typing import Final

from pico_twisted.core.http1.fields import all_values
from pico_twisted.core.http1.head import RequestHead, ResponseHead

CAPABILITIES: Final = b"x-pico-capabilities"
"""The field of a handshake's request, and of its 101."""

CLIENT_CONNECTIONS: Final = b"client-connections"
"""Takes calls that say that a client's connection has ended."""

CREDENTIAL_CALLS: Final = b"credential"
"""A node: takes calls with which an agent shows a new credential on its session."""

DRAIN_TWICE: Final = b"drain-twice"
"""Takes the first drain on an agent's session for a wish to be the last choice, and the second one for its end."""

DIAL_BACK: Final = b"dial-back"
"""A node: dials who asks it over a link, to see whether that is reached."""

BODY_UPGRADE: Final = b"body-upgrade"
"""Takes requests that offer an upgrade and have a body, whose length is known."""

INTERIM_HEADS: Final = b"interim-heads"
"""Takes any number of interim heads before the final one."""

MAPS_SINCE: Final = b"maps-since"
"""A node: takes, of a map that it has up to a version, what stands above that, and not only the whole of it."""

NOT_SHARED: Final = b"not-shared"
"""A node: refuses others where an agent says that it will not share its endpoint."""

OPERATIONS: Final = b"operations"
"""A node: does over a link what an operator asks another node for."""

OWN_HEALTH: Final = b"own-health"
"""An agent: takes calls with which a node asks whether it has the CPU that it needs."""

REVOCATIONS: Final = b"revocations"
"""A node: takes revocations over a link, and tells those that it has."""

SERVICE_HEALTH: Final = b"service-health"
"""A node: takes calls with which an agent says how its service is."""

TCP_CALLS: Final = b"tcp"
"""Takes calls whose streams are those of a TCP connection."""

TRAILERS: Final = b"trailers"
"""Takes trailers at the end of the streams of http calls."""

ZERO_MASKS: Final = b"zero-masks"
"""Takes frames with a mask of zeros, from a client whose TLS hides what it sends. A node says so only on a connection
that reaches it by TLS: else somebody in between has taken that off, and sends on what others may read."""

_KNOWN: Final = frozenset(
    (
        BODY_UPGRADE,
        CLIENT_CONNECTIONS,
        CREDENTIAL_CALLS,
        DIAL_BACK,
        DRAIN_TWICE,
        INTERIM_HEADS,
        MAPS_SINCE,
        NOT_SHARED,
        OPERATIONS,
        OWN_HEALTH,
        REVOCATIONS,
        SERVICE_HEALTH,
        TCP_CALLS,
        TRAILERS,
        ZERO_MASKS,
    )
)


def _field(capabilities: frozenset[bytes]) -> dict[str, str]:
    return {CAPABILITIES.decode("ascii"): b", ".join(sorted(capabilities)).decode("ascii")}


OWN_CAPABILITIES: Final = _field(_KNOWN)
"""What we say, as a field of our handshake."""
PLAIN_CAPABILITIES: Final = _field(_KNOWN - {ZERO_MASKS})
"""What a node says of it on a connection without TLS."""


def capabilities_of(head: RequestHead | ResponseHead) -> frozenset[bytes]:
    """What the peer lists in its half of the handshake, of what we know."""
    if CAPABILITIES not in head.by_name:
        return frozenset()
    return _KNOWN.intersection(name.strip().lower() for name in all_values(head.fields, CAPABILITIES).split(b","))
