"""What is asked of tunnels and of calls on them, by whoever makes or serves calls; and what the upstream port asks."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import attrs
from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from pico_twisted.core.access.subject import Subject
from pico_twisted.core.protocol_limits import CLOSE_NORMAL
from pico_twisted.core.routing.affinity import Affinity
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
