"""Connections of clients that send messages over a WebSocket, and wait for each to come back."""

from __future__ import annotations

import base64
import secrets
from typing import Final

from pico_twisted.core.http1.client import ClientConnection, Http1Error, ResponseHead
from pico_twisted.ctl.bench.clients import LIMITS, MAX_ERROR_BYTES, Client, Wire, error_of, request_of
from pico_twisted.ctl.bench.frames import BINARY, CLOSE, FrameError, FrameReader, frame_header
from pico_twisted.ctl.bench.plan import BenchPlan

_SWITCHED: Final = 101


def upgrade_fields() -> list[tuple[str, str]]:
    """What asks for a WebSocket."""
    key = base64.b64encode(secrets.token_bytes(16)).decode("ascii")
    return [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", key),
    ]


class WebSocketWire(Wire):
    """A WebSocket. Its handshake belongs to the first message's time.

    Args:
        client: whose it is.
        endpoint: which it is for.
        plan: the size of the messages.
        body: of each message.
    """

    def __init__(self, client: Client, endpoint: str, plan: BenchPlan, body: bytes) -> None:
        super().__init__(client)
        self._head_bytes = request_of(plan, client.place, endpoint, upgrade_fields())
        self._message = frame_header(BINARY, len(body), masked=True) + body
        self._length = len(body)
        self._http: ClientConnection | None = ClientConnection(LIMITS)
        self._frames = FrameReader(masked=False)
        self._refusal: ResponseHead | None = None
        self._refusal_body = b""

    def connectionMade(self) -> None:
        super().connectionMade()
        assert self._http is not None
        self._http.expect(b"GET", upgrade=True)
        self.write(self._head_bytes)

    def ask(self) -> int:
        self.write(self._message)
        return len(self._message)

    def close(self) -> None:
        self.write(frame_header(CLOSE, 0, masked=True))
        super().close()

    def dataReceived(self, data: bytes) -> None:
        self.received_bytes += len(data)
        if self._http is not None:
            data = self._handshake(self._http, data)
        if data:
            self._read(data)

    def _handshake(self, http: ClientConnection, data: bytes) -> bytes:
        """Read the answer to the request; the bytes behind a good one."""
        http.receive(data)
        try:
            while (event := http.next_event()) is not None:
                if isinstance(event, ResponseHead):
                    if event.status == _SWITCHED:
                        self._http = None
                        rest = http.take_rest()
                        self.received_bytes = len(rest)
                        self.client.ready(self)
                        return rest
                    if event.status >= 200:
                        self._refusal = event
                elif isinstance(event, bytes):
                    self._refusal_body = (self._refusal_body + event)[:MAX_ERROR_BYTES]
                else:
                    assert self._refusal is not None
                    self.client.failed(f"no WebSocket: {error_of(self._refusal, self._refusal_body)}")
                    return b""
        except Http1Error as error:
            self.client.failed(f"not HTTP: {error}")
        return b""

    def _read(self, data: bytes) -> None:
        try:
            for opcode, length, _, whole in self._frames.feed(data):
                if opcode == CLOSE:
                    self.client.failed("the WebSocket was closed")
                    return
                if length not in (-1, self._length):
                    self.client.failed("a message of another length")
                    return
                if whole:
                    self.client.answered(self, keep=True)
        except FrameError as error:
            self.client.failed(str(error))
