"""Calls of a node that speaks version 1, for a service of HTTP/2: see `serving.v1`."""

from __future__ import annotations

from pico_twisted.core.agent.service_call import ENDED
from pico_twisted.core.http1.errors import Http1Error, bad_request
from pico_twisted.core.http1.forwarding import response_to_tunnel
from pico_twisted.core.http2.events import CANCEL
from pico_twisted.core.rpc.http import CallProtocolError
from pico_twisted.net.agent.serving.http2.call import Http2Call
from pico_twisted.net.agent.serving.served_call import Stage
from pico_twisted.net.agent.serving.v1 import IDLE_S, TIMEOUT_S


class WholeHttp2Call(Http2Call):
    """Serves one call of version 1: its response is collected, and sent as one message without trailers."""

    _default_timeout_s = TIMEOUT_S
    _idle_s = IDLE_S

    @property
    def held_bytes(self) -> int:
        """See `ServedCall.held_bytes`."""
        return sum(map(len, self._pieces))

    def _send_interim(self, head: bytes) -> None:
        """Interim heads are dropped."""

    def read_is_over(self) -> None:
        """See `Http2Call.read_is_over`."""
        response, head = self._response, self._response.head
        if head is None or self._stage is not Stage.AWAITING:
            return
        if response.body_bytes > (self._tunnel.dialect.whole_body_bytes or 0):
            self._leave(CANCEL)
            self._fail(502, "the response is too large for version 1 of the protocol", "body-too-large")
        elif not response.ended:
            self.drained()
        else:
            body = b"".join(self._pieces[1:])
            if body or not (self._request.method == b"HEAD" or head.status == 304):
                head = head.replace(length=len(body))
            self._tunnel.send(self._call, response_to_tunnel(response.edited(head)) + body, False)
            self._answered(head.status)

    def _refuse(self, error: Http1Error | CallProtocolError) -> None:
        """A call of version 1 cannot be reset."""
        self._request.body = ENDED
        fault = error if isinstance(error, Http1Error) else bad_request(str(error))
        self._fail(fault.status, fault.message, fault.code)
