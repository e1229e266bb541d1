"""Ways that a request can go from this node: to an agent of its own, or over a link to another node.

A route knows how the head of a request is written for its next hop, and how a call begins there. A route to an agent of
version 1 is in `net.routing.v1`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, cast

import attrs
from zope.interface import implementer

from pico_twisted.core.access.ceilings import Over
from pico_twisted.core.access.rules import NO_LIMITS, Action, Rule
from pico_twisted.core.access.subject import Subject
from pico_twisted.core.http1.affinity import AGENT
from pico_twisted.core.http1.errors import Http1Error
from pico_twisted.core.http1.forwarding import without_te
from pico_twisted.core.http1.head import HeadLimits, ResponseHead
from pico_twisted.core.http1.trailers import TE_LINE
from pico_twisted.core.links.relay import RelayedRequest, RelayedResponse, meant_for
from pico_twisted.core.routing.affinity import Affinity, is_short_id, short_id
from pico_twisted.core.routing.latency import Latency
from pico_twisted.core.routing.table import ACTIVE, ClusterTable
from pico_twisted.core.rpc.capabilities import TCP_CALLS, TRAILERS
from pico_twisted.core.rpc.frames import TCP
from pico_twisted.core.rpc.http import ResponseReader, ResponseStream
from pico_twisted.core.rpc.service_health import Standing
from pico_twisted.net.access.ceilings import NodeCeilings, answer_to, leave_all
from pico_twisted.net.observe.metrics import Metrics
from pico_twisted.net.routing.interfaces import IDownstream, IPendingCall, IResponseSink, IRoute
from pico_twisted.net.routing.pending_call import PendingCall
from pico_twisted.net.routing.unsupported import UnsupportedCall
from pico_twisted.net.tunnel.interfaces import IHeardCallee, ITunnel

_UP = Standing.UP
_OUT = Standing.OUT
_TRIAL = Standing.TRIAL

MAX_REPLAY_BYTES: Final = 64 * 1024
"""Most bytes of a body that are kept until the response begins, so that the request can be made again."""


@attrs.frozen(kw_only=True)
class RouteParts:
    """What all routes of a node share.

    Attributes:
        pending: every call in flight.
        metrics: counts them.
        head_limits: for the heads of responses.
        ceilings: that calls to agents come in under.
        seconds: tells the time.
        unwell: what is known of the routes that do not answer well.
    """

    pending: set[IPendingCall] = attrs.field(factory=set)
    metrics: Metrics
    head_limits: HeadLimits
    ceilings: NodeCeilings
    seconds: Callable[[], float]
    unwell: dict[Latency, None] = attrs.field(factory=dict)


@implementer(IRoute)
class AgentRoute:
    """The route to one registration of an agent of this node.

    Args:
        parts: shared.
        tunnel: the agent's session.

    Attributes:
        tunnel, callee: the same.
        calls: those in flight on it.
        latency: what is seen of its answers.
        rows: where its calls are counted.
        resigned: the agent asked for calls only where nobody else can serve.
        standing: of the service, as the agent tells it. A trial is over, for us, with the call that it lets through.
        out_since: when the service went out, in the sweep's seconds; of no meaning while it is up.
        takeovers, taken_at: how many registrations have taken this place from another one in turn, and when this one
            did; see `takeovers`.
        endpoint, agent_id, slot: what it is registered as.
        registered_at: when, in the sweep's seconds.
        short_id: by which it goes where clients are tied to agents; empty where they are not.
    """

    node_id = ""
    registered_at = 0.0

    def __init__(self, parts: RouteParts, tunnel: ITunnel) -> None:
        self.tunnel = self.callee = tunnel
        self.endpoint = tunnel.endpoint
        self.agent_id = self.name = tunnel.agent_id
        self.slot = tunnel.slot
        self.calls: set[IPendingCall] = set()
        self.latency = Latency(self.endpoint, self.name, "", self.calls, parts.unwell)
        self.max_replay_bytes = MAX_REPLAY_BYTES
        self.resigned = False
        self.standing = _UP
        self.out_since = 0.0
        self.takeovers = 0
        self.taken_at = 0.0
        self._parts = parts
        self.rows: tuple[set[IPendingCall], ...] = (parts.pending, self.calls)
        tied = tunnel.affinity is not Affinity.NONE
        self.short_id = short_id(tunnel.endpoint, tunnel.agent_id) if tied else ""
        self._asked: tuple[Subject | None, Rule | None] = (None, None)  # whose rule was looked for, and what was found

    @property
    def last_choice(self) -> bool:
        """Whether it gets new calls only where no other one can: the agent drains, or its service is out."""
        return self.standing is _OUT or self.tunnel.draining

    def rows_for(self, subject: Subject) -> tuple[set[IPendingCall], ...]:
        """Where a call that begins now is counted, under the rule that lets a subject serve the endpoint, too.

        Raises:
            Http1Error: 429 or 503, a limit of the rule is reached.
        """
        if self._asked[0] is not subject:
            self._asked = (subject, subject.rule_for(Action.LISTEN, self.endpoint))
        rule = self._asked[1]
        if rule is None or rule.limits is NO_LIMITS:
            return self.rows
        begins = object()
        entered = self._parts.ceilings.of_rule(begins, subject, rule)
        if isinstance(entered, Over):
            status, message, code = answer_to(entered)
            raise Http1Error(status, code, message)
        leave_all(entered, begins)  # the call itself takes its place
        return (*self.rows, *(cast("set[IPendingCall]", ceiling.inside) for ceiling in entered if ceiling.most))

    def open(self, request: IDownstream, body: bytes, more: bool, sink: IResponseSink) -> IPendingCall:
        """Call the agent. See `IRoute.open`."""
        parts = self._parts
        if self.standing is _TRIAL:
            self.standing = _OUT  # until the agent says what came of it
        rows = self.rows if self.tunnel.subject is None else self.rows_for(self.tunnel.subject)
        head = request.head
        reader: ResponseReader
        if type(head) is RelayedRequest:
            reader = RelayedResponse(parts.head_limits, head.method, False)
        else:
            reader = ResponseStream(parts.head_limits, head.method, head.upgrade is not None)
        parts.metrics.call_started("agent")
        payload = request.write_head(None, None, True)
        if TRAILERS not in self.tunnel.capabilities and TE_LINE in payload:
            payload = without_te(payload)
        call = PendingCall(rows, self, parts.seconds, reader, sink, payload, body, more, request.kind)
        if head.upgrade is not None and not head.has_body:
            call.asked()
        if self.tunnel.affinity is Affinity.COOKIE and call.response is not None:
            call.response.addCallback(request.tie().served_by, self.short_id)
        return call

    def not_here(self, endpoint: str) -> bool:
        """Do not believe an agent: it is registered for the endpoint. See `IRoute.not_here`."""
        return False


class SeenNode:
    """What is known of another node, for one endpoint.

    Args:
        parts: shared.
        endpoint, node_id: which.

    Attributes:
        latency: what is seen of its answers.
        rows: where calls that go there are counted.
    """

    __slots__ = ("latency", "rows")

    def __init__(self, parts: RouteParts, endpoint: str, node_id: str) -> None:
        calls: set[IPendingCall] = set()
        self.latency = Latency(endpoint, node_id, node_id, calls, parts.unwell)
        self.rows = (parts.pending, calls)


@implementer(IRoute)
class NodeRoute:
    """The route to another node, which holds the endpoint.

    Args:
        parts: shared.
        link: to the node.
        node_id: of it.
        table: where it stands.
        seen: what is known of it for the endpoint.
        agent: the short ID of the agent there that is meant; empty for any.
    """

    __slots__ = ("_agent", "_parts", "_rows", "_table", "callee", "latency", "name", "node_id", "max_replay_bytes")

    def __init__(
        self,
        parts: RouteParts,
        link: IHeardCallee,
        node_id: str,
        table: ClusterTable,
        seen: SeenNode,
        agent: str = "",
    ) -> None:
        self._parts = parts
        self._agent = agent
        self.callee = link
        self.latency = seen.latency
        self._rows = seen.rows
        self._table = table
        self.name = self.node_id = node_id
        self.max_replay_bytes = MAX_REPLAY_BYTES

    def open(self, request: IDownstream, body: bytes, more: bool, sink: IResponseSink) -> IPendingCall:
        """Call the node, which chooses an agent of its own. See `IRoute.open`.

        That the client takes trailers is told in any case: what the node understands is not known before the link is
        open, and old ones pass that on to agents, which drop it.
        """
        parts = self._parts
        head = request.head
        if request.kind == TCP and self.callee.capabilities and TCP_CALLS not in self.callee.capabilities:
            return UnsupportedCall()
        node = self._table.nodes.get(self.node_id)
        parts.metrics.call_started("node" if node is not None and node.status == ACTIVE else "draining-node")
        reader = ResponseStream(parts.head_limits, head.method, head.upgrade is not None)
        payload = request.write_head(request.endpoint.encode("ascii"), None, True)
        if self._agent:
            payload = meant_for(payload, self._agent)
        call = PendingCall(self._rows, self, parts.seconds, reader, sink, payload, body, more, request.kind)
        if head.upgrade is not None and not head.has_body:
            call.asked()
        if request.endpoint in self._table.affinity.endpoints and call.response is not None:
            call.response.addCallback(self._served, request)
        return call

    def _served(self, head: ResponseHead, request: IDownstream) -> ResponseHead:
        """The node has told which agent served, if a cookie is to tell the client."""
        agent = head.special.get(AGENT, b"").decode("ascii", "replace")
        return request.tie().served_by(head, agent) if is_short_id(agent) else head

    def not_here(self, endpoint: str) -> bool:
        """Believe the node over the gossip, which may be late. See `IRoute.not_here`."""
        self._table.not_here(endpoint, self.node_id)
        return True
