"""What the status routes say, as values. Both sides use them: the admin port writes them, its clients read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar, cast, get_origin

import attrs
import cattrs

from pico_twisted.core.access.rules import Action
from pico_twisted.core.access.subject import Refused, Subject

S = TypeVar("S")

GossipValue = str | int
"""What a key of a node may hold."""

AGENT_PATH: Final = "/status"
"""What an agent's admin port shows of it; nodes have no such path."""
NO_SUCH_NODE: Final = "no such node"
"""What the error of a 404 begins with when a node is unknown: so its clients tell that from a path that is."""

RELOAD_PATH: Final = "/reload"
"""Path of the route that has a process read its configuration again."""
OPERATOR: Final = "x-pico-operator"
"""Name of the field that says who asks for a change. Any value will do; it is logged."""

WHOAMI_PATH: Final = "/whoami"
"""Path of the route that tells whoever shows a credential who they are at each port."""

AGENTS_PATH: Final = "/status/upstream/agents"
"""Path of the route that tells a node's own agents; other nodes ask it."""

MAX_SESSIONS: Final = 1000
"""Most sessions of agents that one node tells: more are for no person to read, and to write them takes time."""

MAX_SUSPICION: Final = 1000.0
"""Where suspicion ends as far as it is told: JSON knows no infinity, and by then a node is long unreachable."""


def _told_suspicion(value: float) -> float:
    return min(value, MAX_SUSPICION) if value >= 0 else 0.0  # neither comparison holds for what is no number


@attrs.frozen(kw_only=True)
class _Node:
    """What the list of nodes and the page of one have in common.

    Attributes:
        id: its node ID.
        status: `active`, `draining` while it shuts down, `unreachable` when it has been silent for too long, `left`
            when it said that it ends.
        proxy_addr: where proxy clients reach it, `host:port`.
        admin_addr: where operators reach it.
        gossip_addr: where nodes reach it; empty when it takes part in no cluster.
        version: of its program.
    """

    id: str
    status: str
    proxy_addr: str
    admin_addr: str
    gossip_addr: str = ""
    version: str = ""


@attrs.frozen(kw_only=True)
class NodeRow(_Node):
    """A node in the list of nodes.

    Attributes:
        endpoints: how many endpoint IDs its agents have registered.
        upstreams: how many registrations that are, counting each agent's.
        link: `open` when the node that was asked has a link to it, or why none could be opened lately; empty when none
            was needed.
    """

    endpoints: int = 0
    upstreams: int = 0
    link: str = ""


@attrs.frozen(kw_only=True)
class NodeDetail(_Node):
    """One node with the endpoints themselves.

    Attributes:
        endpoints: registrations of each endpoint ID.
        link: as in `NodeRow`.
        public_url: where clients reach endpoints, as the node that was asked is told; empty for another one.
    """

    endpoints: Mapping[str, int] = attrs.field(factory=dict)
    link: str = ""
    public_url: str = ""

    def row(self) -> NodeRow:
        """The same node for the list."""
        return NodeRow(
            id=self.id,
            status=self.status,
            link=self.link,
            proxy_addr=self.proxy_addr,
            admin_addr=self.admin_addr,
            gossip_addr=self.gossip_addr,
            version=self.version,
            endpoints=len(self.endpoints),
            upstreams=sum(self.endpoints.values()),
        )


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
class GossipRow:
    """What gossip knows of a node, in the list of nodes.

    Attributes:
        id: its node ID.
        generation: of its start; a later start has a higher one.
        status: as in `NodeRow`.
        local: whether it is the node that was asked.
        heartbeat: the newest one that is known.
        version: of its keys: how far the changes are known that it made to them.
        floor: deletes up to this version are forgotten; who knows less needs all of its keys again.
        entries: how many keys it has.
        tombstones: how many deleted keys are still remembered.
        suspicion: how unlikely its silence is, from 0 on; see `MAX_SUSPICION`.
        heard_s: seconds since it was last known to be alive, 0 for the node that was asked; None when it never was.
    """

    id: str
    generation: int
    status: str
    local: bool
    heartbeat: int
    version: int
    floor: int
    entries: int
    tombstones: int
    suspicion: float = attrs.field(converter=_told_suspicion)
    heard_s: float | None


@attrs.frozen(kw_only=True)
class GossipEntry:
    """A key's value, and the version in which it was written."""

    value: GossipValue
    version: int


@attrs.frozen(kw_only=True)
class GossipDetail:
    """What gossip knows of one node: as `GossipRow`, but with the entries themselves.

    Attributes:
        keys: its keys.
    """

    id: str
    generation: int
    status: str
    local: bool
    heartbeat: int
    version: int
    floor: int
    tombstones: int
    suspicion: float = attrs.field(converter=_told_suspicion)
    heard_s: float | None
    keys: Mapping[str, GossipEntry] = attrs.field(factory=dict)

    def row(self) -> GossipRow:
        """The same node for the list."""
        return GossipRow(
            id=self.id,
            generation=self.generation,
            status=self.status,
            local=self.local,
            heartbeat=self.heartbeat,
            version=self.version,
            floor=self.floor,
            entries=len(self.keys),
            tombstones=self.tombstones,
            suspicion=self.suspicion,
            heard_s=self.heard_s,
        )


@attrs.frozen(kw_only=True)
class Reloaded:
    """What came of a reload: all of it was taken, or nothing.

    Attributes:
        changed: what is different from now on, in words.
        needs_restart: keys whose new values take a restart.
        warnings: what else an operator should know.
        faults: what is wrong; with one, nothing was changed.
    """

    changed: tuple[str, ...] = ()
    needs_restart: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()

    def line(self) -> str:
        """What was taken, in one line."""
        line = "; ".join(self.changed) or "nothing has changed"
        if self.needs_restart:
            verb = "needs" if len(self.needs_restart) == 1 else "need"
            line += f" (unchanged: {', '.join(self.needs_restart)} {verb} a restart)"
        return line


ACTIONS: Final[Mapping[str, tuple[Action, ...]]] = {
    "proxy": (Action.CONNECT,),
    "upstream": (Action.LISTEN,),
    "admin": (Action.ADMIN_READ, Action.ADMIN_OPERATE),
}
"""What the ports ask of a subject, by their names."""


@attrs.frozen(kw_only=True)
class KnownAs:
    """Who somebody is at one port.

    Attributes:
        authenticates: whether the port asks anybody.
        subject: their name; empty when the credential does not count there.
        kind: of the credential: `token`, `jwt` or `certificate`.
        rules: what it allows at this port, as they are written.
        expires_at: when it ends, in seconds since 1970; None when it does not.
        refused: why it does not count, in words; empty when it does.
    """

    authenticates: bool = True
    subject: str = ""
    kind: str = ""
    rules: tuple[str, ...] = ()
    expires_at: float | None = None
    refused: str = ""

    @classmethod
    def of(cls, found: Subject | Refused, port: str) -> KnownAs:
        """What a gate of this port found."""
        if isinstance(found, Refused):
            return cls(refused=found.message)
        rules = tuple(str(rule) for rule in found.rules if rule.action in ACTIONS[port])
        return cls(subject=found.name, kind=found.kind.value, rules=rules, expires_at=found.expires_at)


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
        sessions: all that are alive.
    """

    endpoint: str
    service: str
    protocol: str = "http"
    url: str = ""
    registered: bool
    in_flight: int
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


def _checked(value: object, kind: type[S]) -> S:
    """A plain value as it is: cattrs would make a text out of a null, and a number out of a text."""
    fits = isinstance(value, kind) or (kind is float and isinstance(value, int))
    if not fits or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"not a {kind.__name__}")
    return cast(S, value)


def _gossip_value(value: object, _: object) -> GossipValue:
    return value if isinstance(value, str) else _checked(value, int)


_converter = cattrs.Converter()
for _kind in (str, int, float, bool):
    _converter.register_structure_hook(_kind, _checked)
_converter.register_structure_hook_func(lambda kind: kind == GossipValue, _gossip_value)


class ShapeError(ValueError):
    """What a server said is not what the route is for."""


def to_json(value: object) -> Any:  # that is what JSON is
    """A shape, or lists and maps of them, as what JSON can hold."""
    return _converter.unstructure(value)


def read(data: object, kind: type[S]) -> S:
    """A shape, or a list or map of them, out of decoded JSON. Keys that a newer node added are ignored.

    Raises:
        ShapeError: it is not of that kind.
    """
    if not isinstance(data, get_origin(kind) or dict):
        raise ShapeError("not what was asked for")
    try:
        return _converter.structure(data, kind)
    except (cattrs.BaseValidationError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise ShapeError("not what was asked for") from error  # cattrs raises what its code stumbles over
