"""Numbers of the protocol that more than one part acts upon. docs/protocol.md tells each of them."""

from __future__ import annotations

from typing import Final

from pico_twisted.core.http1.head import HeadLimits

REQUEST_LIMITS: Final = HeadLimits(head_bytes=64 * 1024, fields=1200, target_bytes=40 * 1024)
"""Limits of a request's head that a node sends to an agent or to another node. The node has held its client to its own
limits and added fields since; what is left to the receiver is that one head fits one frame."""

RESPONSE_LIMITS: Final = HeadLimits(head_bytes=64 * 1024, fields=1200)
"""Limits of a response's head that an agent sends to a node, or a node to another. The agent has held its service to
its own limits."""

MAX_CALLS_PER_SESSION: Final = 100_000
"""Most calls of a node that may be open at once on one session of an agent. How many there are is the node's to decide;
this keeps a broken node from taking all of an agent's memory."""

MAX_GENERATION: Final = 2**48 - 1
"""Highest generation of a node, in milliseconds since 1970: the year 10889. No node can claim one that none of its
restarts would supersede."""

MAX_LINK_GENERATION: Final = 2**63 - 1
"""Highest generation that can stand in a node link's handshake, where nothing depends on how high it is."""

CLOSE_NORMAL: Final = 1000
"""WebSocket close code of a session whose place another one took, and of a session of TCP that is complete."""

REPLACED: Final = "replaced by a newer session"
"""What the reason of that close begins with; the address of the newer session follows."""

CLOSE_GOING_AWAY: Final = 1001
"""WebSocket close code of a process that ends in good order."""

CLOSE_PROTOCOL: Final = 1002
"""WebSocket close code for a peer that breaks the protocol."""

CLOSE_TOO_LARGE: Final = 1009
"""WebSocket close code for a peer whose message is larger than we take."""

CLOSE_INTERNAL: Final = 1011
"""WebSocket close code of a session of TCP that was cut; a stream in it may not be whole."""

CLOSES_IN_ORDER: Final = (CLOSE_NORMAL, CLOSE_GOING_AWAY, CLOSE_TOO_LARGE)
"""Codes of sessions that a node ended and that say nothing against dialling it again; the last one is the fault of a
single call."""

CLOSE_POLICY: Final = 1008
"""WebSocket close code for a peer that asks for more than it may, or does not prove who it is."""
