"""Records one call, between the tunnel and what serves it.

What serves a call reads the request with what the tunnel's dialect gives it, and writes the response to the tunnel. So
a tunnel that passes everything on, and looks, sees all of both: whatever the service speaks, in either version of the
protocol, after a retry, after an upgrade, and when a call goes on in other hands. Nobody who serves calls knows of it,
and an agent without an inspector has no such thing on its path.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import attrs
from zope.interface import implementer

from pico_twisted.core.http1.errors import Http1Error
from pico_twisted.core.http1.head import END, HeadLimits, RequestHead, ResponseHead
from pico_twisted.core.inspect.recording import Recording, Recordings
from pico_twisted.core.rpc.call import Call
from pico_twisted.core.rpc.http import CallProtocolError, RequestEvent, RequestReader, ResponseReader, ResponseStream
from pico_twisted.net.tunnel.interfaces import ICaller, ICallReceiver

_LIMITS: Final = HeadLimits(head_bytes=256 * 1024, fields=2000)
"""Of heads of responses, which an agent has held to its own limits, and edited."""


class RecordedRequest:
    """A `RequestReader` that tells what it read.

    Args:
        reader: reads.
        record: is told.
    """

    def __init__(self, reader: RequestReader, record: Recorder) -> None:
        self._reader = reader
        self._record = record

    def upgraded(self) -> None:
        self._reader.upgraded()

    def feed(self, payload: bytes, more: bool) -> list[RequestEvent]:
        events = self._reader.feed(payload, more)
        self._record.request_came(events, len(payload))
        return events

    def trailers(self) -> None:
        self._reader.trailers()
        self._record.request_came([END], 0)


@implementer(ICaller)
class Recorder:
    """A tunnel as one call is served with it.

    Args:
        tunnel: to which everything goes on.
        recording: of the call.
        recordings: keep it.
        now: the clock that durations are measured with, in seconds.

    Attributes:
        recording: as given.
    """

    def __init__(self, tunnel: ICaller, recording: Recording, recordings: Recordings, now: Callable[[], float]) -> None:
        self.capabilities = tunnel.capabilities
        dialect = tunnel.dialect
        self.dialect = attrs.evolve(
            dialect, read_request=lambda limits: self._read_request(dialect.read_request(limits))
        )
        self.recording = recording
        self._tunnel = tunnel
        self._recordings = recordings
        self._now = now
        self._fed = 0  # bytes of the request, its head among them
        self._consumed = 0
        self._response: ResponseReader | None = None

    # The request

    def _read_request(self, reader: RequestReader) -> RecordedRequest:
        """The call is read from its beginning, by whom it was handed to perhaps once more."""
        self._recordings.forget_request(self.recording)
        self._fed = 0
        return RecordedRequest(reader, self)

    def request_came(self, events: list[RequestEvent], count: int) -> None:
        """A frame of the request was read.

        Args:
            events: what it said.
            count: its bytes.
        """
        self._fed += count
        recording = self.recording
        for event in events:
            if isinstance(event, RequestHead):
                self._recordings.keep_head(recording, event)
            elif event is END:
                recording.request_ended = True
            elif not recording.upgraded:
                assert isinstance(event, bytes)
                self._recordings.keep(recording, recording.request_body, event)
        self._recordings.changed(recording)

    # ICaller

    def call(self, kind: int, payload: bytes, more: bool, receiver: ICallReceiver) -> Call:
        """See `ICallee.call`."""
        return self._tunnel.call(kind, payload, more, receiver)

    def send(self, call: Call, data: bytes, more: bool) -> None:
        """See `ICallee.send`."""
        self._answered(data, more)
        self._tunnel.send(call, data, more)

    def send_trailers(self, call: Call, block: bytes) -> None:
        """See `ICallee.send_trailers`."""
        self._recordings.keep_trailers(self.recording, block)
        self._end()
        self._recordings.changed(self.recording)
        self._tunnel.send_trailers(call, block)

    def reset(self, call: Call, code: str, text: str = "") -> None:
        """See `ICallee.reset`."""
        self._tunnel.reset(call, code, text)

    def consumed(self, call: Call, count: int) -> None:
        """See `ICallee.consumed`."""
        self._consumed += count
        if self.recording.upgraded and self._consumed > self._fed:
            self.recording.bytes_in = self._consumed - self._fed
            self._recordings.changed(self.recording)
        self._tunnel.consumed(call, count)

    # The response

    def _answered(self, data: bytes, more: bool) -> None:
        """A piece of the response goes to the caller."""
        recording = self.recording
        if recording.upgraded:
            recording.bytes_out += len(data)
        else:
            self._read_response(data, more)
        if not more:
            self._end()
        self._recordings.changed(recording)

    def _read_response(self, data: bytes, more: bool) -> None:
        recording = self.recording
        if self._response is None:
            head = recording.request
            method, upgrade_asked = (b"", False) if head is None else (head.method, head.upgrade is not None)
            self._response = ResponseStream(_LIMITS, method, upgrade_asked)
        try:
            events = self._response.feed(data, more)
        except (Http1Error, CallProtocolError):
            recording.response_body.count += len(data)  # the node will refuse it, and says why
            return
        for event in events:
            if isinstance(event, ResponseHead):
                if event.status >= 200 or event.status == 101:
                    recording.first_byte_s = self._now() - recording.began_s
                    self._recordings.keep_head(recording, event)
            elif event is not END:
                assert isinstance(event, bytes)
                if recording.upgraded:
                    recording.bytes_out += len(event)
                else:
                    self._recordings.keep(recording, recording.response_body, event)

    def _end(self) -> None:
        """The response has ended: of what still comes of the request nobody wants to know how long it takes."""
        if self.recording.duration_s is None:
            self.recording.duration_s = self._now() - self.recording.began_s
