"""One request of a proxy client, whatever it came over: what the reverse resource is given, and the downstream of its
`RoutedRequest`.

`twisted.web.server.Request` parses arguments and cookies, adds Date and Server, and cannot send a 1xx or stream a
request's body; making one costs more than reading a whole head. This one is what a resource that streams
needs: the request as it was read, and the means to answer it. How an answer is written is known by `http1.request` and
`http2.request`.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import ClassVar, Final

from zope.interface import implementer

from pico_twisted.core.access.ceilings import Ceiling
from pico_twisted.core.access.rules import Rule
from pico_twisted.core.access.subject import Refused
from pico_twisted.core.http1.account import Account, account_of_peer
from pico_twisted.core.http1.affinity import ClientTie, tie_of
from pico_twisted.core.http1.error_pages import ErrorFacts
from pico_twisted.core.http1.errors import Http1Error
from pico_twisted.core.http1.forwarding import request_to_tunnel
from pico_twisted.core.http1.head import RequestHead, ResponseHead
from pico_twisted.core.rpc.frames import HTTP
from pico_twisted.net.access.ceilings import leave_all
from pico_twisted.net.observe.metrics.requests import FAILED_FROM
from pico_twisted.net.observe.tracing import HopSpan
from pico_twisted.net.proxy.error_answer import PREFLIGHT, AgentError, error_answer
from pico_twisted.net.proxy.port import ClientConnection, Forward, Visitor
from pico_twisted.net.routing.interfaces import IDownstream

HTTP_2: Final = "HTTP/2.0"
"""The protocol of a request that came over HTTP/2."""


@implementer(IDownstream)
class ProxyRequest(abc.ABC):
    """A request, from its head until both it and its response are over.

    Attributes:
        protocol: what it came over, as it stands in access logs.
        connection: that it came on.
        head: as read.
        account: who it is from.
        body, body_complete: what came with the head, and whether that was all of the request.
        trailers: those that it ended with, if it did with the head; empty for none.
        bytes_in, bytes_out: of the bodies.
        forward: set by the resource that takes the request.
        visitor: who sends it, where the port authenticates.
        rule: that lets it in.
        status: of the response; 0 while there is none, 499 when the client left before.
        error: the code of an error of ours, for the log.
        error_fields: what stands in the answer of an error besides, (name, value).
        ceilings: those that it is in flight under.
        most_bytes: what its body may have.
        awaits_continue: the client may wait for a 100 before it sends the body.
        span: of the request, if it is recorded.
        say_end: ends it with words for the client, where what it was upgraded to has some; given what `shut` is.
    """

    protocol: ClassVar[str]
    kind: ClassVar[int] = HTTP

    # What is so of most requests stands here, and costs nothing for each.
    bytes_out = 0
    trailers = b""
    forward: Forward | None = None
    visitor: Visitor | None = None
    rule: Rule | None = None
    endpoint = ""
    client_connection = b""
    request_id = b""
    status = 0
    error = ""
    error_fields: Sequence[tuple[bytes, bytes]] = ()
    ceilings: Sequence[Ceiling] = ()
    most_bytes = math.inf
    awaits_continue = False
    say_end: Callable[[str], None] | None = None
    span: HopSpan | None = None
    _tie: ClientTie | None = None  # once somebody asked
    _agent_error: AgentError | None = None  # of which the body is awaited
    _first_byte_at = 0.0

    def __init__(
        self, connection: ClientConnection, head: RequestHead, account: Account, body: bytes, body_complete: bool
    ) -> None:
        self.connection = connection
        self.head = head
        self.account = account
        self.body = body
        self.body_complete = body_complete
        self.bytes_in = len(body)
        self._started_at = perf_counter()

    # Of IRequest: what a resource may ask

    @property
    def method(self) -> bytes:
        """The method of the request, as received."""
        return self.head.method

    @property
    def uri(self) -> bytes:
        """The target, in origin-form."""
        return self.head.target

    @property
    def path(self) -> bytes:
        """The target without its query."""
        return self.head.target.partition(b"?")[0]

    # What is known of its connection, or of its part of one

    @property
    @abc.abstractmethod
    def is_read(self) -> bool:
        """Whether the client may send more of the body now."""

    @property
    @abc.abstractmethod
    def response_waits(self) -> bool:
        """Whether as much waits for the client as may wait."""

    @abc.abstractmethod
    def takes_connection(self) -> bool:
        """Have the connection belong to whoever its requests authenticate it for, as NTLM does.

        Returns:
            Whether it may; otherwise the request was answered.
        """

    @abc.abstractmethod
    def break_off(self, error: Http1Error) -> None:
        """The body is not to go on: answer if nothing was answered, else let the client see that it is not whole."""

    def shut(self, error: str) -> None:
        """End now, for a reason that is none of the client's or the service's."""
        if self.say_end is not None:
            self.say_end(error)
        else:
            self._shut(error)

    @abc.abstractmethod
    def _shut(self, error: str) -> None:
        """The same, without a word."""

    @abc.abstractmethod
    def _answer(self, status: int, fields: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
        """Send a whole answer of ours."""

    # IDownstream, as far as it is alike for all

    def write_head(self, endpoint: bytes | None, length: int | None, upgrades: bool) -> bytes:
        """See `IDownstream.write_head`."""
        connection = self.connection
        return request_to_tunnel(
            self.head if upgrades else self.head.replace(upgrade=None),
            account=self.account,
            peer=connection.peer,
            request_id=self.request_id,
            via=connection.port.via,
            endpoint=endpoint,
            length=length,
            over_http2=self.protocol == HTTP_2,
        )

    def tie(self) -> ClientTie:
        """See `IDownstream.tie`."""
        if self._tie is None:
            self._tie, self.head = tie_of(self.head, self.account, self.endpoint)
        return self._tie

    @abc.abstractmethod
    def interim(self, head: ResponseHead) -> None:
        """See `IDownstream.interim`."""

    @abc.abstractmethod
    def begin(self, head: ResponseHead) -> None:
        """See `IDownstream.begin`."""

    @abc.abstractmethod
    def write(self, data: bytes) -> None:
        """See `IDownstream.write`."""

    @abc.abstractmethod
    def write_trailers(self, block: bytes) -> None:
        """See `IDownstream.write_trailers`."""

    @abc.abstractmethod
    def finish(self, data: bytes) -> None:
        """See `IDownstream.finish`."""

    @abc.abstractmethod
    def cut(self) -> None:
        """See `IDownstream.cut`."""

    @abc.abstractmethod
    def pause_request(self) -> None:
        """See `IDownstream.pause_request`."""

    @abc.abstractmethod
    def resume_request(self) -> None:
        """See `IDownstream.resume_request`."""

    @abc.abstractmethod
    def stop_request(self) -> None:
        """See `IDownstream.stop_request`."""

    # Answers of our own

    def _is_agent_error(self, head: ResponseHead) -> bool:
        """Whether an agent made a response in its service's place; then its body is awaited, and told in our words."""
        if head.status < 400:
            return False
        self._agent_error = AgentError(head)
        return True

    def _fail_as(self, error: AgentError) -> None:
        self.error_fields = error.fields
        self.fail(error.status, error.message, error.code)

    def fail(self, status: int, message: str, code: str) -> None:
        """See `IDownstream.fail`."""
        self._fail(status, message, code, self.endpoint)

    def refuse(self, refused: Refused) -> None:
        """Answer that who sends this may not. Which endpoint a name stands for is not told."""
        if refused.status != 503:
            self.error_fields = [(b"www-authenticate", refused.challenge.encode("ascii"))]
        self._fail(refused.status, refused.message, refused.reason.value, "")
        self.done()

    def _fail(self, status: int, message: str, code: str, endpoint: str) -> None:
        self.error = code
        self._agent_error = None
        facts = ErrorFacts(
            status=status,
            code=code,
            message=message,
            endpoint=endpoint,
            request_id=self.request_id.decode("ascii"),
            node=self.connection.port.settings.node_id,
            public_url=self.connection.port.names.public_url,
        )
        told, fields, body = error_answer(facts, self.head, self.connection.port.error_pages, self.error_fields)
        self._answer_now(told, fields, body)
        self.status = status

    def _answer_now(self, status: int, fields: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
        self._first_byte_at = perf_counter()
        self.status = status
        self.bytes_out = 0 if self.head.method == b"HEAD" else len(body)
        self._answer(status, fields, body)

    def allow_origins(self) -> None:
        """Answer a preflight: scripts of all origins may send what they have a credential for."""
        self.answer(200, PREFLIGHT, b"")

    def answer(self, status: int, fields: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
        """Answer without a service, and end the request."""
        self._answer_now(status, [*fields, (b"x-request-id", self.request_id)], body)
        self.done()

    # The end

    def done(self) -> None:
        """The request is over: tell of it, and let the connection go on."""
        first = self._first_byte_at - self._started_at if self._first_byte_at else None
        self.log(first, perf_counter() - self._started_at)
        self.forward = None
        if self.ceilings:
            leave_all(self.ceilings, self)
        self.connection.request_done(self)

    def log(self, first_byte_s: float | None, duration_s: float) -> None:
        """Count the request, and hand it to whoever watches. `first_byte_s` is None when no response began."""
        connection = self.connection
        settings = connection.port.settings
        forward = self.forward
        head = self.head
        status = self.status = self.status or 499
        error = self.error or (forward.error if forward is not None else "")
        metrics = settings.metrics
        metrics.request_done(head.method, status, duration_s, self.bytes_in, self.bytes_out)
        if first_byte_s is not None:
            metrics.first_byte(first_byte_s)
        if error:
            metrics.failed(error, forward is not None and forward.upstream_node != "")
        if self.span is not None:
            self.span.end(self.endpoint, status, error)
        if metrics.endpoints is not None:
            metrics.endpoints.done(self.endpoint, forward is not None and forward.upstream != "", status, first_byte_s)
        if status >= FAILED_FROM or error or settings.requests.wants_all:
            settings.requests.request(
                forward is not None and forward.upstream_node != "",
                {
                    "client": self.account.address.decode("ascii"),
                    "proxies": self.account.over,
                    "method": head.method,
                    "target": head.target,
                    "endpoint": self.endpoint,
                    "upstream": forward.upstream if forward is not None else "",
                    "status": status,
                    "bytes_in": self.bytes_in,
                    "bytes_out": self.bytes_out,
                    "first_byte_s": first_byte_s,
                    "duration_s": duration_s,
                    "request_id": self.request_id.decode("ascii"),
                    "error": error,
                    "protocol": self.protocol if head.version_11 else "HTTP/1.0",
                    "fields": head.by_name,
                    "subject": "" if self.visitor is None else self.visitor.subject.name,
                },
            )


def nobody(connection: ClientConnection) -> Account:
    """The account of what was no request: that of the connection alone."""
    return account_of_peer(connection.peer.ip, connection.peer.https, None)
