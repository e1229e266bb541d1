"""Values of the protocol that more than one part keeps to: see docs/protocol.md."""

from __future__ import annotations

from typing import Final

from pico_twisted.core.http1.head import HeadLimits

GOING_AWAY: Final = 1001
"""WebSocket close code of a session or a link that ends in good order; its peer may dial again at once."""

REQUEST_LIMITS: Final = HeadLimits(head_bytes=48 * 1024, fields=1200, target_bytes=40 * 1024)
"""Limits of a request's head behind the node that took it from its client. That node has held the client to its own
limits and added fields since; what is left to check is that one head fits one frame."""
