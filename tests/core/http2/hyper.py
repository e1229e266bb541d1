"""An end of a connection of HTTP/2 that is hyper-h2, told of in the words of our own adapter."""

from __future__ import annotations

from typing import Any

import h2.config
import h2.connection
import h2.errors
import h2.events

from pico_twisted.core.http2 import events as e
from pico_twisted.core.http2.events import Event, WireFields


class Hyper:
    """The same methods as an `Http2Connection`, for what tests need of them. DATA is consumed when it comes.

    Args:
        client: its role.
    """

    def __init__(self, *, client: bool) -> None:
        # hyper-h2 is to find faults of ours; what it puts right by itself would hide them.
        config = h2.config.H2Configuration(client_side=client, header_encoding=None, normalize_outbound_headers=False)
        self._engine = h2.connection.H2Connection(config)
        self._engine.initiate_connection()
        self._waiting: dict[int, list[Any]] = {}  # bytes, and what ends the stream behind them
        self._ended: set[int] = set()  # both ways, by what was seen here

    def receive(self, data: bytes) -> list[Event]:
        """Take bytes."""
        told: list[Event] = []
        for event in self._engine.receive_data(data):
            told += self._translated(event)
        return told

    def _translated(self, event: Any) -> list[Event]:
        ended = bool(getattr(event, "stream_ended", None))
        match event:
            case h2.events.RequestReceived():
                return [(e.REQUEST, event.stream_id, _plain(event.headers), ended)]
            case h2.events.ResponseReceived():
                return [(e.RESPONSE, event.stream_id, _plain(event.headers), ended)]
            case h2.events.InformationalResponseReceived():
                return [(e.INTERIM, event.stream_id, _plain(event.headers), False)]
            case h2.events.TrailersReceived():
                return [(e.TRAILERS, event.stream_id, _plain(event.headers), True)]
            case h2.events.DataReceived():
                self._engine.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                return [(e.DATA, event.stream_id, event.data, ended)]
            case h2.events.StreamReset():
                self._waiting.pop(event.stream_id, None)
                return [(e.PEER_RESET, event.stream_id, int(event.error_code or 0), False)]
            case h2.events.ConnectionTerminated():
                return [(e.GOAWAY, event.last_stream_id or 0, int(event.error_code or 0), False)]
        return []

    def to_send(self, most: int) -> bytes:
        """Bytes for the other end; all that windows allow."""
        for stream in list(self._waiting):
            self._push(stream)
        return self._engine.data_to_send()

    def _push(self, stream: int) -> None:
        parts = self._waiting[stream]
        while parts:
            if isinstance(parts[0], bytes):
                window = min(self._engine.local_flow_control_window(stream), self._engine.max_outbound_frame_size)
                if window <= 0:
                    return
                piece, parts[0] = parts[0][:window], parts[0][window:]
                self._engine.send_data(stream, piece)
                if not parts[0]:
                    parts.pop(0)
            else:
                trailers = parts.pop(0)
                if trailers:
                    self._engine.send_headers(stream, trailers, end_stream=True)
                else:
                    self._engine.end_stream(stream)
        del self._waiting[stream]

    def events_of_sending(self) -> list[Event]:
        """None ever."""
        return []

    def request(self, fields: WireFields, ended: bool) -> int:
        """Send a request."""
        stream = self._engine.get_next_available_stream_id()
        self._engine.send_headers(stream, list(fields), end_stream=ended)
        return stream

    def respond(self, stream: int, fields: WireFields, ended: bool) -> None:
        """Send a head, final or not."""
        self._engine.send_headers(stream, list(fields), end_stream=ended)

    def interim(self, stream: int, fields: WireFields) -> None:
        """Send an interim head."""
        self._engine.send_headers(stream, list(fields))

    def send(self, stream: int, data: bytes, ended: bool) -> None:
        """Send DATA, when windows allow it."""
        parts = self._waiting.setdefault(stream, [])
        if data:
            parts.append(data)
        if ended:
            parts.append(())

    def trailers(self, stream: int, fields: WireFields) -> None:
        """End with trailers."""
        self._waiting.setdefault(stream, []).append(list(fields))

    def reset(self, stream: int, code: int) -> None:
        """Give a stream up."""
        self._waiting.pop(stream, None)
        self._engine.reset_stream(stream, h2.errors.ErrorCodes(code))

    def goaway(self, code: int = 0) -> None:
        """End the connection."""
        self._engine.close_connection(h2.errors.ErrorCodes(code))


def _plain(fields: Any) -> WireFields:
    return tuple((bytes(name), bytes(value)) for name, value in fields)
