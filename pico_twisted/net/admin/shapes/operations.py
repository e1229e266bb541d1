"""What the admin port says of what operators ask for, as values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import attrs

CORDON_PATH: Final = "/cordon"
"""Path of the route that has a node take no new sessions of agents."""
DRAIN_PATH: Final = "/drain"
"""Path of the route that has a node's agents go elsewhere as well."""
UNCORDON_PATH: Final = "/uncordon"
"""Path of the route that takes back either."""
KICK_PATH: Final = "/kick"
"""Path of the route that ends the sessions of an agent."""
INTAKE_PATH: Final = "/status/intake"
"""Path of the route that tells what a node takes, and what is in progress there."""


@attrs.frozen(kw_only=True)
class Operated:
    """How a node stands. Of a host with workers it is the sum.

    Attributes:
        node: its ID, as it was asked for.
        intake: `open`, `cordoned`, `drained` or `stopping`.
        requests: in progress there, those that end by themselves.
        streams: in progress there, those that nobody ends.
        sessions: of agents that are there.
        elsewhere: other nodes that take agents.
        silent: workers of the host that did not answer.
    """

    node: str
    intake: str
    requests: int
    streams: int
    sessions: int
    elsewhere: int
    silent: int = 0

    @property
    def idle(self) -> bool:
        """Whether nothing is in progress there, and all agents are gone that another node takes."""
        return not (self.requests or self.streams or self.silent or (self.sessions and self.elsewhere))


@attrs.frozen(kw_only=True)
class Kicked:
    """What came of ending the sessions of an agent.

    Attributes:
        agent: its ID.
        ended: how many sessions that ends.
        until_s: until when it is refused, in seconds since 1970; 0 when it is not.
        nodes: those that know.
        unaware: why other nodes may not know, by node ID.
    """

    agent: str
    ended: int
    until_s: int = 0
    nodes: Sequence[str]
    unaware: Mapping[str, str] = attrs.field(factory=dict)
