"""Notices agents that have one ID and throw each other out.

A registration replaces one of the same agent ID, endpoint and slot: mostly its own, whose connection died without a
word. Two agents that have one ID, on a machine that was copied or from one file, replace each other in turn. That shows
only by its repetition: an agent behind a bad network may replace its own session, but not that of a minute ago again.
"""

from __future__ import annotations

from typing import Final

from twisted.logger import Logger

from pico_twisted.core.sweep import Sweep
from pico_twisted.net.observe.repeated_warning import RepeatedWarning
from pico_twisted.net.routing.routes import AgentRoute

log = Logger()

SOON_S: Final = 600.0
"""Seconds within which a replacement follows another one that is due to the same cause: agents of ours wait up to half
of it before they take a place back."""
MANY: Final = 3
"""Replacements, each soon after the one before, that are no accident."""


class Takeovers:
    """The replacements of one node.

    Args:
        sweep: tells the time.
    """

    def __init__(self, sweep: Sweep) -> None:
        self._sweep = sweep
        self._warning = RepeatedWarning()

    def happened(self, replaced: AgentRoute, by: AgentRoute) -> None:
        """A registration took the place of another one; warn if that happens again and again."""
        now = self._sweep.now
        by.takeovers = 1 if now - replaced.taken_at > SOON_S else replaced.takeovers + 1
        by.taken_at = now
        if by.takeovers < MANY:
            return
        suppressed = self._warning.due(f"{by.agent_id} {by.endpoint}", now)
        if suppressed is not None:
            log.warn(
                "Two agents have the ID {agent_id} and take {endpoint} from each other: give each its own agent_id",
                agent_id=by.agent_id,
                endpoint=by.endpoint,
                peer=by.tunnel.peer,
                other_peer=replaced.tunnel.peer,
                suppressed=suppressed,
            )
