"""What the parts of a routed request ask of each other, and what they ask of links and ports."""

from __future__ import annotations

from collections.abc import Collection

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from pico_twisted.core.http1.affinity import Tie
from pico_twisted.core.http1.head import RequestHead, ResponseHead
from pico_twisted.core.links.relay import RelayedRequest
from pico_twisted.core.routing.latency import Latency
from pico_twisted.net.tunnel.interfaces import IHeardCallee


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
