"""What is new at this node, for its own page and for those of others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import attrs

from pico_twisted.net.admin.shapes.news import NodeNews
from pico_twisted.net.admin.shapes.summary import NodeSummary
from pico_twisted.net.admin.status import INodeStatus
from pico_twisted.net.admin.watching import Memory, Question

MOST_ROWS: Final = 100
"""Most events, and most failures, of one answer."""
AT_LINK: Final = "link"
"""Port of a request that another node tells of as well, the one that its client asked."""


@attrs.frozen(kw_only=True, eq=False)
class OwnNews:
    """Puts it together.

    Attributes:
        status: of this node.
        memory: of what happened here.
        summary: how busy this node is.
    """

    status: INodeStatus
    memory: Memory
    summary: Callable[[], NodeSummary]

    def __call__(self, since_s: float, agents: bool) -> NodeNews:
        """The news.

        Args:
            since_s: nothing older, in seconds since 1970.
            agents: whether to tell the agents too.
        """
        question = Question(since_s=since_s, failed=True, limit=MOST_ROWS)
        failures = self.memory.requests_for(question).rows  # which also keeps those that are fine for the next look
        return NodeNews(
            summary=self.summary(),
            events=tuple(self.memory.events_for(question).rows),
            failures=tuple(row for row in failures if row.port != AT_LINK),
            agents=self.status.agents("") if agents else None,
        )
