"""One HTTP/2 connection, in either role: bytes in, events out (RFC 9113), on libnghttp2 through ngh2.

What is needed. Both ends of the tunnel speak HTTP/2: a node to clients, an agent to services. Frames, HPACK, the states
of streams and windows are what libnghttp2 does, and what many attacks are about; it is fast, and used by others.

What can go wrong. The library is young: so this module alone imports it, and what the rest of Pico sees are plain
tuples and the methods here. It is optional: `AVAILABLE` says whether it is there. After some faults of a peer it cannot
be asked for a last GOAWAY: that is written here. It opens windows by itself unless told not to, and then a slow
consumer would not slow its sender: so each stream's window opens when its consumer took bytes, and the window of the
connection is so large that no stream waits for another.

What is left to its user: the meaning of fields (`heads`), time, and how much a peer may ask for (`flood`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Literal

import attrs

try:
    import ngh2
except ImportError:  # the extra `http2` is not installed
    AVAILABLE = False
else:
    AVAILABLE = True

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client's connection begins with (RFC 9113 3.4)."""

FRAME_BYTES: Final = 16 * 1024
"""Most payload of one frame (RFC 9113 4.2), which nobody has a reason to raise: small ones let streams take turns."""

NO_ERROR: Final = 0x0
PROTOCOL_ERROR: Final = 0x1
INTERNAL_ERROR: Final = 0x2
REFUSED_STREAM: Final = 0x7
CANCEL: Final = 0x8
CONNECT_ERROR: Final = 0xA
ENHANCE_YOUR_CALM: Final = 0xB
HTTP_1_1_REQUIRED: Final = 0xD
"""Why a stream or a connection ends (RFC 9113 7)."""

# What `receive` tells: the first item of an event. The second is the stream, 0 for the connection.
REQUEST: Final = 1  # (REQUEST, stream, fields, ended)
RESPONSE: Final = 2  # (RESPONSE, stream, fields, ended)
INTERIM: Final = 3  # (INTERIM, stream, fields, False)
DATA: Final = 4  # (DATA, stream, bytes, ended)
TRAILERS: Final = 5  # (TRAILERS, stream, fields, True)
PEER_RESET: Final = 6  # (PEER_RESET, stream, code, False); CLOSED follows
CLOSED: Final = 7  # (CLOSED, stream, code, False): over both ways, 0 in good order; the last event of a stream
WINDOW: Final = 8  # (WINDOW, stream or 0, 0, False): the peer takes more
SETTINGS: Final = 9  # (SETTINGS, 0, 0, False): of the peer; see `peer_streams` and `peer_takes_connect`
PING: Final = 10  # (PING, 0, 0, False): the peer asked; the answer is written
PONG: Final = 11  # (PONG, 0, 0, False): the peer answered
GOAWAY: Final = 12  # (GOAWAY, the last stream that is served, code, False)
ENDED: Final = 13  # (ENDED, 0, code, False): nothing more is read; what `to_send` gives is the last

WireFields = Sequence[tuple[bytes, bytes]]
"""(name, value), pseudo-header fields first, as they stand in a field section."""

Event = (
    tuple[Literal[1, 2, 3, 5], int, WireFields, bool]
    | tuple[Literal[4], int, bytes, bool]
    | tuple[Literal[6, 7, 8, 9, 10, 11, 12, 13], int, int, bool]
)


class StreamGone(Exception):
    """Something was to be written to a stream that takes nothing any more: its CLOSED comes, or has come."""


@attrs.frozen(kw_only=True)
class Http2Settings:
    """What we tell the peer, and hold it to.

    Attributes:
        streams: that the peer may have open at once.
        window_bytes: that a stream may bring before its consumer took some.
        header_bytes, header_fields: of a field section, each field 32 bytes longer than it is (RFC 9113 6.5.2). More
            ends the connection: what is to be answered instead has to stay below.
        unread_answers: answers to PING and SETTINGS that wait for a peer that does not read.
        continuations: CONTINUATION frames of a field section.
        resets: of streams by the peer: so many at once, and so many a second.
        oddities: what a peer may do that makes no sense, such as empty frames: so many at once, and so many a second.
    """

    streams: int = 128
    window_bytes: int = 64 * 1024
    header_bytes: int = 64 * 1024
    header_fields: int = 1024
    unread_answers: int = 256
    continuations: int = 8
    resets: tuple[int, int] = (200, 50)
    oddities: tuple[int, int] = (1000, 100)


class Http2Connection:
    """One connection.

    Args:
        client: our role; else we are the server.
        settings: see there.

    Attributes:
        ended: nothing more is read.
    """

    def __init__(self, *, client: bool, settings: Http2Settings) -> None:
        role = ngh2.Role.CLIENT if client else ngh2.Role.SERVER
        config = ngh2.Configuration(
            auto_window_update=False,
            max_outbound_ack=settings.unread_answers,
            max_settings=32,
            stream_reset_rate_limit=settings.resets,
            max_continuations=settings.continuations,
            glitch_rate_limit=settings.oddities,
            max_inbound_header_list_size=settings.header_bytes,
            max_inbound_header_count=settings.header_fields,
        )
        self._engine: Any = ngh2.Connection(role, config)
        self._last = b""  # a GOAWAY of our own
        self.ended = False
        told: dict[Any, int] = {
            ngh2.Setting.INITIAL_WINDOW_SIZE: settings.window_bytes,
            ngh2.Setting.MAX_HEADER_LIST_SIZE: settings.header_bytes,
        }
        if client:
            told[ngh2.Setting.ENABLE_PUSH] = 0
        else:
            told[ngh2.Setting.MAX_CONCURRENT_STREAMS] = settings.streams
            told[ngh2.Setting.ENABLE_CONNECT_PROTOCOL] = 1
            told[ngh2.Setting.NO_RFC7540_PRIORITIES] = 1
        self._engine.initiate_connection(told)
        self._engine.set_local_window_size(max(65_535, settings.window_bytes * settings.streams))

    # What comes

    def receive(self, data: bytes) -> list[Event]:
        """Take bytes of the peer. What is to be answered to them is in `to_send`."""
        if self.ended:
            return []
        code = NO_ERROR
        try:
            self._engine.receive_data(data)
        except ngh2.DenialOfServiceError:
            code = ENHANCE_YOUR_CALM
        except ngh2.ConnectionProtocolError:
            code = PROTOCOL_ERROR
        except ngh2.NGH2Error:
            code = INTERNAL_ERROR
        events = self._events()
        if code and not self.ended:
            self.ended = True
            self._last = _goaway(0, code)
            events.append((ENDED, 0, code, False))
        return events

    def _events(self) -> list[Event]:
        events: list[Event] = []
        for event in self._engine.events():
            translate = _TRANSLATE.get(type(event))
            if translate is not None:
                events.append(translate(event))
        if events and events[-1][0] == ENDED:
            self.ended = True
        return events

    def consumed(self, stream: int, count: int) -> None:
        """The consumer of a stream took that many bytes of its DATA: the peer may send as many more."""
        if count and not self.ended:
            self._engine.acknowledge_received_data(count, stream)

    # What goes

    def to_send(self, most: int) -> bytes:
        """Bytes for the peer, at most so many; none when there is nothing, or windows are shut."""
        if self._last:
            last, self._last = self._last, b""
            return last
        try:
            data: bytes = self._engine.data_to_send(most)
        except ngh2.NGH2Error:
            return b""
        return data

    def events_of_sending(self) -> list[Event]:
        """What happened because of what was sent: streams that are over. To be asked for after `to_send`."""
        return self._events() if not self._last else []

    def request(self, fields: WireFields, ended: bool) -> int:
        """Send a request, and return its stream.

        Raises:
            StreamGone: no stream can be opened.
        """
        try:
            stream: int = self._engine.send_request(fields, end_stream=ended)
        except ngh2.NGH2Error as error:
            raise StreamGone(str(error)) from None
        return stream

    def respond(self, stream: int, fields: WireFields, ended: bool) -> None:
        """Send the final head of a response. Raises `StreamGone`, as all that follow."""
        self._do(self._engine.send_response, stream, fields, end_stream=ended)

    def interim(self, stream: int, fields: WireFields) -> None:
        """Send the head of an interim response."""
        self._do(self._engine.send_informational_response, stream, fields)

    def send(self, stream: int, data: bytes, ended: bool) -> None:
        """Queue DATA; it leaves as the windows of the peer let it: see `queued`."""
        self._do(self._engine.send_data, stream, data, end_stream=ended)

    def trailers(self, stream: int, fields: WireFields) -> None:
        """End the stream with trailers, behind the DATA that is queued."""
        self._do(self._engine.send_trailers, stream, fields)

    def reset(self, stream: int, code: int) -> None:
        """Give a stream up. Nothing happens to one that is over."""
        try:
            self._engine.reset_stream(stream, code)
        except ngh2.NGH2Error:
            pass

    def ping(self) -> None:
        """Ask the peer for a PONG."""
        self._do(self._engine.ping)

    def announce_end(self) -> None:
        """A server: say that there will be an end, which a GOAWAY will name (RFC 9113 6.8)."""
        self._do(self._engine.send_shutdown_notice)

    def goaway(self, code: int = NO_ERROR) -> None:
        """Take no new streams from here on; those that are open go on unless there is a code."""
        self._do(self._engine.send_goaway, code)

    def terminate(self, code: int) -> None:
        """End the connection: what `to_send` gives is the last."""
        self._do(self._engine.terminate_connection, code)

    def _do(self, method: Callable[..., object], *args: object, **keywords: object) -> None:
        try:
            method(*args, **keywords)
        except ngh2.NGH2Error as error:
            raise StreamGone(str(error)) from None

    # What is known

    def queued(self, stream: int) -> int:
        """Bytes of DATA of a stream that wait for its window."""
        try:
            size: int = self._engine.queued_body_size(stream)
        except ngh2.NGH2Error:
            return 0
        return size

    @property
    def takes_requests(self) -> bool:
        """Whether a client may open a stream now, but for the limit of `peer_streams`."""
        return bool(self._engine.can_send_request)

    @property
    def peer_streams(self) -> int:
        """How many streams of ours the peer allows at once."""
        return int(self._engine.remote_settings.get(ngh2.Setting.MAX_CONCURRENT_STREAMS, 2**31 - 1))

    @property
    def peer_takes_connect(self) -> bool:
        """Whether the peer takes an extended CONNECT (RFC 8441 3)."""
        return bool(self._engine.remote_settings.get(ngh2.Setting.ENABLE_CONNECT_PROTOCOL, 0))


def _goaway(last_stream: int, code: int) -> bytes:
    """A frame, as RFC 9113 6.8 has it."""
    return b"\0\0\x08\x07\0\0\0\0\0" + last_stream.to_bytes(4, "big") + code.to_bytes(4, "big")


def secret(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    """A field that is never put into a table of HPACK: its length could tell what others sent (RFC 7541 7.1)."""
    field: tuple[bytes, bytes] = ngh2.NeverIndexedHeader(name, value)
    return field


def _translations() -> Iterable[tuple[Any, Callable[[Any], Event]]]:
    yield ngh2.RequestReceived, lambda event: (REQUEST, event.stream_id, event.headers, event.end_stream)
    yield ngh2.ResponseReceived, lambda event: (RESPONSE, event.stream_id, event.headers, event.end_stream)
    yield ngh2.InformationalResponseReceived, lambda event: (INTERIM, event.stream_id, event.headers, False)
    yield ngh2.DataReceived, lambda event: (DATA, event.stream_id, event.data, event.end_stream)
    yield ngh2.TrailersReceived, lambda event: (TRAILERS, event.stream_id, event.headers, True)
    yield ngh2.StreamReset, lambda event: (PEER_RESET, event.stream_id, event.error_code, False)
    yield ngh2.StreamClosed, lambda event: (CLOSED, event.stream_id, event.error_code, False)
    yield ngh2.WindowUpdated, lambda event: (WINDOW, event.stream_id, 0, False)
    yield ngh2.SettingsReceived, lambda event: (SETTINGS, 0, 0, False)
    yield ngh2.PingReceived, lambda event: (PING, 0, 0, False)
    yield ngh2.PingAcknowledged, lambda event: (PONG, 0, 0, False)
    yield ngh2.GoAwayReceived, lambda event: (GOAWAY, event.last_stream_id, event.error_code, False)
    yield ngh2.ConnectionClosed, lambda event: (ENDED, 0, event.error_code, False)


_TRANSLATE: Final[dict[Any, Callable[[Any], Event]]] = dict(_translations()) if AVAILABLE else {}
