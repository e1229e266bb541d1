"""A request that came over a node link: the callee of its call, and the downstream of the `Forward` to an agent.

What is needed. The client, the agent and its service must not be able to tell whether a request crossed a link. So what
an agent can do to a call, the link does to its own: interim heads, upgrades, half-closes, credit both ways, *stop*, a
response that is cut. The node that took the request has decided its endpoint, set all fields and holds the timers; here
nothing of that is done again.

What can go wrong. The agent's call fails. Was a service reached? If it certainly was not, the call is refused, and the
other node may send the request elsewhere, a POST too. If one may have been, the call fails. Errors that are about the
request itself, such as a body that is too large for an agent of version 1, are answered as a response, for no other
node would say anything else.

Heads go on as the bytes that they came as where that is possible (see `core.links.relay`), a response's together with
the body bytes that came with it: one frame in, one frame out.
"""

from __future__ import annotations

import enum
from functools import partial
from typing import TYPE_CHECKING, Final

from zope.interface import implementer

from pico_twisted.core.http1.errors import Http1Error
from pico_twisted.core.http1.forwarding import error_response, request_from_link, response_onto_link
from pico_twisted.core.http1.head import KEEP, Keep, RequestHead, ResponseHead
from pico_twisted.core.links.relay import RelayedRequest, relayed_request
from pico_twisted.core.protocol_limits import REQUEST_LIMITS
from pico_twisted.core.routing.endpoint import HEADER, normal_endpoint_id
from pico_twisted.core.rpc.call import Call
from pico_twisted.core.rpc.frames import (
    CANCELLED,
    FAILED,
    PROTOCOL,
    REFUSED_BUSY,
    REFUSED_DRAINING,
    REFUSED_NOT_HERE,
    TIMEOUT,
)
from pico_twisted.core.rpc.http import INTERIM_BYTES, CallProtocolError, RequestStream
from pico_twisted.core.rpc.session_base import SEND_HIGH_BYTES
from pico_twisted.net.interfaces import ICallReceiver, IDownstream
from pico_twisted.net.routing.forward import Forward, ForwardSettings
from pico_twisted.net.routing.linger import LINGER_S, Linger

if TYPE_CHECKING:
    from pico_twisted.net.tunnel import Tunnel

_REFUSALS: Final = {
    "no-upstreams": REFUSED_NOT_HERE,
    "busy": REFUSED_BUSY,
    "draining": REFUSED_DRAINING,
}
"""Codes of errors of our own that say: nothing was done."""


class _Stage(enum.Enum):
    """Where in its life a request is."""

    OPEN = enum.auto()  # the forward lives
    LINGERING = enum.auto()  # the response is queued, the request has not ended, and goes nowhere
    OVER = enum.auto()


_OPEN = _Stage.OPEN
_LINGERING = _Stage.LINGERING
_OVER = _Stage.OVER


@implementer(ICallReceiver, IDownstream)
class LinkRequest:
    """Serves one http call of another node.

    Args:
        settings: for its `Forward`: the router knows the registrations of this node alone, and no wait has an end.
        tunnel: the link that the call is on.
        call: the call.
        node_id: of this node, named in answers of our own.
    """

    __slots__ = (
        "_call",
        "_forward",
        "_head_only",
        "_interim_bytes",
        "_lingering",
        "_node_id",
        "_out",
        "_owed",
        "_pauses_request",
        "_request_ended",
        "_settings",
        "_stage",
        "_stream",
        "_unwanted",
        "_tunnel",
    )

    def __init__(self, settings: ForwardSettings, tunnel: Tunnel, call: Call, node_id: str) -> None:
        self._settings = settings
        self._tunnel = tunnel
        self._call = call
        self._node_id = node_id
        self._stage = _OPEN
        self._forward: Forward | None = None
        # the request
        self._stream: RequestStream | None = None  # of a request that is read in full
        self._head_only = False
        self._request_ended = False
        self._pauses_request = False
        self._owed = 0  # payload that came while the request is paused
        # the response
        self._out = b""  # what came with one frame, to leave with one
        self._interim_bytes = 0
        self._unwanted = False  # the rest of the request
        self._lingering: Linger | None = None

    @property
    def over(self) -> bool:
        """Nothing more comes of it."""
        return self._stage is _OVER

    # The request (ICallReceiver)

    def start(self, payload: bytes, more: bool) -> None:
        """Take the call's first frame."""
        relayed = relayed_request(payload, REQUEST_LIMITS)
        head: RequestHead | RelayedRequest
        if relayed is not None:
            head, body = relayed
            endpoint = normal_endpoint_id(head.endpoint)
        else:
            self._stream = RequestStream(REQUEST_LIMITS)
            try:
                events = self._stream.feed(payload, more)
            except (Http1Error, CallProtocolError) as error:
                self._give_up(PROTOCOL, str(error))
                return
            assert isinstance(events[0], RequestHead)
            head = events[0]
            endpoint = normal_endpoint_id(head.by_name.get(HEADER) or b"")
            body = events[1] if len(events) > 1 and type(events[1]) is bytes else b""
        if endpoint is None:
            self._give_up(PROTOCOL, "no valid endpoint id")
            return
        self._request_ended = not more
        self._head_only = head.method == b"HEAD"
        forward = self._forward = Forward(self._settings, self, head, endpoint, _write_head)
        forward.start(body, not more)
        self._took(len(payload))

    def frame(self, payload: bytes, more: bool) -> None:
        """A further frame of the request."""
        forward = self._forward
        if forward is None:
            if self._stage is _LINGERING and not more:
                self._over()
            return
        if self._stream is not None:
            try:
                self._stream.feed(payload, more)
            except (Http1Error, CallProtocolError) as error:
                self._give_up(PROTOCOL, str(error))
                return
        if payload:
            forward.body(payload)
        if not more:
            self._request_ended = True
            forward.body_ended()
        self._took(len(payload))

    def _took(self, count: int) -> None:
        """The forward took payload, or has it lying with the agent's call, and said that this is enough for now."""
        if self._pauses_request:
            self._owed += count
        else:
            self._tunnel.consumed(self._call, count)

    def reset(self, code: str, text: str) -> None:
        """The other node gave up: its client left, its time was up, or the agent's answer was against the rules.

        The agent is told the same.
        """
        self._drop(code if code in (TIMEOUT, PROTOCOL) else CANCELLED)

    def lost(self) -> None:
        """The link is gone."""
        self._drop()

    def drained(self) -> None:
        """The response's queue is short again."""
        if self._forward is not None:
            self._forward.resume()

    # The response (IDownstream)

    def interim(self, head: ResponseHead) -> None:
        """Pass a 1xx on."""
        data = response_onto_link(head)
        self._interim_bytes += len(data)
        if self._interim_bytes <= INTERIM_BYTES:
            self._tunnel.send(self._call, data, True)

    def begin(self, head: ResponseHead) -> None:
        """Send the final head, or a 101, with what comes behind it in the same frame."""
        if head.status == 101 and self._stream is not None:
            self._stream.upgraded()
        self._out = response_onto_link(head)

    def write(self, data: bytes) -> None:
        """Send body bytes."""
        self._out += data

    def flush(self) -> None:
        """Let what came with one frame leave."""
        if self._out:
            self._send(True)

    def finish(self) -> None:
        """The response is complete, or the agent closed its direction of the upgraded protocol."""
        self._send(False)

    def _send(self, more: bool) -> None:
        out, self._out = self._out, b""
        call = self._call
        self._tunnel.send(call, out, more)
        if call.queued > SEND_HIGH_BYTES and more and self._forward is not None:
            self._forward.pause()

    def cut(self) -> None:
        """The response cannot be completed."""
        self.flush()
        forward = self._forward
        self._reset(TIMEOUT if forward is not None and forward.error == TIMEOUT else FAILED)

    def _reset(self, code: str, text: str = "") -> None:
        """Reset the call, behind what came of the response in this turn: the client may still see that, and a reset
        would overtake it. What then waits for credit is lost, as it would be with an agent."""
        tunnel, call = self._tunnel, self._call
        end_of_turn = tunnel.parts.end_of_turn
        if end_of_turn is None or not call.queued:
            tunnel.reset(call, code, text)
        else:
            end_of_turn.add(partial(tunnel.reset, call, code, text))

    def fail(self, status: int, message: str, code: str) -> None:
        """No response will come from here: say whether one could come from elsewhere."""
        forward = self._forward
        assert forward is not None
        if status < 500:
            self._unwanted = True
            answer = error_response(
                status, message, hop=self._node_id, code=code, close=False, head_only=self._head_only
            )
            self._tunnel.send(self._call, answer, False)
            return
        if status == 504:
            reset = TIMEOUT
        elif forward.reached:
            reset = FAILED
        else:
            reset = _REFUSALS.get(code) or self._why_refused(forward)
        self._reset(reset, message)

    def _why_refused(self, forward: Forward) -> str:
        """The registrations that were tried took nothing of the request: are there any left?"""
        left = self._settings.router.choose(forward.endpoint, ())
        return REFUSED_NOT_HERE if left is None else REFUSED_DRAINING

    def pause_request(self) -> None:
        """Grant no credit for what comes."""
        self._pauses_request = True

    def resume_request(self) -> None:
        """Grant it, and that which was kept back."""
        self._pauses_request = False
        owed, self._owed = self._owed, 0
        if owed:
            self._tunnel.consumed(self._call, owed)

    def stop_request(self) -> None:
        """The rest of the body is not wanted."""
        self._unwanted = True

    def done(self) -> None:
        """The forwarding is over."""
        if self._forward is None:
            return
        self._forward = None
        if self._request_ended or self._call.closed:
            self._over()
        else:
            self._linger(0.0 if self._unwanted else LINGER_S)

    # Endings

    def _linger(self, patience_s: float) -> None:
        self._stage = _LINGERING
        self._lingering = Linger(self._settings.sweep, self._tunnel, self._call, patience_s, self._over)
        self._lingering.begin()

    def _give_up(self, code: str, text: str) -> None:
        self._tunnel.reset(self._call, code, text)
        self._drop()

    def _drop(self, code: str = CANCELLED) -> None:
        """Nobody wants the response any more: let the agent know why."""
        forward, self._forward = self._forward, None
        self._over()
        if forward is not None:
            forward.gone(code)

    def _over(self) -> None:
        if self._lingering is not None:
            self._lingering.end()
        self._stage = _OVER
        self._call.receiver = None  # no cycle is left for the collector


def _write_head(head: RequestHead | RelayedRequest, length: int | Keep | None, to_node: bool) -> bytes:
    if isinstance(head, RelayedRequest):
        if length is KEEP:
            return head.raw
        head = head.whole
    return request_from_link(head, length)
