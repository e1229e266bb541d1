"""A client of HTTP/2 on a real connection, in one thread: hyper-h2 writes and reads its frames.

Nothing is taken of a response unless the test says so: see `taking`.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterable
from pathlib import Path

import h2.config
import h2.connection
import h2.events as events
import h2.settings

from tests.peers.http2_frames import GOAWAY, frame, read_frames
from tests.peers.pipe import PATIENCE_S, Ended, Pipe, dial

Field = tuple[bytes, bytes]


class Answer:
    """What came on one stream so far.

    Attributes:
        heads: interim ones first, as fields by name.
        body: of the response.
        trailers: of it, by name.
        ended: in good order.
        reset: the code with which the peer gave the stream up.
    """

    def __init__(self) -> None:
        self.heads: list[dict[bytes, bytes]] = []
        self.body = b""
        self.trailers: dict[bytes, bytes] = {}
        self.ended = False
        self.reset: int | None = None

    @property
    def status(self) -> int:
        """Of the newest head; 0 while there is none."""
        return int(self.heads[-1][b":status"]) if self.heads else 0

    @property
    def over(self) -> bool:
        """Nothing more comes."""
        return self.ended or self.reset is not None


class Http2Client:
    """One connection.

    Args:
        address: of the peer.
        ca: of its certificate, for TLS.
        name: that TLS asks for.
        window: bytes of a response that may come before some are taken.

    Attributes:
        answers: by stream.
        not_taken: streams whose bytes are not taken, so that their windows shut.
        last_stream: of the newest GOAWAY; None while there is none.
    """

    def __init__(
        self, address: tuple[str, int], *, ca: Path | None = None, name: str = "localhost", window: int = 65_535
    ) -> None:
        context = None
        if ca is not None:
            context = ssl.create_default_context(cafile=str(ca))
            context.set_alpn_protocols(["h2"])
        self.pipe: Pipe = dial(address, tls=context, name=name)
        config = h2.config.H2Configuration(client_side=True, header_encoding=None)
        self.h2 = h2.connection.H2Connection(config)
        self.h2.local_settings = h2.settings.Settings(
            client=True, initial_values={h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window}
        )
        self.answers: dict[int, Answer] = {}
        self.not_taken: set[int] = set()
        self.last_stream: int | None = None
        self._came = b""
        self.h2.initiate_connection()
        self.h2.increment_flow_control_window(2**30)
        self._flush()

    def request(
        self, path: bytes, *more: Field, endpoint: str, method: bytes = b"GET", body: bytes | None = b""
    ) -> int:
        """Send a request, with all of its body; None for one that follows. Returns the stream."""
        pseudo = [field for field in more if field[0].startswith(b":")]
        stream: int = self.h2.get_next_available_stream_id()
        fields = [
            (b":method", method),
            *pseudo,
            (b":scheme", b"https" if self.pipe.secure else b"http"),
            (b":authority", b"example.test"),
            (b":path", path),
            (b"x-pico-endpoint", endpoint.encode()),
            *(field for field in more if field not in pseudo),
        ]
        self.answers[stream] = Answer()
        self.h2.send_headers(stream, fields, end_stream=body == b"")
        self._flush()
        if body:
            self.send(stream, body, ended=True)
        return stream

    def websocket(self, path: bytes, *more: Field, endpoint: str) -> int:
        """Offer a WebSocket (RFC 8441), and wait for the answer. Returns the stream; see `StreamPipe`."""
        while not self.h2.remote_settings.enable_connect_protocol:
            self.read()
        offer = ((b":protocol", b"websocket"), (b"sec-websocket-version", b"13"), *more)
        stream = self.request(path, *offer, endpoint=endpoint, method=b"CONNECT", body=None)
        while not self.answers[stream].heads:
            self.read()
        return stream

    def send(self, stream: int, data: bytes, *, ended: bool = False) -> None:
        """Send a piece of a body, as the peer opens its windows."""
        while data:
            size = min(self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size, len(data))
            if size <= 0:
                self.read()
                continue
            self.h2.send_data(stream, data[:size])
            data = data[size:]
            self._flush()
        if ended:
            self.h2.end_stream(stream)
            self._flush()

    def trailers(self, stream: int, fields: Iterable[Field]) -> None:
        """End a request with trailers."""
        self.h2.send_headers(stream, list(fields), end_stream=True)
        self._flush()

    def reset(self, stream: int) -> None:
        """Give a stream up."""
        self.h2.reset_stream(stream, 8)
        self._flush()

    def take(self, stream: int, count: int) -> None:
        """Open the window of a stream."""
        self.h2.increment_flow_control_window(count, stream)
        self._flush()

    def wait(self, *streams: int, timeout: float = PATIENCE_S) -> list[Answer]:
        """Read until nothing more comes on these streams. Returns what came."""
        answers = [self.answers[stream] for stream in streams]
        deadline = time.monotonic() + timeout
        while not all(answer.over for answer in answers):
            self.read(deadline - time.monotonic())
        return answers

    def read(self, timeout: float = PATIENCE_S) -> None:
        """Read something that comes, and answer it.

        Raises:
            Ended: the connection has ended.
        """
        frames, self._came = read_frames(self._came + self.pipe.recv(timeout))
        for one in frames:
            if one.kind == GOAWAY:  # hyper-h2 would read no more
                self.last_stream = int.from_bytes(one.payload[:4], "big")
                continue
            for event in self.h2.receive_data(frame(one.kind, one.flags, one.stream, one.payload)):
                self._take(event)
        self._flush()

    def _take(self, event: events.Event) -> None:
        answer = self.answers.get(getattr(event, "stream_id", 0) or 0)
        if answer is None:
            return
        if isinstance(event, (events.ResponseReceived, events.InformationalResponseReceived)):
            answer.heads.append(dict(event.headers))
        elif isinstance(event, events.DataReceived):
            answer.body += event.data
            if event.stream_id not in self.not_taken and event.flow_controlled_length:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, events.TrailersReceived):
            answer.trailers = dict(event.headers)
        elif isinstance(event, events.StreamEnded):
            answer.ended = True
        elif isinstance(event, events.StreamReset):
            answer.reset = int(event.error_code)

    def _flush(self) -> None:
        data = self.h2.data_to_send()
        if data:
            self.pipe.send(data)

    def close(self) -> None:
        """The end of the connection."""
        self.pipe.close()


class StreamPipe(Pipe):
    """A stream as the pipe of what was upgraded on it."""

    def __init__(self, client: Http2Client, stream: int) -> None:
        self._client = client
        self._stream = stream
        self._taken = 0

    def recv(self, timeout: float = PATIENCE_S, size: int = 262144) -> bytes:
        """The bytes that come next, at least one.

        Raises:
            Ended: none come any more.
        """
        answer = self._client.answers[self._stream]
        while len(answer.body) == self._taken:
            if answer.over:
                raise Ended(None, "the stream has ended", clean=answer.ended)
            self._client.read(timeout)
        data = bytes(answer.body[self._taken : self._taken + size])
        self._taken += len(data)
        return data

    def send(self, data: bytes, timeout: float = PATIENCE_S) -> None:
        """Send bytes."""
        self._client.send(self._stream, data)
