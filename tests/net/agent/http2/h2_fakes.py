"""A service of HTTP/2 that the test plays, by hyper-h2, behind the forwarder of an agent."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, Event, RequestReceived, StreamEnded, StreamReset, TrailersReceived
from h2.settings import SettingCodes, Settings
from twisted.internet.defer import maybeDeferred

from pico_twisted.config import ServiceAddress
from pico_twisted.core.rpc.capabilities import TRAILERS
from pico_twisted.net.agent.serving.http2.service import Http2Service
from tests.net.agent.agent_fakes import Bench, FakeTransport

Fields = Iterable[tuple[bytes, bytes]]
E = TypeVar("E", bound=Event)

OK = ((b":status", b"200"),)


class H2Peer:
    """The service's end of one connection.

    Args:
        transport: the agent's end.
        settings: what the service says first.

    Attributes:
        h2: what speaks.
        events: all that came.
        requests: the field section of each request, by its stream.
    """

    def __init__(self, transport: FakeTransport, settings: dict[SettingCodes, int] | None = None) -> None:
        self.transport = transport
        config = H2Configuration(
            client_side=False,
            header_encoding=None,
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
        )
        self.h2 = H2Connection(config)
        if settings:
            self.h2.local_settings = Settings(client=False, initial_values=settings)
        self.h2.initiate_connection()
        self.events: list[Event] = []
        self.requests: dict[int, dict[bytes, bytes]] = {}
        self.pump()

    def pump(self) -> None:
        """Carry bytes both ways until nothing moves."""
        while True:
            came = self.transport.taken()
            for event in self.h2.receive_data(came) if came else ():
                self.events.append(event)
                if isinstance(event, RequestReceived):
                    self.requests[_stream(event)] = {bytes(name): bytes(value) for name, value in event.headers or ()}
            goes = self.h2.data_to_send()
            if goes and self.transport.connected:
                self.transport.answer(goes)
            elif not came:
                return

    def found(self, kind: type[E]) -> list[E]:
        """The events of a kind."""
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def last(self) -> int:
        """The stream of the newest request."""
        self.pump()
        return max(self.requests)

    def body(self, stream: int) -> bytes:
        """What came of the body of a request."""
        return b"".join(event.data or b"" for event in self.found(DataReceived) if event.stream_id == stream)

    def ended(self, stream: int) -> bool:
        """Whether a request is complete."""
        return any(event.stream_id == stream for event in self.found(StreamEnded))

    def trailers(self, stream: int) -> list[tuple[bytes, bytes]]:
        """Those of a request."""
        found = [event for event in self.found(TrailersReceived) if event.stream_id == stream]
        return [(bytes(name), bytes(value)) for name, value in found[0].headers or ()] if found else []

    def resets(self) -> list[tuple[int, int]]:
        """(stream, code) of those that the agent gave up."""
        self.pump()
        return [(_stream(event), int(event.error_code or 0)) for event in self.found(StreamReset)]

    def take(self, stream: int, count: int) -> None:
        """Open the windows again for what was taken."""
        self.h2.acknowledge_received_data(count, stream)
        self.pump()

    def answer(
        self,
        stream: int,
        body: bytes | None = b"ok",
        fields: Fields = (),
        status: bytes = b"200",
        trailers: Fields = (),
        *,
        ends: bool = True,
    ) -> None:
        """Answer with all of it in one read."""
        self.pump()
        last = ends and not trailers
        self.h2.send_headers(stream, [(b":status", status), *fields], end_stream=last and body is None)
        if body is not None:
            self.h2.send_data(stream, body, end_stream=last)
        if trailers:
            self.h2.send_headers(stream, list(trailers), end_stream=True)
        self.pump()

    def say(self, what: Callable[[H2Connection], object]) -> None:
        """Let the service do something else."""
        self.pump()
        what(self.h2)
        self.pump()

    def send_raw_only(self, data: bytes) -> None:
        """Send bytes, and do not look at what comes back."""
        self.transport.answer(data)

    def send_raw(self, data: bytes) -> None:
        """Send bytes that hyper-h2 would not."""
        self.pump()
        self.transport.answer(data)


def _stream(event: Any) -> int:
    return int(event.stream_id)


class Http2Bench(Bench):
    """A forwarder between a tunnel of the test and a service of HTTP/2 that the test plays.

    Args:
        version: of the tunnel.
        settings: what the service says first on each connection.
        listener: keys of the listener.

    Attributes:
        peers: the connections that were made, in order.
    """

    def __init__(
        self, version: int = 2, *, settings: dict[SettingCodes, int] | None = None, greets: bool = True, **listener: Any
    ) -> None:
        listener.setdefault("addr", ServiceAddress("h2c", "127.0.0.1", 3000))
        listener.setdefault("timeout", None)
        super().__init__(version, in_thread=listener.pop("in_thread", maybeDeferred), **listener)
        assert isinstance(self.local, Http2Service)
        self.tunnel.capabilities = frozenset((TRAILERS,))
        self.settings = settings
        self.peers: list[H2Peer] = []
        self.greets = greets

    @property
    def peer(self) -> H2Peer:
        """The newest connection, which has greeted."""
        self.greet()
        return self.peers[-1]

    def greet(self) -> None:
        """Let the service greet on all connections that were made."""
        for transport in self.service.transports[len(self.peers) :]:
            self.peers.append(H2Peer(transport, self.settings))
        for peer in self.peers:
            peer.pump()

    def ask(self, extra: bytes = b"", *, method: bytes = b"GET", more: bool = False, **options: Any) -> Any:
        """A request whose stream the service has seen."""
        request = self.get(extra=extra, method=method, more=more, **options)
        self.greet()
        return request

    def retries(self, reason: str) -> int:
        """How often a request was sent again."""
        line = f'pico_retries_total{{reason="{reason}"}} '
        text = self.metrics.exposition().decode()
        return int(float(text.partition(line)[2].partition("\n")[0])) if line in text else 0

    def connections(self) -> int:
        """How many are open."""
        return sum(transport.connected for transport in self.service.transports)


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """One frame (RFC 9113 4.1)."""
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload
