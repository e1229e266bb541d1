"""A request that offers an upgrade, perhaps with a body: `docker exec` does so, and clients that would like TLS.

What can go wrong. The body is taken for the upgraded protocol, or its end for the client's; or, when the offer is
declined, for the next request. So its length has to be known to every hop: the body goes first, then nothing until the
service has answered, then what follows a 101. A body in chunks is gathered until its length is known. One that is too
large or too slow for that, or that the client only sends when it is told to, goes on as that of a plain request, and so
does the request if the peer does not take such an upgrade: a service may decline the offer as well.
"""

from __future__ import annotations

from typing import Final

from pico_twisted.core.http1.head import RequestHead, ResponseHead
from pico_twisted.core.rpc.capabilities import BODY_UPGRADE
from pico_twisted.core.rpc.frames import CANCELLED
from pico_twisted.net.routing.interfaces import IDownstream, IRoute
from pico_twisted.net.routing.response import Response
from pico_twisted.net.routing.routed_request import RoutedRequest
from pico_twisted.net.routing.settings import RoutingSettings

MAX_GATHERED_BYTES: Final = 64 * 1024
"""Most bytes of a body in chunks that are held until its length is known: one read of a client."""

GATHER_S: Final = 10.0
"""Seconds that such a body may take."""

WEBSOCKET_END_S: Final = 2.0
"""Seconds that the client of a WebSocket has to end its direction once the service has ended its own: nothing that it
may still say is read (RFC 6455 7.1.1). There are proxies that end theirs only when they are told to."""

_WEBSOCKET: Final = b"websocket"


class UpgradeRequest(RoutedRequest):
    """Used like a `RoutedRequest`."""

    __slots__ = ("_gathered",)

    def __init__(self, settings: RoutingSettings, downstream: IDownstream) -> None:
        super().__init__(settings, downstream)
        self._gathered: bytes | None = None  # of a body whose length is not known yet

    @property
    def _head(self) -> RequestHead:
        head = self._downstream.head
        assert isinstance(head, RequestHead)
        return head

    def start(self, body: bytes, ended: bool) -> None:
        """See `RoutedRequest.start`."""
        head = self._head
        if not head.chunked:
            self._go(head, body, ended)
        elif head.expect_continue:
            self._go(head.replace(upgrade=None), body, ended)
        else:
            settings = self._settings
            self._gathered = b""
            self.deadline = settings.sweep.now + GATHER_S
            settings.sweep.add(self)
            self._gather(body, ended)

    def _gather(self, data: bytes, ended: bool) -> None:
        assert self._gathered is not None
        gathered = self._gathered = self._gathered + data
        if len(gathered) > MAX_GATHERED_BYTES:
            self._go(self._head.replace(upgrade=None), gathered, ended)
        elif ended:
            self._go(self._head.replace(chunked=False, length=len(gathered)), gathered, ended)

    def _go(self, head: RequestHead, body: bytes, ended: bool) -> None:
        self._gathered = None
        self._downstream.head = head
        if head.upgrade is not None:
            self._whole_at = head.length or 0
            ended = False
        super().start(body, ended)

    def body(self, data: bytes) -> None:
        """See `RoutedRequest.body`."""
        if self._gathered is not None:
            self._gather(data, False)
        else:
            super().body(data)
            self._end_if_whole()

    def body_ended(self) -> None:
        """The body has ended, or the client closed its direction of the upgraded protocol."""
        if self._gathered is not None:
            self._gather(b"", True)
        elif self._head.upgrade is None or self._response not in (Response.AWAITED, Response.INTERIM):
            super().body_ended()

    def trailers(self, block: bytes) -> None:
        """What is behind the body of an offer to upgrade is its end, or the upgraded protocol: no trailers go on."""
        self.body_ended()

    def deadline_passed(self, now: float) -> None:
        """See `RoutedRequest.deadline_passed`."""
        if self._gathered is not None:
            self._go(self._head.replace(upgrade=None), self._gathered, False)
        elif self._response is Response.UPGRADED:
            self._cancel(CANCELLED)
            self.ended(b"", True)
        else:
            super().deadline_passed(now)

    def ended(self, data: bytes, wants_no_more: bool) -> None:
        """See `RoutedRequest.ended`."""
        super().ended(data, wants_no_more)
        if self._response is Response.UPGRADED and (self._head.upgrade or b"").lower() == _WEBSOCKET:
            self.deadline = self._settings.sweep.now + WEBSOCKET_END_S

    def _fit(self, route: IRoute) -> None:
        head = self._head
        if head.upgrade is not None and head.length and BODY_UPGRADE not in route.callee.capabilities:
            self._downstream.head = head.replace(upgrade=None)
            self._request_ended = self._received >= self._whole_at

    def _head_came(self, head: ResponseHead) -> None:
        super()._head_came(head)
        self._end_if_whole()

    def _end_if_whole(self) -> None:
        """End the request behind its body, if nothing will follow that: the offer was declined, or left out."""
        if self._received >= self._whole_at and (self._response is Response.BODY or self._head.upgrade is None):
            super().body_ended()
