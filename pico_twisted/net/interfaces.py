"""What the parts of `net` ask of each other. No part imports another's concrete class where an interface is here."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import attrs
from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from pico_twisted.core.access.subject import Subject
from pico_twisted.core.http1.affinity import Tie
from pico_twisted.core.http1.head import RequestHead, ResponseHead
from pico_twisted.core.links.relay import RelayedRequest
from pico_twisted.core.protocol_limits import CLOSE_NORMAL
from pico_twisted.core.routing.affinity import Affinity
from pico_twisted.core.routing.latency import Latency
from pico_twisted.core.routing.other_server import OtherServer
from pico_twisted.core.rpc.call import Call
from pico_twisted.core.rpc.dialect import Dialect
from pico_twisted.core.rpc.service_health import ToldHealth


@attrs.frozen(kw_only=True)
class Closed:
    """How a session ended. `by_us` decides whether an agent reconnects; `clean` says that a close frame came."""

    by_us: bool
    clean: bool
    code: int | None
    reason: str


class CallFailed(Exception):
    """A call ended before its response did.

    Attributes:
        code: a reset code of `core.rpc.frames`, or `lost`.
        text: what else is known, for the log.
        safe: the call certainly never reached a service: it may be made again elsewhere, whatever its method.
    """

    def __init__(self, code: str, text: str, *, safe: bool) -> None:
        super().__init__(f"{code}: {text}" if text else code)
        self.code = code
        self.text = text
        self.safe = safe


class ICallReceiver(Interface):
    """Gets what arrives for one call, on either side of it. After `reset` or `lost` nothing follows.

    The receiver of an http call is an `IHttpReceiver`.
    """

    def frame(payload: bytes, more: bool) -> None:
        """A frame of the peer's stream. `more` is False on its last one, whose payload may be empty."""

    def reset(code: str, text: str) -> None:
        """The peer reset the call, or broke the protocol in it."""

    def lost() -> None:
        """The session ended."""

    def drained() -> None:
        """A writer that saw `call.queued` over `SEND_HIGH_BYTES` may go on."""


class IHttpReceiver(ICallReceiver):
    """Gets what arrives for one http call."""

    def trailers(block: bytes) -> None:
        """The peer's stream has ended with trailers, in place of its last `frame`: a valid block, which
        `core.http1.trailers` reads. What may not be in trailers has to be dropped yet."""


class ICallAcceptor(Interface):
    """Serves the calls that the peer of a tunnel opens."""

    def call_opened(tunnel: ITunnel, call: Call, kind: int, payload: bytes, more: bool) -> ICallReceiver | None:
        """A call was opened with its first frame.

        Args:
            tunnel: the session that the call came over.
            call: gets what is returned as its `receiver`, unless it has one already.
            kind: a frame type of `core.rpc.frames`.
            payload: what the first frame carries.
            more: whether further frames of the peer follow.

        Returns:
            The receiver of the call; None when the call was reset, or is over already.
        """

    def drain_requested(tunnel: ITunnel) -> None:
        """The peer drains: it opens no calls any more (an agent), or will close this session (a node)."""


class ICallee(Interface):
    """A peer on which calls can be made: the other end of a tunnel, or of a link that may not be open yet.

    A `call` given to it is one that `call` or `call_opened` gave; nothing happens on one that is over.
    """

    capabilities: frozenset[bytes] = Attribute("what it understands, of `core.rpc.capabilities`; none while not open")

    def call(kind: int, payload: bytes, more: bool, receiver: ICallReceiver) -> Call:
        """Open a call.

        Args:
            kind: a frame type of `core.rpc.frames`.
            payload: what the first frame carries; of an http call the whole head, perhaps with body bytes.
            more: whether our stream goes on after it.
            receiver: is told of what arrives, never before this returns.
        """

    def send(call: Call, data: bytes, more: bool) -> None:
        """Queue bytes of our stream, perhaps none; it ends behind them unless there is `more`."""

    def send_trailers(call: Call, block: bytes) -> None:
        """End our stream of an http call with trailers, or without them where the peer does not take any: a `block` as
        `core.http1.trailers` writes it, or an empty one."""

    def reset(call: Call, code: str, text: str = "") -> None:
        """Give the call up, with a reset code of `core.rpc.frames` and words for the peer. Its receiver is not told."""

    def consumed(call: Call, count: int) -> None:
        """Our consumer took that many payload bytes."""


class IHeardCallee(ICallee):
    """A peer of which is known when it gave its last sign of life."""

    heard_at: float = Attribute("when its last byte came, in the sweep's seconds; infinity while it is not open")
    cut_off: bool = Attribute("whether the kernel, which is asked, sees that nothing gets to the peer's machine")

    def ask() -> None:
        """Ask the peer for a sign of life, unless it is not open."""


class ICaller(ICallee):
    """A peer that makes calls, as those see it who serve them."""

    dialect: Dialect = Attribute("the version of the protocol that the peer speaks")


class ITunnel(ICaller, IHeardCallee):
    """One session over one WebSocket, as its users see it."""

    version: int = Attribute("of the protocol, for people")
    node_id: str | None = Attribute("the ID of the node at the other end, when it said so")
    agent_id: str = Attribute("who registered")
    agent_version: str = Attribute("of the agent's program; empty when it did not say")
    subject: Subject | None = Attribute("who the agent has shown to be; None at a port that does not authenticate")
    peer: str = Attribute("host:port of the other end, as text")
    rtt_s: float = Attribute("the last heartbeat's round trip; 0.0 before the first")
    near_rtt_s: float = Attribute("the same, without what round trips under load take longer")
    draining: bool = Attribute("the peer drains, or is told that we do")
    call_count: int = Attribute("calls open now, both ways")
    endpoint: str = Attribute("the endpoint ID that is registered, in lower case")
    alone: bool = Attribute("the agent will not share the endpoint with others")
    speaks: str = Attribute("what the service behind it speaks, as the agent says: `http`, `tcp` or another word")
    affinity: Affinity = Attribute("what ties the endpoint's clients to this agent, as it says")
    slot: str = Attribute("which of the agent's registrations of that endpoint this is")
    closed: Deferred[Closed] = Attribute("fires once, when the session ended")
    gone: Deferred[None] = Attribute("fires once, when the connection is closed too")

    def held_bytes() -> int:
        """Bytes that it makes the process hold."""

    def drain() -> Deferred[None]:
        """Tell the peer that we drain. A Deferred that fires when it answered (or cannot be told)."""

    def close(code: int = CLOSE_NORMAL, reason: str = "") -> None:
        """Close the WebSocket."""

    def abort() -> None:
        """Drop the connection."""


class IResponseSink(Interface):
    """Takes the response of a pending call, besides the Deferred of its head.

    The order is: `interim` for each 1xx head; the call's Deferred fires with the final head; `data` for each frame, the
    head's own included, until the last one, which is told with `ended`, or with `trailers_came` and an empty `ended`.
    A call that fails says so once, and nothing more: by its Deferred before the head, by `failed` behind it. `drained`
    may come at any time before the end.
    """

    def interim(head: ResponseHead) -> None:
        """A 1xx head came."""

    def data(data: bytes) -> None:
        """A frame came, with this piece of the body; there is none when the final head came alone."""

    def trailers_came(block: bytes) -> None:
        """The response ends with these trailers: `ended` follows at once, with nothing."""

    def ended(data: bytes, wants_no_more: bool) -> None:
        """The response is complete with this last piece of the body, which may be empty. It is told once more, with
        `wants_no_more`, when the callee then stops the request before its end."""

    def failed(error: CallFailed) -> None:
        """The response was cut short behind its head."""

    def drained() -> None:
        """What was queued of the request has gone: go on writing."""

    def may_give_up(cut_off: bool) -> bool:
        """Say whether the call had better fail before its response than wait for a peer that is silent, or cut off."""


class IPendingCall(Interface):
    """One http call that we made, until both of its streams have ended."""

    response: Deferred[ResponseHead] | None = Attribute(
        "of the final head, `CallFailed` or `Http1Error`, until it fired"
    )
    queued: int = Attribute("bytes of the request that wait for credit or for the connection")
    paused: bool = Attribute("whether it grants no credit for now")
    over: bool = Attribute("whether both streams have ended, or it was given up")
    never_ends: bool = Attribute("whether its response has begun, and goes on until somebody cuts it")
    kind: int = Attribute("its type, of `core.rpc.frames`")

    def send(data: bytes, more: bool) -> None:
        """Send body bytes of the request; `more=False` ends it."""

    def send_trailers(block: bytes) -> None:
        """End the request with trailers; empty for none."""

    def cancel(code: str, text: str = "") -> None:
        """Give the call up. Nothing more comes of it. Idempotent."""

    def shut() -> None:
        """The node stops: cut the response, for the client and for the callee. Idempotent."""

    def pause() -> None:
        """The client's transport holds enough: grant no credit for what comes."""

    def resume() -> None:
        """The client's transport took what it held."""


class IRoute(Interface):
    """One way that a request can go: to a registration of an agent, or over a link to another node."""

    name: str = Attribute("for the log: the ID of the agent or node")
    node_id: str = Attribute("the ID of the other node; empty when an agent of this node is at the end")
    callee: IHeardCallee = Attribute("who is called")
    latency: Latency = Attribute("what is seen of its answers")
    max_replay_bytes: int = Attribute("how much of a body is kept until the response begins, to be sent elsewhere")

    def open(request: IDownstream, body: bytes, more: bool, sink: IResponseSink) -> IPendingCall:
        """Open a call.

        Args:
            request: writes its head as the next hop gets it.
            body: the part of its body that has come.
            more: whether the body goes on.
            sink: takes the response.

        Raises:
            Http1Error: the request cannot go this way, and what is to be answered.
        """

    def not_here(endpoint: str) -> bool:
        """The callee refused a request, since it does not hold the endpoint. Returns whether that is believed."""


class IRouter(Interface):
    """What the data path asks of the ClusterService."""

    node_id: str = Attribute("this node's ID")
    draining: bool = Attribute("whether this node is shutting down")

    def take(endpoint: str, tried: Collection[IRoute], request: IDownstream | None = None) -> IRoute | None:
        """Choose the route of a request's next call, and move the turn on. This may dial another node.

        Args:
            endpoint: its ID in lower case.
            tried: what is not chosen again.
            request: what may tie it to a way: all of a client's connection that has a name go the same one.

        Returns:
            The route, or None when no other route leads to the endpoint.

        Raises:
            Http1Error: 503, a limit of calls or memory is reached.
        """

    def client_gone(client: bytes) -> None:
        """The client's connection of that name has ended: tell those who served it. Idempotent."""

    def has_other(endpoint: str, tried: Collection[IRoute]) -> bool:
        """Say whether a route other than those that were tried leads to the endpoint. Changes nothing."""

    def has_living(endpoint: str, tried: Collection[IRoute]) -> bool:
        """The same of one that is not silent, here or at the node that the requests come from. Changes nothing."""


class ILinks(Interface):
    """What the ClusterService asks of the node links."""

    def link(node_id: str) -> IHeardCallee:
        """The link to another node, to make calls on at once, and asked for again for each call. It is opened on
        demand; the calls wait for that, and are lost, not started, if it fails."""

    def load(node_id: str) -> int | None:
        """Our calls in flight to the node; None when calls are not likely to get there."""


class IRegistry(Interface):
    """What the upstream port asks of the ClusterService."""

    node_id: str = Attribute("this node's ID")
    takes_agents: bool = Attribute("whether new sessions are let in")

    def others() -> Collection[str]:
        """The IDs of the other nodes that take agents."""

    def other_servers(
        endpoint: str, agent_id: str, own_nodes: Collection[str], subject: Subject | None
    ) -> Sequence[OtherServer]:
        """Who serves an endpoint besides an agent, which has sessions at its own nodes. It hears of others that are not
        the same subject only that they are there."""

    def session_of(endpoint: str, agent_id: str, slot: str) -> ITunnel | None:
        """The session that a new one of that agent, endpoint and slot would replace."""

    def register(tunnel: ITunnel) -> None:
        """A session is open: its endpoint can be served. Replaces one of the same agent, endpoint and slot."""

    def resign(tunnel: ITunnel) -> bool:
        """The session is the last choice from now on. Returns whether that is news."""

    def service_is(tunnel: ITunnel, told: ToldHealth) -> None:
        """The agent says how the service behind its session is. While that is out the session is the last choice."""

    def deregister(tunnel: ITunnel) -> None:
        """The session is gone. Idempotent."""


class IDownstream(Interface):
    """Where a routed request came from, and its answer goes. It is told `done` when nothing more will come.

    What it is told leaves at once, but for `begin`, which is followed by `write` or `finish` in the same turn.
    """

    head: RequestHead | RelayedRequest = Attribute("of the request")
    endpoint: str = Attribute("the endpoint ID that was decided for it, in lower case")
    client_connection: bytes = Attribute("the name of the client's connection; empty when it has none")
    kind: int = Attribute("the type of the calls that it becomes, of `core.rpc.frames`: HTTP or TCP")

    def tie() -> Tie:
        """What ties the request to an agent, asked where the endpoint has affinity: our cookie is taken out with it."""

    def write_head(endpoint: bytes | None, length: int | None, upgrades: bool) -> bytes:
        """Return the request's head as the next hop gets it.

        Args:
            endpoint: for another node, the endpoint ID that it has to serve.
            length: the Content-Length to give; None for the head's own.
            upgrades: an offer to upgrade goes along.

        Raises:
            Http1Error: the request must not go on, and what is to be answered.
        """

    def interim(head: ResponseHead) -> None:
        """Send a 1xx head."""

    def begin(head: ResponseHead) -> None:
        """Send the final head, or a 101, behind which both directions are raw bytes."""

    def write(data: bytes) -> None:
        """Send a piece of the body, perhaps an empty one behind the head."""

    def write_trailers(block: bytes) -> None:
        """Take the trailers that the response ends with, as an `IHttpReceiver` got them: an empty `finish` follows."""

    def finish(data: bytes) -> None:
        """Send the last piece of the body, perhaps an empty one: the response is complete."""

    def cut() -> None:
        """The response cannot be completed: let the client see that."""

    def fail(status: int, message: str, code: str) -> None:
        """Answer with an error of ours, whose message is one sentence, and whose code is for the log, too; only before
        `begin`."""

    def pause_request() -> None:
        """Give no more of the request's body for now."""

    def resume_request() -> None:
        """Go on giving the request's body."""

    def stop_request() -> None:
        """The rest of the request's body is not wanted: end the connection behind the response."""

    def done() -> None:
        """The request is over; log it."""
