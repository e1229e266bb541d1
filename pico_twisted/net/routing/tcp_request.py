"""A client's TCP session on its way: a request that offers an upgrade, whose call is one of TCP.

So it is routed, tried again and answered as every other one, as long as its service was not reached. From the 101 on
both directions are bytes, and each may end first. No time is too long for a session. How long nothing may move in it is
for the node to say that took it, and by default that is any time: pools keep connections to databases for hours.
"""

from __future__ import annotations

import math

from pico_twisted.core.http1.head import ResponseHead
from pico_twisted.core.rpc.frames import TIMEOUT
from pico_twisted.net.routing.interfaces import CallFailed, IDownstream
from pico_twisted.net.routing.refusals import BAD_RESPONSE, refusal
from pico_twisted.net.routing.response import Response
from pico_twisted.net.routing.settings import RoutingSettings
from pico_twisted.net.routing.upgrade_request import UpgradeRequest


class TcpRequest(UpgradeRequest):
    """Used like a `RoutedRequest`.

    Args:
        settings, downstream: as of a `RoutedRequest`.
        silence_s: for how long no byte may move either way.

    Attributes:
        reason: why the session was cut, for people; empty when it was not.
    """

    __slots__ = ("_silence_s", "reason")

    def __init__(self, settings: RoutingSettings, downstream: IDownstream, silence_s: float = math.inf) -> None:
        super().__init__(settings, downstream)
        self._silence_s = silence_s
        self.reason = ""

    @property
    def waiting_bytes(self) -> int:
        """Bytes of the client that wait for the service to take others."""
        return 0 if self._call is None else self._call.queued

    def body(self, data: bytes) -> None:
        """See `RoutedRequest.body`."""
        super().body(data)
        self._moved()

    def data(self, data: bytes) -> None:
        """See `RoutedRequest.data`."""
        super().data(data)
        self._moved()

    def _moved(self) -> None:
        if self._response is Response.UPGRADED:
            self.deadline = self._settings.sweep.now + self._silence_s

    def _head_came(self, head: ResponseHead) -> None:
        if head.status != 101 and (head.status < 400 or b"x-pico-error" not in head.special):
            text = "an answer to a TCP call that is neither a 101 nor an error"
            self._settings.rules_broken(self._downstream.endpoint, self.upstream, text)
            self._refuse(refusal(BAD_RESPONSE))
            return
        super()._head_came(head)
        self._moved()

    def failed(self, error: CallFailed) -> None:
        """See `RoutedRequest.failed`."""
        self.reason = error.text or error.code
        super().failed(error)

    def deadline_passed(self, now: float) -> None:
        """See `RoutedRequest.deadline_passed`."""
        if self._response is Response.UPGRADED:
            self.reason = f"no byte for {self._silence_s:g} s"
            self._cut("idle-timeout", TIMEOUT)
        else:
            super().deadline_passed(now)
