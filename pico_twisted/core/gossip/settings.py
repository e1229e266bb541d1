"""What the gossip of a node is told."""

from __future__ import annotations

import attrs


@attrs.frozen(kw_only=True)
class GossipSettings:
    """What a node is told.

    Attributes:
        node_id: 1 to 64 bytes.
        cluster: the cluster's name.
        secrets: the first one seals; without any nothing is sealed.
        interval_s: seconds between two rounds.
        max_packet_bytes: most bytes of a UDP payload, the seal included.
        host: the ID of the host of which it is one of several workers; "" when it is on its own.
        forget_s: seconds after which a dead node is forgotten.
    """

    node_id: str
    cluster: str = "pico"
    secrets: tuple[str, ...] = ()
    interval_s: float = 0.5
    max_packet_bytes: int = 1400
    host: str = ""
    forget_s: float = 300.0
