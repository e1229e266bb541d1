"""One HTTP/2 connection, in either role: bytes in, events out (RFC 9113), on libnghttp2 through ngh2.

What is needed. Both ends of the tunnel speak HTTP/2: a node to clients, an agent to services. Frames, HPACK, the states
of streams and windows are what libnghttp2 does, and what many attacks are about; it is fast, and used by others.

What can go wrong. The library is young: so this module and `engine` alone import it, and what the rest of Pico sees are
plain tuples and the methods here. After some faults of a peer it cannot be asked for a last GOAWAY: that is written
here. It opens windows by itself unless told not to, and then a slow consumer would not slow its sender: so each
stream's window opens when its consumer took bytes, and that of the connection is so large that no stream waits for
another. It tells that a stream is over once the RST_STREAM is written, and of resets of streams that are long over:
here CLOSED is the last event of a stream, and comes once.

What is left to its user: the meaning of fields (`heads`), time, and how much a peer may ask for (`flood`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Any, Final

from pico_twisted.core.http2.engine import AVAILABLE, PLAIN_EVENTS, make_engine, show
from pico_twisted.core.http2.events import (
    CLOSED,
    DATA,
    ENDED,
    FAULT,
    FLOW_CONTROL_ERROR,
    INTERNAL_ERROR,
    NO_ERROR,
    PEER_RESET,
    REFUSED_STREAM,
    REQUEST,
    WINDOW,
    Event,
    WireFields,
)
from pico_twisted.core.http2.frame_order import FrameOrder, goaway_frame
from pico_twisted.core.http2.settings import Http2Settings

if AVAILABLE:
    import ngh2

_FAULTS_FIRST: Final = 4 * 1024
"""Bytes of answers that are written before a request is told of: resets of 128 streams, and more."""


MOST_WINDOW_BYTES: Final = 2**31 - 1
"""Of a window (RFC 9113 6.9.1)."""


class StreamGone(Exception):
    """Something was to be written to a stream that takes nothing any more: its CLOSED comes, or has come."""


class Http2Connection:
    """One connection.

    Args:
        client: our role; else we are the server.
        settings: see there.

    Attributes:
        ended: nothing more is read.
        bytes_in, bytes_out: so far.
        given_up_bytes: what the peer could still send on streams when our user gave them up.
    """

    def __init__(self, *, client: bool, settings: Http2Settings) -> None:
        self._engine = make_engine(client=client, settings=settings)
        self.ended = False
        self.bytes_in = self.bytes_out = self.given_up_bytes = 0
        self._untaken: dict[int, int] = {}  # of open streams, bytes of DATA that nobody took yet
        self._accepted: dict[int, int] = {}  # of open streams that were written to, bytes of DATA that were to be sent
        self._reset_streams: set[int] = set()  # open ones that the peer or our user gave up
        self._last_stream = 0  # of the peer
        self._order = FrameOrder(client=client)
        self._postponed: tuple[int, int] | None = None  # a reset: stream, code
        self._written = b""  # by the engine, and not given out
        self._frame_cut = False  # what the engine wrote may have ended within a frame
        self._late: list[Event] = []

    # What comes

    def receive(self, data: bytes) -> list[Event]:
        """Take bytes of the peer. What is to be answered to them is in `to_send`.

        A stream that begins in them and is over in them has its CLOSED among these events, even if it is us who ended
        it for a fault of the peer: nothing needs to be begun for it.
        """
        if self.ended:
            return []
        self.bytes_in += len(data)
        last = self._last_stream
        shown, fault = self._order.look(data)
        code = show(self._engine, shown)
        events = self._events()
        while fault is not None and not (fault.code or code or self.ended):
            if fault.increment <= MOST_WINDOW_BYTES - self._window(fault.stream, local=False):
                code = show(self._engine, fault.frame)
            elif fault.stream in self._untaken:
                events.append((FAULT, fault.stream, FLOW_CONTROL_ERROR, False))
                self.reset(fault.stream, FLOW_CONTROL_ERROR)
            shown, fault = self._order.look(fault.rest)
            code = code or show(self._engine, shown)
            events += self._events()
        if self._postponed is not None and not self._order.within_data(self._postponed[0]):
            self._try(self._engine.reset_stream, *self._postponed)
            self._postponed = None
            events += self._events()
        if code:
            self._failed(code, events)
        elif fault is not None:
            self.terminate(fault.code)
            events += self._events()
        elif self._last_stream != last and not self._written:
            self._written = self._write(_FAULTS_FIRST)
            events += self._events()
        return events

    def _events(self) -> list[Event]:
        events = self._late
        self._late = []
        for event in self._engine.events():
            take = _TAKE.get(type(event))
            if take is not None:
                take(self, event, events)
            elif type(event) in PLAIN_EVENTS:
                events.append(PLAIN_EVENTS[type(event)](event))
        return events

    def _failed(self, code: int, events: list[Event]) -> None:
        """The engine writes nothing more. A last frame is written here, unless another one is half out."""
        if not self.ended:
            self.ended = True
            if not self._frame_cut:
                self._written += goaway_frame(self._last_stream, code)
            events.append((ENDED, 0, code, False))

    def _on_request(self, event: Any, events: list[Event]) -> None:
        self._last_stream = stream = event.stream_id
        self._untaken[stream] = 0
        events.append((REQUEST, stream, event.headers, event.end_stream))

    def _on_data(self, event: Any, events: list[Event]) -> None:
        stream, data = event.stream_id, event.data
        if stream in self._untaken:
            self._untaken[stream] += len(data)
            events.append((DATA, stream, data, event.end_stream))
        elif data:
            self._take(stream, len(data))

    def _on_reset(self, event: Any, events: list[Event]) -> None:
        stream = event.stream_id
        if stream in self._untaken:
            self._reset_streams.add(stream)
            events.append((PEER_RESET, stream, event.error_code, stream in self._accepted))

    def _on_closed(self, event: Any, events: list[Event]) -> None:
        stream, code = event.stream_id, event.error_code
        if untaken := self._untaken.pop(stream, 0):
            self._take(stream, untaken)
        self._accepted.pop(stream, None)
        if code:
            ours = event.local_error is not None or code == REFUSED_STREAM
            if stream in self._reset_streams:
                self._reset_streams.discard(stream)
            elif not ours:
                events.append((FAULT, stream, code, False))
        events.append((CLOSED, stream, code, False))

    def _on_window(self, event: Any, events: list[Event]) -> None:
        told: Event = (WINDOW, event.stream_id, 0, False)
        if not events or events[-1] != told:  # a flood of them is one
            events.append(told)

    def _on_end(self, event: Any, events: list[Event]) -> None:
        if not self.ended:
            self.ended = True
            events.append((ENDED, 0, event.error_code, False))

    def _take(self, stream: int, count: int) -> None:
        self._try(self._engine.acknowledge_received_data, count, stream)

    def consumed(self, stream: int, count: int) -> None:
        """The consumer of a stream took that many bytes of its DATA: the peer may send as many more.

        What nobody took of a stream counts as taken when it is over.
        """
        count = min(count, self._untaken.get(stream, 0))
        if count:
            self._untaken[stream] -= count
            self._take(stream, count)

    def widen(self, stream: int, window_bytes: int) -> None:
        """Let a stream bring so many bytes before its consumer took some. The user keeps to `spare_bytes`."""
        if stream in self._untaken:
            self._do(self._engine.set_local_window_size, window_bytes, stream_id=stream)

    # What goes

    def to_send(self, most: int) -> bytes:
        """Bytes for the peer, at most so many; none when there is nothing, or windows are shut."""
        data = self._written
        if not data:
            data = self._write(most)
        elif len(data) > most:
            data, self._written = data[:most], data[most:]
        else:
            self._written = b""
            if len(data) < most:
                data += self._write(most - len(data))
        self.bytes_out += len(data)
        return data

    @property
    def wants_to_send(self) -> bool:
        """Whether `to_send` may have something."""
        return bool(self.ended or self._written or self._late or self._engine.want_write)

    def _write(self, most: int) -> bytes:
        try:
            data: bytes = self._engine.data_to_send(most)
        except (ngh2.NGH2Error, ValueError):
            self._failed(INTERNAL_ERROR, self._late)
            return b""
        self._frame_cut = len(data) == most
        return data

    def events_of_sending(self) -> list[Event]:
        """What happened because of what was sent: streams that are over. To be asked for after `to_send`."""
        return self._events()

    def request(self, fields: WireFields, ended: bool) -> int:
        """Send a request, and return its stream.

        Raises:
            StreamGone: no stream can be opened.
        """
        try:
            stream: int = self._engine.send_request(fields, end_stream=ended)
        except ngh2.NGH2Error as error:
            raise StreamGone(str(error)) from None
        self._untaken[stream] = 0
        return stream

    def respond(self, stream: int, fields: WireFields, ended: bool) -> None:
        """Send the final head of a response. Raises `StreamGone`, as all that follow."""
        try:  # `_do` would cost this and `send` a call for each response
            self._engine.send_response(stream, fields, end_stream=ended)
        except ngh2.NGH2Error as error:
            raise StreamGone(str(error)) from None
        self._accepted[stream] = 0

    def interim(self, stream: int, fields: WireFields) -> None:
        """Send the head of an interim response."""
        self._do(self._engine.send_informational_response, stream, fields)

    def send(self, stream: int, data: bytes, ended: bool) -> None:
        """Queue DATA; it leaves as the windows of the peer let it: see `queued`."""
        try:
            self._engine.send_data(stream, data, end_stream=ended)
        except ngh2.NGH2Error as error:
            raise StreamGone(str(error)) from None
        self._accepted[stream] = self._accepted.get(stream, 0) + len(data)

    def trailers(self, stream: int, fields: WireFields) -> None:
        """End the stream with trailers, behind the DATA that is queued. Without any fields it just ends."""
        if fields:
            self._do(self._engine.send_trailers, stream, fields)
        else:
            self.send(stream, b"", True)

    def reset(self, stream: int, code: int) -> None:
        """Give a stream up: its CLOSED follows. Nothing happens to one that is over.

        Within a frame of DATA its end is awaited, behind which everything else is anyway: the engine counts what has
        come of the frame, but tells of whole ones, and else nobody could ever take that.
        """
        if stream in self._untaken:
            if stream not in self._reset_streams:
                self._reset_streams.add(stream)
                self.given_up_bytes += self._window(stream, local=True)
            if self._order.within_data(stream):
                self._postponed = stream, code
            else:
                self._try(self._engine.reset_stream, stream, code)

    def _window(self, stream: int, *, local: bool) -> int:
        """What the peer may still send on a stream (`local`), or we; nothing on one that is over."""
        engine = self._engine
        try:
            return max(0, int((engine.stream_local_window_size if local else engine.stream_remote_window_size)(stream)))
        except ngh2.NGH2Error:
            return 0

    def ping(self) -> None:
        """Ask the peer for a PONG. Nothing happens when the connection ends, here and in what follows."""
        self._try(self._engine.ping)

    def announce_end(self) -> None:
        """A server: say that there will be an end, which a GOAWAY will name (RFC 9113 6.8)."""
        self._try(self._engine.send_shutdown_notice)

    def goaway(self, code: int = NO_ERROR) -> None:
        """Take no new streams from here on; those that are open go on."""
        self._try(self._engine.send_goaway, code)

    def terminate(self, code: int) -> None:
        """End the connection: ENDED follows, and what `to_send` gives is the last."""
        if not self.ended:
            self.ended = True
            self._late.append((ENDED, 0, code, False))
            self._try(self._engine.terminate_connection, code)

    def _try(self, method: Callable[..., object], *args: int) -> None:
        try:
            method(*args)
        except (ngh2.NGH2Error, ValueError):
            pass  # the connection ends

    def _do(self, method: Callable[..., object], *args: object, **keywords: object) -> None:
        try:
            method(*args, **keywords)
        except ngh2.NGH2Error as error:
            raise StreamGone(str(error)) from None

    # What is known

    def queued(self, stream: int) -> int:
        """Bytes of DATA of a stream that wait for its window."""
        size: int = self._engine.queued_body_size(stream)
        return size

    def waiting(self, over: Collection[int] = ()) -> Iterator[tuple[int, int, int]]:
        """Streams that have DATA waiting for their windows: (stream, how many bytes, how many have gone so far).

        Those that are `over` are among them while they are open: their ends may be waiting.
        """
        for stream, accepted in self._accepted.items():
            queued: int = self._engine.queued_body_size(stream)
            if queued or stream in over:
                yield stream, queued, accepted - queued

    @property
    def queued_in_all(self) -> int:
        """Bytes of DATA of all streams that wait."""
        return int(self._engine.queued_body_size())

    def has_sent(self, stream: int) -> bool:
        """Whether all that was written to a stream has been given out: nothing is left of one that is over.

        The end of an open one waits for an open window, too.
        """
        engine = self._engine
        try:
            windows = engine.stream_remote_window_size(stream), engine.remote_window_size
        except ngh2.NGH2Error:
            return True
        return min(windows) > 0 and not engine.queued_body_size(stream)

    @property
    def takes_requests(self) -> bool:
        """Whether a client may open a stream now, but for the limit of `peer_streams`."""
        return not self.ended and bool(self._engine.can_send_request)

    @property
    def peer_streams(self) -> int:
        """How many streams of ours the peer allows at once."""
        return self._peer_setting(ngh2.Setting.MAX_CONCURRENT_STREAMS)

    @property
    def peer_takes_connect(self) -> bool:
        """Whether the peer takes an extended CONNECT (RFC 8441 3)."""
        return bool(self._peer_setting(ngh2.Setting.ENABLE_CONNECT_PROTOCOL))

    def _peer_setting(self, which: Any) -> int:
        try:
            return int(self._engine.remote_settings[which])
        except ngh2.NGH2Error:
            return 0  # the connection ends


_Take = Callable[[Http2Connection, Any, list[Event]], None]


def _all_events() -> Iterator[tuple[Any, _Take]]:
    yield ngh2.RequestReceived, Http2Connection._on_request
    yield ngh2.DataReceived, Http2Connection._on_data
    yield ngh2.StreamReset, Http2Connection._on_reset
    yield ngh2.StreamClosed, Http2Connection._on_closed
    yield ngh2.WindowUpdated, Http2Connection._on_window
    yield ngh2.ConnectionClosed, Http2Connection._on_end


_TAKE: Final[dict[Any, _Take]] = dict(_all_events()) if AVAILABLE else {}
