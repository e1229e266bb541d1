"""One link to another node, from the first call that is made on it.

What is needed. A request for an endpoint that another node holds goes there over one connection that is opened when it
is first needed. The first request must not wait for more than it has to, and none may be lost or doubled because the
connection could not be made.

What was chosen. A link can be called at once, whether or not it is open: it has a session of its own, in which calls
queue, and which the connection takes over when the handshake is done. If that fails, the calls are told that they are
lost; none of them has started, so they may be made elsewhere, whatever their method. They are told in a turn of their
own: the maker of a call is never called back before the call is made.
"""

from __future__ import annotations

import enum
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from pico_twisted.core.protocol_limits import CLOSE_GOING_AWAY
from pico_twisted.core.rpc.call import Call
from pico_twisted.core.rpc.frames import CANCELLED, HTTP, REFUSED_NOT_HERE, TCP
from pico_twisted.core.rpc.session import SessionV2
from pico_twisted.core.sweep import NEVER
from pico_twisted.net.links.handshake import LinkClientProtocol
from pico_twisted.net.tunnel import Closed, TunnelParts
from pico_twisted.net.tunnel.interfaces import ICallAcceptor, ICallReceiver, IHeardCallee, ITunnel

log = Logger()


class LinkOwner(Protocol):
    """What a link asks of the `NodeLinks` that made it, and tells it."""

    parts: TunnelParts

    def new_session(self) -> SessionV2: ...
    def link_proven(self, link: Link) -> None: ...
    def link_failed(self, link: Link, failure: Failure) -> None: ...

    def link_closed(self, link: Link, closed: Closed, proven: bool) -> None:
        """A link was open, and is not any more; its calls are lost right after this.

        Args:
            link: which one.
            closed: how its session ended.
            proven: whether the other node had proved who it is.
        """

    def link_drains(self, link: Link) -> None: ...


class _State(enum.Enum):
    """Where in its life a link is."""

    DIALLING = enum.auto()  # calls wait for the connection
    OPEN = enum.auto()
    GIVEN_UP = enum.auto()  # what is called is lost in the next turn


@implementer(IHeardCallee, ICallAcceptor)
class Link:
    """What can be called on another node. Made by `NodeLinks` only, which is asked for it again for each call.

    See `ICallee` for what is not documented here.

    Args:
        links: of the node.
        node_id: of the other node.

    Attributes:
        node_id: of the other node.
        session: where calls wait for the connection, which takes it over.
    """

    def __init__(self, links: LinkOwner, node_id: str) -> None:
        self.node_id = node_id
        self._links = links
        self.session = links.new_session()
        self._state = _State.DIALLING
        self._attempt: Deferred[LinkClientProtocol] | None = None
        self._tunnel: LinkClientProtocol | None = None
        self._proven = False
        self._losing: IDelayedCall | None = None
        self._trying: list[Deferred[None]] = []

    def __repr__(self) -> str:
        return f"<Link to {self.node_id}, {self._state.name.lower()}>"

    # ICallee

    @property
    def is_open(self) -> bool:
        """Calls leave at once."""
        return self._state is _State.OPEN

    @property
    def call_count(self) -> int:
        """Calls open now, or waiting."""
        return self.session.call_count()

    @property
    def draining(self) -> bool:
        """The other node will close this link."""
        return self._tunnel is not None and self._tunnel.draining

    @property
    def capabilities(self) -> frozenset[bytes]:
        """What the other node understands; nothing is known before the link is open."""
        return self._tunnel.capabilities if self._tunnel is not None else frozenset()

    @property
    def peer(self) -> str:
        """host:port of the other end; empty before the link is open."""
        return self._tunnel.peer if self._tunnel is not None else ""

    @property
    def heard_at(self) -> float:
        """See `IHeardCallee.heard_at`."""
        return NEVER if self._tunnel is None else self._tunnel.heard_at

    def held_bytes(self) -> int:
        """Bytes that this link makes the process hold."""
        return self._tunnel.held_bytes() if self._tunnel is not None else self.session.held_bytes()

    def call(self, kind: int, payload: bytes, more: bool, receiver: ICallReceiver) -> Call:
        """See `ICallee.call`. The call waits here until the link is open."""
        if kind in (HTTP, TCP):
            self._links.parts.metrics.link_call(True)
        tunnel = self._tunnel
        if tunnel is not None:
            return tunnel.call(kind, payload, more, receiver)
        call = self.session.call(kind, payload, more)
        call.receiver = receiver
        if self._state is _State.GIVEN_UP:
            self._lose_soon()
        return call

    def send(self, call: Call, data: bytes, more: bool) -> None:
        """See `ICallee.send`."""
        tunnel = self._tunnel
        if tunnel is not None:
            tunnel.send(call, data, more)
        else:
            self.session.send(call, data, more)

    def send_trailers(self, call: Call, block: bytes) -> None:
        """See `ICallee.send_trailers`. Whether the other node takes them is looked at when it is their turn."""
        tunnel = self._tunnel
        if tunnel is not None:
            tunnel.send_trailers(call, block)
        else:
            self.session.send_trailers(call, block)

    def reset(self, call: Call, code: str, text: str = "") -> None:
        """See `ICallee.reset`."""
        tunnel = self._tunnel
        if tunnel is not None:
            tunnel.reset(call, code, text)
        else:
            self.session.reset(call, code, text)

    def consumed(self, call: Call, count: int) -> None:
        """See `ICallee.consumed`."""
        tunnel = self._tunnel
        if tunnel is not None:
            tunnel.consumed(call, count)

    def tried(self) -> Deferred[None]:
        """Fires when the link is open, or will not be."""
        tried: Deferred[None] = Deferred()
        if self._state is _State.DIALLING:
            self._trying.append(tried)
        else:
            tried.callback(None)
        return tried

    # What NodeLinks does

    def dialled(self, attempt: Deferred[LinkClientProtocol]) -> None:
        """The one attempt of this link was begun; it takes over our session."""
        if self._state is _State.DIALLING:
            self._attempt = attempt
        attempt.addCallbacks(self._opened, self._failed)
        attempt.addBoth(self._was_tried)
        attempt.addErrback(lambda failure: log.failure("A link failed by a fault of ours", failure))

    def _opened(self, tunnel: LinkClientProtocol) -> None:
        self._attempt = None
        if self._state is not _State.DIALLING:
            tunnel.abort()
            return
        self._state = _State.OPEN
        self._tunnel = tunnel
        tunnel.closed.addCallback(self._closed)

    def _was_tried(self, outcome: Failure | None) -> Failure | None:
        trying, self._trying = self._trying, []
        for tried in trying:
            tried.callback(None)
        return outcome

    def _failed(self, failure: Failure) -> None:
        self._attempt = None
        if self._state is _State.DIALLING:
            self.give_up()
            self._links.link_failed(self, failure)

    def proven(self) -> None:
        """The other node believes us."""
        self._proven = True
        self._links.link_proven(self)

    def _closed(self, closed: Closed) -> Closed:
        """The session ended; its calls are told right after this."""
        self._state = _State.GIVEN_UP
        self._tunnel = None
        self.session = self._links.new_session()
        self._links.link_closed(self, closed, self._proven)
        return closed

    def give_up(self) -> None:
        """There will be no connection: lose what is called, in the next turn of the reactor."""
        self._state = _State.GIVEN_UP
        self._lose_soon()

    def _lose_soon(self) -> None:
        if self._losing is None:
            self._losing = self._links.parts.clock.callLater(0, self._lose)

    def _lose(self) -> None:
        self._losing = None
        session = self.session
        for call in session.calls():
            receiver = call.receiver
            session.reset(call, CANCELLED)
            try:
                if receiver is not None:
                    receiver.lost()
            except Exception:
                log.failure("A call could not be ended", node=self.node_id)

    def ask(self) -> None:
        """See `IHeardCallee.ask`."""
        if self._tunnel is not None:
            self._tunnel.ask()

    @property
    def cut_off(self) -> bool:
        """See `IHeardCallee.cut_off`."""
        return self._tunnel is not None and self._tunnel.cut_off

    def silent_since(self, then: float) -> bool:
        """Whether the connection is open and nothing came over it since then (in the sweep's seconds)."""
        return self.heard_at < then

    def close_if_idle(self) -> None:
        """Close a link whose calls are done."""
        if self._tunnel is not None and not self._tunnel.call_count:
            self._tunnel.close(CLOSE_GOING_AWAY, "no calls are left")

    def end(self, *, politely: bool) -> Deferred[None] | None:
        """Give everything up. Returns what fires when the connection is gone, if there is one."""
        attempt, self._attempt = self._attempt, None
        tunnel = self._tunnel
        if tunnel is not None:
            if politely:
                tunnel.close(CLOSE_GOING_AWAY, "node is shutting down")
            else:
                tunnel.abort()
            return tunnel.gone
        self._state = _State.GIVEN_UP
        if attempt is not None:
            attempt.cancel()
        if self._losing is not None:
            self._losing.cancel()
        self._lose()
        return None

    # ICallAcceptor

    def call_opened(self, tunnel: ITunnel, call: Call, kind: int, payload: bytes, more: bool) -> None:
        """Nothing is served to the node that we called; its own calls come over its own link."""
        tunnel.reset(call, REFUSED_NOT_HERE)

    def drain_requested(self, tunnel: ITunnel) -> None:
        """The other node will close this link."""
        self._links.link_drains(self)
