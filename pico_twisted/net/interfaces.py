"""What the parts of `net` ask of each other. No part imports another's concrete class where an interface is here."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from zope.interface import Attribute, Interface


class ICallReceiver(Interface):
    """Gets what arrives for one call, on either side of it. After `reset` or `lost` nothing follows."""

    def frame(payload: bytes, more: bool) -> None:
        """A frame of the peer's stream. `more` is False on its last one, whose payload may be empty."""

    def reset(code: str, text: str) -> None:
        """The peer reset the call, or broke the protocol in it."""

    def lost() -> None:
        """The session ended."""

    def drained() -> None:
        """A writer that saw `call.queued` over `SEND_HIGH_BYTES` may go on."""


class ICallAcceptor(Interface):
    """Serves the calls that the peer of a tunnel opens."""

    def call_opened(tunnel: Any, call: Any, kind: int, payload: bytes, more: bool) -> Any:
        """A call was opened with its first frame. Returns its `ICallReceiver`, or None when it was reset."""

    def drain_requested(tunnel: Any) -> None:
        """The peer drains: it opens no calls any more (an agent), or will close this session (a node)."""


class ITunnel(Interface):
    """One session over one WebSocket, as its users see it."""

    version = Attribute("1 or 2")
    node_id = Attribute("of the node at the other end, when it said so")
    agent_id = Attribute("who registered")
    endpoint = Attribute("the endpoint ID that is registered, in lower case")
    slot = Attribute("which of the agent's registrations of that endpoint this is")
    peer = Attribute("host:port of the other end, as text")
    rtt_s = Attribute("the last heartbeat's round trip; 0.0 before the first")
    draining = Attribute("the peer drains, or is told that we do")
    closed = Attribute("a Deferred that fires once with a Closed, when the session ended")
    gone = Attribute("a Deferred that fires once with None, when the connection is closed too")
    call_count = Attribute("calls open now, both ways")

    def call(kind: int, payload: bytes, more: bool, receiver: Any) -> Any:
        """Open a call whose events go to `receiver`. Returns the Call."""

    def send(call: Any, data: bytes, more: bool) -> None:
        """Queue bytes of our stream; more=False ends it. Nothing happens on a call that is over."""

    def reset(call: Any, code: str, text: str = "") -> None:
        """Give the call up. Nothing happens on a call that is over."""

    def consumed(call: Any, count: int) -> None:
        """Our consumer took that many payload bytes."""

    def drain() -> Any:
        """Tell the peer that we drain. A Deferred that fires when it answered (or cannot be told)."""

    def close(code: int = 1000, reason: str = "") -> None:
        """Close the WebSocket."""

    def abort() -> None:
        """Drop the connection."""


class IRouter(Interface):
    """What the data path asks of the ClusterService."""

    node_id = Attribute("this node's ID")
    draining = Attribute("whether this node is shutting down")

    def choose(endpoint: str, excluded: Any) -> Any:
        """The registration that a call for the endpoint goes to, or None."""

    def not_here(node_id: str, endpoint: str) -> None:
        """The other node refused a call since it does not hold the endpoint."""

    def full(registration: Any) -> bool:
        """Whether the registration has as many calls as one session may."""

    def busy() -> bool:
        """Whether a limit of calls or memory is reached."""

    def call(registration: Any, payload: bytes, more: bool, *, method: bytes, upgrade_asked: bool, sink: Any) -> Any:
        """Open an http call. Returns a PendingCall, whose `response` is a Deferred of the final head."""


class ILinks(Interface):
    """What the ClusterService asks of the node links."""

    def link(node_id: str) -> Any:
        """The link to another node: something like an `ITunnel`, to make calls on at once, and asked for again for each
        call. It is opened on demand; the calls wait for that, and are lost, not started, if it fails."""

    def load(node_id: str) -> int | None:
        """Our calls in flight to the node; None when calls are not likely to get there."""

    def usable(node_id: str) -> bool:
        """Whether calls to the node are likely to get there: it does not drain, and no attempt failed just now."""

    def heard(node_id: str) -> None:
        """The node was heard of and lives: try it again soon."""

    def doubt(node_id: str) -> None:
        """The node seems dead: drop the link unless it answers soon."""

    def fetch(node_id: str, request: bytes) -> Any:
        """Ask the node for the maps of all nodes. Returns a Deferred of its answer; see `NodeLinks.fetch`."""


class IRegistry(Interface):
    """What the upstream port asks of the ClusterService."""

    node_id = Attribute("this node's ID")
    draining = Attribute("whether this node is shutting down")

    def others() -> Collection[str]:
        """The IDs of the other nodes that take agents."""

    def register(tunnel: Any) -> None:
        """A session is open: its endpoint can be served. Replaces one of the same agent, endpoint and slot."""

    def deregister(tunnel: Any) -> None:
        """The session is gone. Idempotent."""


class IDownstream(Interface):
    """Where a forwarded request came from, and its answer goes. It is told `done` when nothing more will come."""

    def interim(head: Any) -> None:
        """Send a 1xx head."""

    def begin(head: Any) -> None:
        """Send the final head, or a 101, behind which both directions are raw bytes."""

    def write(data: bytes) -> None:
        """Send body bytes."""

    def flush() -> None:
        """Let what was given so far leave; called once for each frame of the response."""

    def finish() -> None:
        """The response is complete."""

    def cut() -> None:
        """The response cannot be completed: let the client see that."""

    def fail(status: int, message: str, code: str) -> None:
        """Answer with an error of ours; only before `begin`."""

    def pause_request() -> None:
        """Give no more of the request's body for now."""

    def resume_request() -> None:
        """Go on giving the request's body."""

    def stop_request() -> None:
        """The rest of the request's body is not wanted: end the connection behind the response."""

    def done() -> None:
        """The forwarding is over; log it."""
