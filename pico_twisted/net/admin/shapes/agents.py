"""What is told of agents, by nodes and by themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import attrs

MAX_SESSIONS: Final = 1000
"""Most sessions of agents that one node tells: more are for no person to read, and to write them takes time."""


@attrs.frozen(kw_only=True)
class AgentSession:
    """A session of an agent at a node, which serves one endpoint.

    Attributes:
        agent: ID of the agent.
        address: where it connects from, `host:port`.
        version: of its program; empty when it did not say.
        node: ID of the node.
        endpoint, protocol: that it serves, and what the service speaks.
        url: where clients reach that; empty when no URL leads there, or the node does not know.
        since_s: seconds since it registered.
        rtt_s: the last round trip; None before the first.
        in_flight: calls in progress.
        draining: it gets calls only where nobody else can serve.
        out_for_s: seconds since its service went out, as the agent says: then it gets none that others can serve; None
            while it is there.
        standing: `slow`, `stalled` (calls wait, and none is answered) or `silent` (no sign of life) when it gets few
            calls for that, as the node sees it; else empty.
        first_byte_s: the time to the first byte then, in the mean or of what counts against it; else None.
        subject: who the agent has shown to be; empty where agents need not.
    """

    agent: str
    address: str
    version: str = ""
    node: str
    endpoint: str
    protocol: str = "http"
    url: str = ""
    since_s: float
    rtt_s: float | None = None
    in_flight: int = 0
    draining: bool = False
    out_for_s: float | None = None
    standing: str = ""
    first_byte_s: float | None = None
    subject: str = ""


@attrs.frozen(kw_only=True)
class Agents:
    """The agents of a node, or of all.

    Attributes:
        sessions: of the nodes that told; those that are too many are left out.
        more: how many were left out.
        unanswered: why other nodes did not tell, by node ID.
    """

    sessions: tuple[AgentSession, ...] = ()
    more: int = 0
    unanswered: Mapping[str, str] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class SessionRow:
    """One session of an agent.

    Attributes:
        node: the ID of the node; empty when it did not say it.
        url: that was dialled.
        current: whether the node sends new calls over it; else it only serves what it has.
        age_s: seconds since it was opened.
        rtt_s: seconds of the last round trip.
        credential_until: when the credential ends that holds it, in seconds since 1970; None when it does not, or the
            node did not say.
    """

    node: str
    url: str
    current: bool
    age_s: float
    rtt_s: float
    credential_until: float | None = None


@attrs.frozen(kw_only=True)
class ListenerRow:
    """One listener of an agent.

    Attributes:
        endpoint: its endpoint ID.
        service, protocol: where the service listens, and what it speaks.
        url: where clients reach the endpoint, as a node told it; empty when none did.
        registered: whether new calls can come.
        in_flight: calls that are being served.
        out_for_s: seconds since the service went out; None while it is there, as far as the agent knows.
        why_out: what it did wrong, in words; empty while it is there.
        sessions: all that are alive.
    """

    endpoint: str
    service: str
    protocol: str = "http"
    url: str = ""
    registered: bool
    in_flight: int
    out_for_s: float | None = None
    why_out: str = ""
    sessions: Sequence[SessionRow] = ()


@attrs.frozen(kw_only=True)
class AgentDetail:
    """What an agent knows of itself.

    Attributes:
        id: its agent ID.
        version: of its program.
        ready: whether at least one listener is registered, and the agent does not stop.
        reason: why it is not ready.
        listeners: in the order of the configuration.
    """

    id: str
    version: str
    ready: bool
    reason: str
    listeners: Sequence[ListenerRow]
