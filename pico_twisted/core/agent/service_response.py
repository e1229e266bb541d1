"""A response on its way from the service to its caller: bytes of HTTP/1.1 in, payloads of a call's frames out."""

from __future__ import annotations

from pico_twisted.core.agent.service_request import ServiceRequest
from pico_twisted.core.http1.client import ClientConnection
from pico_twisted.core.http1.forwarding import response_to_tunnel
from pico_twisted.core.http1.head import END, ResponseHead
from pico_twisted.core.rpc.http import INTERIM_BYTES


class ServiceResponse:
    """One response. A head goes on together with what was read behind it, so that a small response is one frame.

    Args:
        request: that it answers, which is told about a 100.
        via: our pseudonym.

    Attributes:
        head: the final one, or that of an upgrade; None before it.
        ended: it is complete.
        body_bytes: how much of its body came.
    """

    __slots__ = ("_interim_bytes", "_request", "_via", "body_bytes", "ended", "head")

    def __init__(self, request: ServiceRequest, via: bytes) -> None:
        self._request = request
        self._via = via
        self._interim_bytes = 0
        self.head: ResponseHead | None = None
        self.ended = False
        self.body_bytes = 0

    def read(self, http: ClientConnection) -> bytes | None:
        """Take what the service has sent: one interim head, or all that is there of the final response.

        Args:
            http: has received it.

        Returns:
            The payload of the next frame to the caller, which is the last one if the response has `ended`; None when
            there is nothing. While there is no `head` this was an interim one, which may be dropped (an empty payload):
            then read on.

        Raises:
            Http1Error: the service broke HTTP, or its response was cut short.
        """
        pieces: list[bytes] = []
        while (event := http.next_event()) is not None and event is not END:
            if isinstance(event, ResponseHead):
                if event.status < 200 and event.status != 101:
                    return self._interim(event)
                self.head = event
                pieces.append(response_to_tunnel(event, via=self._via))
                if event.status == 101:
                    event = http.take_rest()
                    self.body_bytes += len(event)
                    pieces.append(event)
                    break
            else:
                assert isinstance(event, bytes)
                self.body_bytes += len(event)
                pieces.append(event)
        if event is END:
            self.ended = True
        elif not pieces:
            return None
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _interim(self, head: ResponseHead) -> bytes:
        if head.status == 100:
            self._request.continued()
        data = response_to_tunnel(head, via=self._via)
        self._interim_bytes += len(data)
        return data if self._interim_bytes <= INTERIM_BYTES else b""
