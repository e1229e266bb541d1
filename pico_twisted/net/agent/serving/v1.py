"""Calls of a node that speaks version 1: a response is collected and sent as one message, framed with its length.

So nothing of it was sent before all of it is there, and whatever the service does wrong is still a clean 502 or 504.

Such a node cannot say that it waits no longer, so we have time limits of our own for its calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pico_twisted.core.agent.service_call import ENDED, ServiceRequest, ServiceResponse
from pico_twisted.core.header_edits import HeaderEdits
from pico_twisted.core.http1.client import ClientConnection
from pico_twisted.core.http1.errors import Http1Error, bad_request
from pico_twisted.core.http1.forwarding import response_to_tunnel
from pico_twisted.core.http1.head import END, ResponseHead
from pico_twisted.core.rpc.call import Call
from pico_twisted.core.rpc.http import CallProtocolError
from pico_twisted.net.agent.serving.exchange import Exchange
from pico_twisted.net.agent.serving.http1_service import Http1Service
from pico_twisted.net.tunnel.interfaces import ICaller

_TOO_LARGE = "body-too-large"

TIMEOUT_S: Final = 30.0
"""Seconds that a service gets for its response's head, unless its listener says otherwise: as long as a node waits
whose configuration says nothing."""
IDLE_S: Final = 300.0
"""Seconds after which a response is given up of which no byte came."""


class WholeResponse(ServiceResponse):
    """One response as one message.

    Args:
        request: as of `ServiceResponse`.
        most_bytes: what its body may have.
        edits: as of `ServiceResponse`.

    Attributes:
        collected: its body so far.
    """

    __slots__ = ("_most_bytes", "collected")

    def __init__(self, request: ServiceRequest, most_bytes: int, edits: HeaderEdits | None) -> None:
        super().__init__(request, edits)
        self._most_bytes = most_bytes
        self.collected: Sequence[bytes] = ()

    def read(self, http: ClientConnection) -> bytes | None:
        """See `ServiceResponse.read`. Interim heads are dropped, and the rest is one payload."""
        collected = [*self.collected]
        while (event := http.next_event()) is not None and event is not END:
            if isinstance(event, ResponseHead):
                if event.status < 200:
                    return b""
                self.head = event
            else:
                assert isinstance(event, bytes)
                self.body_bytes += len(event)
                collected.append(event)
        self.collected = collected
        if self.body_bytes > self._most_bytes:
            message = "the response is too large for version 1 of the protocol"
            raise Http1Error(502, _TOO_LARGE, message)
        head = self.head
        if event is None or head is None:
            return None
        self.ended = True
        self.collected = ()
        body = b"".join(collected)
        if body or not (self._request.method == b"HEAD" or head.status == 304):
            head = head.replace(length=len(body))
        return response_to_tunnel(self.edited(head)) + body


class WholeExchange(Exchange):
    """Serves one call of version 1."""

    _default_timeout_s = TIMEOUT_S
    _idle_s = IDLE_S
    _response: WholeResponse

    def __init__(self, service: Http1Service, tunnel: ICaller, call: Call) -> None:
        super().__init__(service, tunnel, call)
        self._response = WholeResponse(self._request, tunnel.dialect.whole_body_bytes or 0, service.response_edits)

    @property
    def held_bytes(self) -> int:
        """See `ServedCall.held_bytes`."""
        return sum(map(len, self._response.collected))

    def _refuse(self, error: Http1Error | CallProtocolError) -> None:
        """A call of version 1 cannot be reset."""
        self._request.body = ENDED
        fault = error if isinstance(error, Http1Error) else bad_request(str(error))
        self._fail(fault.status, fault.message, fault.code)

    def _answer_is_broken(self, error: Http1Error, code: str) -> None:
        if error.code == _TOO_LARGE:
            self._cut()
            self._fail(error.status, error.message, error.code)
        else:
            super()._answer_is_broken(error, code)
