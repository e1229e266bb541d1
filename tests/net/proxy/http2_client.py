"""A client of HTTP/2 of the proxy port, in memory: hyper-h2 writes and reads its frames."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import h2.config
import h2.connection
import h2.events as events
import h2.settings
from h2.errors import ErrorCodes
from twisted.internet.task import Clock

from pico_twisted.net.proxy.http2.channel import Http2Channel
from pico_twisted.net.proxy.http2.linger import CLIENT_STOPS_S
from tests.doubles.node import MemoryNode, pass_time
from tests.doubles.transport import MemoryTransport
from tests.doubles.tunnel import FakeCall, FakeTunnel
from tests.net.doubles import register
from tests.peers.http2_frames import GOAWAY, Frame, read_frames

Field = tuple[bytes, bytes]


class Http2Client:
    """A client's connection to a node with one agent, both played by the test.

    Args:
        parts: the node; one of its own unless given.
        tunnel: of the agent.
        window: how much of a response may come before some was taken.
        takes_all: what comes is taken at once; else see `take`.
        limits: of the node, as of `MemoryNode`.

    Attributes:
        happened: what hyper-h2 told of, up to the first GOAWAY of the node.
        frames: all that came.
    """

    def __init__(
        self,
        *,
        parts: MemoryNode | None = None,
        tunnel: FakeTunnel | None = None,
        window: int = 65_535,
        takes_all: bool = True,
        **limits: Any,
    ) -> None:
        self.clock = parts.clock if parts is not None else Clock()
        self.parts = parts or MemoryNode(self.clock, **limits)
        self.tunnel = tunnel or FakeTunnel()
        if parts is None:
            register(self.parts, self.tunnel)
        self.transport = MemoryTransport(self.clock)
        self.transport.connect(self.parts.proxy.buildProtocol(self.transport.getPeer()))
        config = h2.config.H2Configuration(client_side=True, header_encoding=None, validate_outbound_headers=False)
        self.h2 = h2.connection.H2Connection(config)
        self.h2.local_settings = h2.settings.Settings(
            client=True, initial_values={h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window}
        )
        self.h2.local_settings.enable_push = 0
        self.takes_all = takes_all
        self.happened: list[events.Event] = []
        self.frames: list[Frame] = []
        self._came = b""
        self.h2.initiate_connection()
        self.h2.increment_flow_control_window(2**24)
        self.flush()

    @property
    def channel(self) -> Http2Channel:
        """What serves the connection."""
        channel = self.transport.protocol
        assert isinstance(channel, Http2Channel)
        return channel

    def flush(self) -> None:
        """Send what is to be sent, and read what came."""
        for _ in range(100):
            data = self.h2.data_to_send()
            if data:
                self.transport.receive(data)
            self.clock.advance(0)
            came = self.transport.clear()
            if not data and not came:
                return
            frames, self._came = read_frames(self._came + came)
            self.frames += frames
            if self.ends:
                continue  # hyper-h2 reads no more
            for event in self.h2.receive_data(came):
                self.happened.append(event)
                if isinstance(event, events.DataReceived) and self.takes_all and event.flow_controlled_length:
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)

    def request(
        self,
        path: bytes = b"/a",
        *more: Field,
        method: bytes = b"GET",
        host: bytes = b"my-ep.example.com",
        ended: bool = True,
        flush: bool = True,
    ) -> int:
        """Send the head of a request. Returns its stream."""
        stream: int = self.h2.get_next_available_stream_id()
        fields = [(b":method", method), (b":scheme", b"http"), (b":authority", host), (b":path", path), *more]
        self.h2.send_headers(stream, fields, end_stream=ended)
        if flush:
            self.flush()
        return stream

    def websocket(self, path: bytes = b"/ws", *more: Field, protocol: bytes = b"websocket") -> int:
        """Offer to change to a protocol (RFC 8441)."""
        fields = ((b":protocol", protocol), (b"sec-websocket-version", b"13"), *more)
        return self.request(path, *fields, method=b"CONNECT", ended=False)

    def send(self, stream: int, data: bytes, ended: bool = False) -> None:
        """Send a piece of a body."""
        while len(data) > 16_384:
            self.h2.send_data(stream, data[:16_384])
            data = data[16_384:]
        self.h2.send_data(stream, data, end_stream=ended)
        self.flush()

    def reset(self, stream: int, code: int = ErrorCodes.CANCEL) -> None:
        """Give a stream up."""
        if not self.of(stream, events.StreamReset):
            self.h2.reset_stream(stream, code)
        self.flush()

    def take(self, stream: int, count: int) -> None:
        """Open the window of a stream."""
        self.h2.increment_flow_control_window(count, stream)
        self.flush()

    @property
    def call(self) -> FakeCall:
        """The newest call that the node made."""
        return self.tunnel.opened[-1]

    def respond(self, payload: bytes, more: bool = False, call: FakeCall | None = None) -> None:
        """The agent sends a frame of a response, of the newest call unless another is given."""
        (call or self.call).respond(payload, more)
        self.flush()

    def of(self, stream: int, *kinds: type[events.Event]) -> list[Any]:
        """What happened to a stream, as events of these kinds."""
        return [one for one in self.happened if isinstance(one, kinds) and getattr(one, "stream_id", None) == stream]

    def answer(self, stream: int) -> tuple[int, dict[bytes, bytes], bytes]:
        """What came on a stream, as one response: status, fields, and the body."""
        (head,) = self.of(stream, events.ResponseReceived)
        fields = dict(head.headers)
        return int(fields.pop(b":status")), fields, self.body(stream)

    def body(self, stream: int) -> bytes:
        """What came of a body."""
        return b"".join(event.data for event in self.of(stream, events.DataReceived))

    def ended(self, stream: int) -> bool:
        """Whether the response has ended in good order."""
        return bool(self.of(stream, events.StreamEnded))

    def resets(self, stream: int) -> list[int]:
        """The codes with which the node gave the stream up."""
        return [int(event.error_code) for event in self.of(stream, events.StreamReset) if event.remote_reset]

    def stopped(self, stream: int) -> bool:
        """Whether the client is told to send no more, and not before it had a moment to stop by itself."""
        at_once = self.resets(stream)
        self.pass_time(CLIENT_STOPS_S + 0.5)
        return not at_once and self.resets(stream) == [ErrorCodes.NO_ERROR]

    def goaways(self) -> Sequence[tuple[int, int]]:
        """(code, last stream) of each GOAWAY of the node."""
        return [(one.code, int.from_bytes(one.payload[:4], "big")) for one in self.frames if one.kind == GOAWAY]

    @property
    def ends(self) -> bool:
        """Whether hyper-h2 knows of a GOAWAY."""
        return any(isinstance(event, events.ConnectionTerminated) for event in self.happened)

    def pass_time(self, seconds: float) -> None:
        """Let time pass."""
        pass_time(self.clock, seconds)
        self.flush()

    @property
    def log(self) -> list[dict[str, Any]]:
        """The access log."""
        self.parts.access_log.flush()
        return [json.loads(line) for line in "".join(self.parts.access).splitlines()]
