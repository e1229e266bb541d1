"""A request that came over a node link: the callee of its call, and the downstream of the `RoutedRequest` to an agent.

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

from functools import partial
from time import perf_counter
from typing import Final

from twisted.web.http import datetimeToString
from zope.interface import implementer

from pico_twisted.core.http1.affinity import AGENT, LinkTie
from pico_twisted.core.http1.answers import error_response
from pico_twisted.core.http1.client_connection import CLIENT_CONNECTION, name_of
from pico_twisted.core.http1.errors import Http1Error
from pico_twisted.core.http1.forwarding import request_from_link, response_onto_link
from pico_twisted.core.http1.head import RequestHead, ResponseHead
from pico_twisted.core.links.relay import RelayedRequest, relayed_request, told_of
from pico_twisted.core.protocol_limits import REQUEST_LIMITS
from pico_twisted.core.routing.endpoint import ENDPOINT_IDS, HEADER
from pico_twisted.core.rpc.call import Call, Stream
from pico_twisted.core.rpc.frames import (
    CANCELLED,
    FAILED,
    PROTOCOL,
    REFUSED_DRAINING,
    REFUSED_NOT_HERE,
    TCP,
    TIMEOUT,
    UNSUPPORTED,
)
from pico_twisted.core.rpc.http import CallProtocolError, RequestStream
from pico_twisted.core.rpc.interim import InterimHeads
from pico_twisted.core.rpc.session_base import SEND_HIGH_BYTES
from pico_twisted.net.observe.metrics.requests import FAILED_FROM
from pico_twisted.net.observe.requests import CLIENT_LEFT
from pico_twisted.net.observe.tracing import LINK, HopSpan
from pico_twisted.net.routing.interfaces import IDownstream
from pico_twisted.net.routing.linger import CALLER_LINGER_S, Linger
from pico_twisted.net.routing.refusals import (
    BAD_RESPONSE,
    NOT_HTTP,
    NOT_TCP,
    NOTHING_DONE,
    RESPONSE_TOO_LARGE,
    UNREACHABLE,
    UPSTREAM_TIMEOUT,
)
from pico_twisted.net.routing.routed_request import RoutedRequest
from pico_twisted.net.routing.settings import RoutingSettings
from pico_twisted.net.routing.tcp_request import TcpRequest
from pico_twisted.net.routing.upgrade_request import UpgradeRequest
from pico_twisted.net.socket.end_of_turn import EndOfTurn
from pico_twisted.net.tunnel.interfaces import IHttpReceiver, ITunnel

_OPEN = Stream.OPEN
_LEFT: Final = (CLIENT_LEFT, "client-gone")
_RESETS: Final = {TIMEOUT: (504, UPSTREAM_TIMEOUT), PROTOCOL: (502, BAD_RESPONSE)}
"""What became of a request that the other node resets, by the code: its status, and the code of its error."""


@implementer(IHttpReceiver, IDownstream)
class LinkRequest:
    """Serves one call of another node.

    Args:
        settings: the router knows the registrations of this node alone, and no wait has an end.
        tunnel: the link that the call is on.
        call: the call.
        end_of_turn: of the process, if what one turn brings leaves together.

    Attributes:
        head, endpoint, client_connection, kind: of the request.
        over: nothing more comes of it.
    """

    __slots__ = (
        "_agent",
        "_call",
        "_end_of_turn",
        "_interims",
        "_linger",
        "_out",
        "_owed",
        "_pauses_request",
        "_reader",
        "_routed",
        "_settings",
        "_started_at",
        "_status",
        "_span",
        "_trailers",
        "_tunnel",
        "_unwanted",
        "client_connection",
        "endpoint",
        "head",
        "kind",
        "over",
    )

    head: RequestHead | RelayedRequest
    endpoint: str
    client_connection: bytes
    _agent: bytes  # that the other node means

    def __init__(self, settings: RoutingSettings, tunnel: ITunnel, call: Call, end_of_turn: EndOfTurn | None) -> None:
        self._settings = settings
        self._tunnel = tunnel
        self._call = call
        self.kind = call.kind
        self._end_of_turn = end_of_turn
        self._routed: RoutedRequest | None = None
        self._span: HopSpan | None = None  # of a request that is recorded
        self.over = False
        self._reader: RequestStream | None = None  # of a request that is read in full
        self._pauses_request = False
        self._owed = 0  # payload that came while the request is paused
        # the response
        self._out = b""  # the head, until what came with it is here
        self._trailers = b""  # that it ends with
        self._interims: InterimHeads | None = None  # of a response that has some
        self._unwanted = False  # the rest of the request
        self._linger: Linger | None = None  # while the response is queued, and the request goes nowhere
        self._status = 0  # of the response, as far as it is known here
        self._started_at = perf_counter()

    # The request (IHttpReceiver)

    def start(self, payload: bytes, more: bool) -> None:
        """Take the call's first frame."""
        if (tracer := self._settings.tracer) is not None and (joined := tracer.joined(LINK, payload)) is not None:
            self._span, payload = joined
        relayed = relayed_request(payload, REQUEST_LIMITS)
        if relayed is not None:
            self.head, body = relayed
            name = relayed[0].endpoint
            self.client_connection = relayed[0].client_connection
            self._agent = relayed[0].agent
        else:
            self._reader = RequestStream(REQUEST_LIMITS)
            try:
                events = self._reader.feed(payload, more)
            except (Http1Error, CallProtocolError) as error:
                self._give_up(PROTOCOL, str(error))
                return
            head = events[0]
            assert isinstance(head, RequestHead)
            self.head = head
            name = head.by_name.get(HEADER) or b""
            self.client_connection = name_of(head.by_name.get(CLIENT_CONNECTION, b""))
            self._agent = head.by_name.get(AGENT, b"")
            body = events[1] if len(events) > 1 and type(events[1]) is bytes else b""
        endpoint = ENDPOINT_IDS[name]
        if endpoint is None:
            self._give_up(PROTOCOL, "no valid endpoint id")
            return
        self.endpoint = endpoint
        if self.kind == TCP and (self.head.upgrade is None or self.head.has_body):
            self._give_up(PROTOCOL, "a TCP call begins with a head that offers an upgrade, and nothing else")
            return
        kind = RoutedRequest if self.head.upgrade is None else TcpRequest if self.kind == TCP else UpgradeRequest
        routed = self._routed = kind(self._settings, self)
        routed.start(body, not more)
        self._took(len(payload))

    def frame(self, payload: bytes, more: bool) -> None:
        """A further frame of the request."""
        routed = self._routed
        if routed is None:
            if self._linger is not None and not more:
                self._end()
            return
        if self._reader is not None:
            try:
                self._reader.feed(payload, more)
            except (Http1Error, CallProtocolError) as error:
                self._give_up(PROTOCOL, str(error))
                return
        if payload:
            routed.body(payload)
        if not more:
            routed.body_ended()
        self._took(len(payload))

    def trailers(self, block: bytes) -> None:
        """The request has ended with trailers."""
        routed = self._routed
        if routed is None:
            if self._linger is not None:
                self._end()
            return
        if self._reader is not None:
            try:
                self._reader.trailers()
            except CallProtocolError as error:
                self._give_up(PROTOCOL, str(error))
                return
        routed.trailers(block)
        self._took(len(block))

    def _took(self, count: int) -> None:
        """The payload is on its way, or lies with the agent's call, which said that this is enough for now."""
        if self._pauses_request:
            self._owed += count
        else:
            self._tunnel.consumed(self._call, count)

    def reset(self, code: str, text: str) -> None:
        """The other node gave up: its client left, its time was up, or the agent's answer was against the rules.

        The agent is told why.
        """
        if self._routed is not None:
            self._tell(self._routed, *_RESETS.get(code, _LEFT))
        self._drop(code if code in (TIMEOUT, PROTOCOL) else CANCELLED, text)

    def lost(self) -> None:
        """The link is gone."""
        if self._routed is not None:
            self._tell(self._routed, 502, UNREACHABLE, over_link=True)
        self._drop()

    def drained(self) -> None:
        """The response's queue is short again."""
        if self._routed is not None:
            self._routed.resume()

    # The response (IDownstream)

    def write_head(self, endpoint: bytes | None, length: int | None, upgrades: bool) -> bytes:
        """Return the head as an agent gets it. See `IDownstream.write_head`."""
        head = self.head
        if type(head) is RelayedRequest:
            return head.raw if length is None else request_from_link(head.whole, length)
        return request_from_link(head if upgrades else head.replace(upgrade=None), length)

    def tie(self) -> LinkTie:
        """See `IDownstream.tie`."""
        return LinkTie(self._agent)

    def interim(self, head: ResponseHead) -> None:
        """Pass a 1xx on."""
        data = response_onto_link(head)
        if self._interims is None:
            self._interims = InterimHeads(self._tunnel.capabilities)
        if self._interims.passes(data, self._call.queued, self._settings.sweep.now):
            self._tunnel.send(self._call, data, True)

    def begin(self, head: ResponseHead) -> None:
        """Send the final head, or a 101, with what comes behind it in the same frame."""
        if head.status == 101 and self._reader is not None:
            self._reader.upgraded()
        self._status = head.status
        self._out = head.raw or response_onto_link(head)

    def write(self, data: bytes) -> None:
        """Send what came with one frame."""
        out, self._out = self._out + data, b""
        call = self._call
        self._tunnel.send(call, out, True)
        if call.queued > SEND_HIGH_BYTES and self._routed is not None:
            self._routed.pause()

    def write_trailers(self, block: bytes) -> None:
        """Keep the trailers that the response ends with: they go on as they came."""
        self._trailers = block

    def finish(self, data: bytes) -> None:
        """The response is complete, or the agent closed its direction of the upgraded protocol."""
        self._tunnel.send(self._call, self._out + data, bool(self._trailers))
        if self._trailers:
            self._tunnel.send_trailers(self._call, self._trailers)
        self._out = b""

    def cut(self) -> None:
        """The response cannot be completed."""
        if self._out:
            self.write(b"")
        routed = self._routed
        text = routed.reason if isinstance(routed, TcpRequest) else ""
        self._reset(TIMEOUT if routed is not None and routed.error == TIMEOUT else FAILED, text)

    def _reset(self, code: str, text: str = "") -> None:
        """Reset the call, behind what came of the response in this turn: the client may still see that, and a reset
        would overtake it. What then waits for credit is lost, as it would be with an agent."""
        if self._end_of_turn is None or not self._call.queued:
            self._tunnel.reset(self._call, code, text)
        else:
            self._end_of_turn.add(partial(self._tunnel.reset, self._call, code, text))

    def fail(self, status: int, message: str, code: str) -> None:
        """Tell the calling node whether a response could come from elsewhere. See `IDownstream.fail`."""
        self._status = status
        router = self._settings.router
        if code in (NOT_HTTP, NOT_TCP):
            self._tunnel.reset(self._call, UNSUPPORTED)
        elif status < 500 or code == RESPONSE_TOO_LARGE:
            self._unwanted = True
            answer = error_response(
                status,
                message,
                hop=router.node_id,
                code=code,
                close=False,
                head_only=self.head.method == b"HEAD",
                date=datetimeToString(),
            )
            self._tunnel.send(self._call, answer, False)
        elif status == 504:
            self._reset(TIMEOUT, message)
        elif self._routed is not None and self._routed.reached:
            self._reset(FAILED, message)
        elif code in NOTHING_DONE:
            self._reset(NOTHING_DONE[code], message)
        else:  # what was tried took nothing of the request: is there anybody who may, when it comes again?
            self._reset(REFUSED_DRAINING if router.has_other(self.endpoint, ()) else REFUSED_NOT_HERE, message)

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
        """The request is over, here: the other node may have to be told to end its stream."""
        routed, self._routed = self._routed, None
        if routed is None:
            return
        self._tell(routed, self._status, routed.error)
        if self._call.receiving is not _OPEN:
            self._end()
        else:
            patience_s = 0.0 if self._unwanted else CALLER_LINGER_S
            self._linger = Linger(self._settings.sweep, self._tunnel, self._call, patience_s, self._end)
            self._linger.begin()

    # Endings

    def _tell(self, routed: RoutedRequest, status: int, error: str, over_link: bool = False) -> None:
        """The request is over: hand it to whoever watches, as far as it was read."""
        if self._span is not None:
            self._span.end(self.endpoint, status, error)
        watch = self._settings.requests
        if status < FAILED_FROM and not error and not watch.looked_at:
            return
        target, request_id = told_of(self.head)
        watch.link_request(
            node_id=self._tunnel.node_id or "",
            method=self.head.method,
            target=target,
            endpoint=self.endpoint,
            upstream=routed.upstream,
            over_link=over_link,
            status=status,
            duration_s=perf_counter() - self._started_at,
            request_id=request_id,
            error=error,
        )

    def _give_up(self, code: str, text: str) -> None:
        self._tunnel.reset(self._call, code, text)
        self._drop()

    def _drop(self, code: str = CANCELLED, text: str = "") -> None:
        """The response is not wanted any more: let the agent know why."""
        routed, self._routed = self._routed, None
        self._end()
        if routed is not None:
            routed.gone(code, text)

    def _end(self) -> None:
        if self._linger is not None:
            self._linger.end()
        self.over = True
        self._call.receiver = None  # no cycle is left for the collector
