"""What one node tells another one for its live page."""

from __future__ import annotations

from typing import Final

import attrs

from pico_twisted.net.admin.shapes.agents import Agents
from pico_twisted.net.admin.shapes.events import EventRow
from pico_twisted.net.admin.shapes.requests import RequestRow
from pico_twisted.net.admin.shapes.summary import NodeSummary

NEWS_PATH: Final = "/status/news"
"""Path of the route that tells it."""


@attrs.frozen(kw_only=True)
class NodeNews:
    """What is new at a node.

    Attributes:
        summary: how it is now.
        events: what happened there since it was asked last, the oldest first.
        failures: requests that failed since then, the oldest first.
        agents: that are there; None when they were not asked for.
    """

    summary: NodeSummary
    events: tuple[EventRow, ...] = ()
    failures: tuple[RequestRow, ...] = ()
    agents: Agents | None = None
