"""The connections of clients: what is sent on one, and how its answers are judged. In HTTP/1.1, or with WebSockets."""

from __future__ import annotations

import base64
import json
import secrets
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Final
from typing import Protocol as Shape
from urllib.parse import urlsplit

import attrs
from twisted.internet.endpoints import wrapClientTLS
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.tcp import Connection
from twisted.python.failure import Failure

from pico_twisted import __version__
from pico_twisted.core.http1.client import END, ClientConnection, Http1Error, ResponseHead
from pico_twisted.core.http1.head import HeadLimits
from pico_twisted.ctl.bench.echo import SERVER
from pico_twisted.ctl.bench.messages import FrameCount, Message, OtherMessage
from pico_twisted.ctl.bench.plan import BenchPlan
from pico_twisted.net.socket.dialling import tcp_endpoint
from pico_twisted.net.socket.options import tune, writer
from pico_twisted.net.tls.client import client_tls, explain_tls

MAX_ERROR_BYTES: Final = 2048
"""The bytes that are kept of the body of an answer that is an error: enough for what a node says."""
COPIED_BYTES: Final = 32 * 1024
"""The largest body, in bytes, that is sent in one piece with its head."""
LIMITS: Final = HeadLimits()
"""The limits of the heads of answers: those that a node has."""

_SWITCHED: Final = 101
_OK: Final = 200


@attrs.frozen(kw_only=True)
class Place:
    """A proxy port.

    Attributes:
        url: as given.
        host: for the Host of requests.
        target: the path of requests.
        endpoint: how to connect.
    """

    url: str
    host: bytes
    target: bytes
    endpoint: IStreamClientEndpoint


def place_of(reactor: Any, url: str, ca: str, timeout_s: float) -> Place:
    """The proxy port of a URL.

    Args:
        reactor: connects.
        url: as given.
        ca: a PEM file of authorities to trust; empty for the system's.
        timeout_s: for connecting.

    Raises:
        UnusableCertificateError: `ca` cannot be used.
    """
    parsed = urlsplit(url)
    secure = parsed.scheme == "https"
    host = parsed.hostname or ""
    endpoint = tcp_endpoint(reactor, host, parsed.port or (443 if secure else 80), timeout_s)
    return Place(
        url=url,
        host=parsed.netloc.encode("ascii" if parsed.netloc.isascii() else "idna"),
        target=(parsed.path or "/").encode("ascii"),
        endpoint=wrapClientTLS(client_tls(host, ca), endpoint) if secure else endpoint,
    )


def request_of(method: str, place: Place, endpoint: str, fields: Sequence[tuple[str, str]] = ()) -> bytes:
    """The head of a request.

    Args:
        method: of it.
        place: where it goes.
        endpoint: the ID of the endpoint that it is for.
        fields: more for the head.
    """
    all_fields = [
        ("Host", place.host.decode()),
        ("x-pico-endpoint", endpoint),
        ("User-Agent", f"picoctl/{__version__}"),
        *fields,
    ]
    lines = [f"{method} {place.target.decode()} HTTP/1.1", *(f"{name}: {value}" for name, value in all_fields), "", ""]
    return "\r\n".join(lines).encode("ascii")


def upgrade_of(place: Place, endpoint: str) -> bytes:
    """The head of a request for a WebSocket to an endpoint."""
    key = base64.b64encode(secrets.token_bytes(16)).decode("ascii")
    fields = [("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")]
    return request_of("GET", place, endpoint, [*fields, ("Sec-WebSocket-Key", key)])


class WireOwner(Shape):
    """The client that a connection belongs to: it is told what becomes of its request."""

    def ready(self, wire: Wire) -> None:
        """The connection can take requests."""

    def answered(self, wire: Wire, *, keep: bool) -> None:
        """The whole answer is here, and right; `keep` when the connection can be used further."""

    def failed(self, kind: str, *, keep: bool = False) -> None:
        """There will be no right answer; `kind` says why in few words."""

    def lost(self, wire: Wire, why: str | None) -> None:
        """The connection is gone; `why` is what TLS has to say about it."""


class Wire(Protocol, ABC):
    """One connection of a client, which reads the answers in HTTP.

    Args:
        client: whose it is.

    Attributes:
        received_bytes: since this was last set to 0.
        gone: it cannot be used any more.
    """

    transport: Any  # of TCP or TLS; the methods that both have are in no interface of Twisted

    def __init__(self, client: WireOwner) -> None:
        self.client = client
        self.received_bytes = 0
        self.gone = False
        self._http = ClientConnection(LIMITS)
        self._head: ResponseHead | None = None
        self._body_bytes = 0
        self._error_body = b""

    def logPrefix(self) -> str:
        return "client"

    def connectionMade(self) -> None:
        if isinstance(self.transport, Connection):
            self.transport.protocol = self  # endpoints leave one of theirs between
        tune(self.transport, tunnel=False)
        self.write = writer(self.transport)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.gone = True
        if self._head is not None:
            self._http.receive_eof()
            self._read()
        self.client.lost(self, explain_tls(reason))

    def dataReceived(self, data: bytes) -> None:
        self.received_bytes += len(data)
        self._http.receive(data)
        self._read()

    @abstractmethod
    def ask(self) -> int:
        """Send the next request; how many bytes that were."""

    @abstractmethod
    def _judge(self, head: ResponseHead, *, keep: bool) -> None:
        """A whole answer is here, or the head of one that switches to another protocol."""

    def close(self) -> None:
        """Close it."""
        self.gone = True
        self.transport.loseConnection()

    def abort(self) -> None:
        """Cut it."""
        self.gone = True
        self.transport.abortConnection()

    def _read(self) -> None:
        try:
            while (event := self._http.next_event()) is not None:
                if isinstance(event, bytes):
                    self._body_bytes += len(event)
                    if self._head is not None and self._head.status != _OK:
                        self._error_body = (self._error_body + event)[:MAX_ERROR_BYTES]
                elif event is END or (isinstance(event, ResponseHead) and event.status == _SWITCHED):
                    head = self._head if event is END else event
                    self._head = None
                    assert isinstance(head, ResponseHead)
                    self._judge(head, keep=self._http.reusable and not self.gone)
                    return
                elif isinstance(event, ResponseHead) and event.status >= _OK:
                    self._head = event
                    self._body_bytes = 0
                    self._error_body = b""
        except Http1Error as error:
            self.client.failed(f"not HTTP: {error}")

    def _error(self, head: ResponseHead) -> str:
        """An answer that is an error, in few words: its status, and what a node says."""
        try:
            words = json.loads(self._error_body).get("error")
        except (ValueError, AttributeError, RecursionError):
            words = None
        return f"{head.status} {words}" if isinstance(words, str) and len(words) < 100 else str(head.status)


class HttpWire(Wire):
    """A kept connection with one request after the other.

    Args:
        client: whose it is.
        heads: of requests, taken in turn; shared by all connections to a proxy port.
        body: of each request.
        plan: what is expected of the answers.
        first: which of the heads is first.
    """

    def __init__(self, client: WireOwner, heads: Sequence[bytes], body: bytes, plan: BenchPlan, first: int) -> None:
        super().__init__(client)
        self._heads = heads
        self._body = body
        self._turn = first
        self._method = plan.method.encode("ascii")
        self._expected_bytes = plan.answer_bytes

    def connectionMade(self) -> None:
        super().connectionMade()
        self.client.ready(self)

    def ask(self) -> int:
        head = self._heads[self._turn % len(self._heads)]
        self._turn += 1
        self._head = None
        self._http.expect(self._method, upgrade=False)
        body = self._body
        if len(body) <= COPIED_BYTES:
            self.write(head + body)
        else:
            self.write(head)
            self.write(body)
        return len(head) + len(body)

    def _judge(self, head: ResponseHead, *, keep: bool) -> None:
        if head.status != _OK:
            self.client.failed(self._error(head), keep=keep)
        elif head.get(b"server") != SERVER:
            self.client.failed("an answer of another service", keep=keep)
        elif self._body_bytes != self._expected_bytes:
            self.client.failed("an answer of another length", keep=keep)
        else:
            self.client.answered(self, keep=keep)


class WebSocketWire(Wire):
    """A WebSocket, on which each message is waited for. Its handshake belongs to the first message's time.

    Args:
        client: whose it is.
        request: the head of the request for it.
        message: that is sent.
    """

    def __init__(self, client: WireOwner, request: bytes, message: Message) -> None:
        super().__init__(client)
        self._request = request
        self._message = message
        self._frames: FrameCount | None = None

    def connectionMade(self) -> None:
        super().connectionMade()
        self._http.expect(b"GET", upgrade=True)
        self.write(self._request)

    def ask(self) -> int:
        self.write(self._message.sent)
        return len(self._message.sent)

    def dataReceived(self, data: bytes) -> None:
        if self._frames is None:
            super().dataReceived(data)
        else:
            self.received_bytes += len(data)
            self._count(self._frames, data)

    def _judge(self, head: ResponseHead, *, keep: bool) -> None:
        if head.status != _SWITCHED:
            self.client.failed(f"no WebSocket: {self._error(head)}")
            return
        self._frames = FrameCount(self._message.returned)
        rest = self._http.take_rest()
        self.received_bytes = len(rest)
        self.client.ready(self)
        self._count(self._frames, rest)

    def _count(self, frames: FrameCount, data: bytes) -> None:
        try:
            for _ in range(frames.feed(data)):
                self.client.answered(self, keep=True)
        except OtherMessage as error:
            self.client.failed(str(error))
