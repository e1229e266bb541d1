"""A session of an agent, with what the agent knows of how it came about."""

from __future__ import annotations

import attrs

from pico_twisted.net.tunnel import TunnelClientProtocol


@attrs.define(eq=False, kw_only=True)
class ActiveConnection:
    """One registration that is alive.

    Attributes:
        tunnel: the session itself.
        url: the address that it was dialled at.
        number: the second half of its slot.
        opened_at: monotonic seconds.
        handshake_s: what it took to open it.
    """

    tunnel: TunnelClientProtocol
    url: str
    number: int
    opened_at: float
    handshake_s: float
