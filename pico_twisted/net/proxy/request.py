"""One request of a proxy client: what the reverse resource is given, and the downstream of its `RoutedRequest`.

`twisted.web.server.Request` parses arguments and cookies, adds Date and Server, and cannot send a 1xx or stream a
request's body; making one costs more than a whole head does on llhttp. This one is what a resource that streams
needs: the request as it was read, and the means to answer it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from time import perf_counter
from typing import ClassVar

import attrs
from zope.interface import implementer

from pico_twisted.core.access.ceilings import Ceiling
from pico_twisted.core.access.rules import Rule
from pico_twisted.core.access.subject import Refused
from pico_twisted.core.http1.account import Account, account_of_peer
from pico_twisted.core.http1.chunked import LAST_CHUNK, encode_chunk, last_chunk
from pico_twisted.core.http1.credentials import choose_ours
from pico_twisted.core.http1.error_pages import ErrorFacts
from pico_twisted.core.http1.errors import Http1Error
from pico_twisted.core.http1.forwarding import request_to_tunnel, response_to_client
from pico_twisted.core.http1.head import Framing, RequestHead, ResponseHead, response_framing
from pico_twisted.core.http1.trailers import cleaned, takes_trailers
from pico_twisted.core.rpc.frames import HTTP
from pico_twisted.net.access.ceilings import leave_all
from pico_twisted.net.interfaces import IDownstream
from pico_twisted.net.proxy.error_answer import PREFLIGHT, AgentError, error_answer, own_answer
from pico_twisted.net.proxy.port import ClientConnection, Forward, Visitor
from pico_twisted.net.turn import TurnPieces


@implementer(IDownstream)
@attrs.define(eq=False)
class ProxyRequest:
    """A request, from its head until both it and its response are over.

    Attributes:
        connection: that it came on.
        head: as read.
        account: who it is from.
        body, body_complete: what came with the head, and whether that was all of the request.
        trailers: those that it ended with, if it did with the head; empty for none.
        keep_alive: the connection goes on behind the response.
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
    """

    connection: ClientConnection
    head: RequestHead
    account: Account
    body: bytes
    body_complete: bool
    keep_alive: bool
    bytes_in: int
    bytes_out: int = 0
    trailers: bytes = b""
    forward: Forward | None = None
    visitor: Visitor | None = None
    rule: Rule | None = None
    endpoint: str = ""
    client_connection: bytes = b""
    request_id: bytes = b""
    status: int = 0
    error: str = ""
    error_fields: Sequence[tuple[bytes, bytes]] = ()
    kind: ClassVar[int] = HTTP
    ceilings: Sequence[Ceiling] = ()
    most_bytes: float = math.inf
    awaits_continue: bool = False
    _agent_error: AgentError | None = None  # of which the body is awaited
    _framing: Framing = Framing.NONE
    _pieces: TurnPieces | None = None  # of a response in chunks
    _response_head: bytes = b""  # of the response, until something follows it
    _last_chunk: bytes = LAST_CHUNK
    _started_at: float = attrs.field(factory=perf_counter)
    _first_byte_at: float = 0.0

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

    # IDownstream

    def write_head(self, endpoint: bytes | None, length: int | None, upgrades: bool) -> bytes:
        """See `IDownstream.write_head`."""
        connection = self.connection
        return request_to_tunnel(
            self.head if upgrades else self.head._replace(upgrade=None),
            account=self.account,
            peer=connection.peer,
            request_id=self.request_id,
            via=connection.port.via,
            endpoint=endpoint,
            length=length,
        )

    def interim(self, head: ResponseHead) -> None:
        """Pass a 1xx on; HTTP/1.0 clients get none."""
        self.awaits_continue = False
        if self.head.version_11:
            self.connection.send(response_to_client(head, Framing.NONE, close=False, via=self.connection.port.via))

    def begin(self, head: ResponseHead) -> None:
        """Send the final head, framed for this client; an agent's own error is told in our words instead."""
        if b"x-pico-error" in head.by_name and head.status >= 400:
            self._agent_error = AgentError(head)
            return
        if self.visitor is not None and self.visitor.offers_ours:
            head = choose_ours(head)
        connection = self.connection
        version_11 = self.head.version_11
        self._first_byte_at = perf_counter()
        self.status = head.status
        framing = Framing.LENGTH if head.length is not None else response_framing(head, self.head.method)
        if framing is Framing.UNTIL_CLOSE and version_11:
            framing = Framing.CHUNKED
        self._framing = framing
        end_of_turn = connection.port.settings.end_of_turn
        if framing is Framing.CHUNKED and end_of_turn is not None:
            self._pieces = TurnPieces(end_of_turn, self._send_chunk)
        ends = framing is Framing.UNTIL_CLOSE or framing is Framing.RAW
        self.keep_alive = self.keep_alive and not ends and connection.goes_on()
        self._response_head = response_to_client(
            head,
            framing,
            close=not self.keep_alive,
            request_id=self.request_id,
            via=connection.port.via,
            version_11_client=version_11,
            trailers=b"te" in self.head.by_name and self._takes_trailers,
        )
        if framing is Framing.RAW:
            self._send(b"")  # what was read ahead goes on now, and that may be the end of the request
            connection.upgraded()

    def write(self, data: bytes) -> None:
        """Send body bytes, with the head if that waits."""
        if self._agent_error is not None:
            self._agent_error.body(data)
            return
        self.bytes_out += len(data)
        if self._framing is not Framing.CHUNKED:
            self._send(data)
        elif self._pieces is not None:
            self._pieces.add(data)
        else:
            self._send_chunk(data)

    def _send_chunk(self, data: bytes) -> None:
        self._send(encode_chunk(data))

    @property
    def _takes_trailers(self) -> bool:
        """Whether the client gets those of the response: it says so, and they have a place."""
        head = self.head
        return self._framing is Framing.CHUNKED and takes_trailers(head.fields, head.by_name)

    def write_trailers(self, block: bytes) -> None:
        """Keep the trailers that the response ends with, for a client that takes them."""
        if self._takes_trailers:
            self._last_chunk = last_chunk(cleaned(block))

    def finish(self, data: bytes) -> None:
        """Send the last body bytes: the response is complete."""
        if (error := self._agent_error) is not None:
            error.body(data)
            self._fail_as(error)
            return
        self.bytes_out += len(data)
        if self._framing is Framing.CHUNKED:
            if self._pieces is not None:
                data = self._pieces.take() + data
            data = encode_chunk(data) + self._last_chunk
        self._send(data)
        if self._framing is Framing.RAW:
            self.connection.end_raw()

    def _send(self, data: bytes) -> None:
        if self._response_head:
            data = self._response_head + data
            self._response_head = b""
        if data:
            self.connection.send(data)

    def cut(self) -> None:
        """Break the connection, so that the client sees that the response is not whole.

        A response that ends with its connection would look whole after a FIN: the client of one gets a reset.
        """
        self.keep_alive = False
        if (error := self._agent_error) is not None:
            self._fail_as(error)
            return
        if self._pieces is not None:
            self._pieces.flush()
        if self._framing in (Framing.UNTIL_CLOSE, Framing.RAW):
            self.connection.abort()
        else:
            self._send(b"")
            self.connection.linger()

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
        self._first_byte_at = perf_counter()
        self.status = status
        self.error = code
        self.keep_alive = self.keep_alive and status != 408 and self.body_complete and self.connection.goes_on()
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
        pages = self.connection.port.error_pages
        answer, self.bytes_out = error_answer(facts, self.head, pages, not self.keep_alive, self.error_fields)
        self.connection.send(answer)

    def allow_origins(self) -> None:
        """Answer a preflight: scripts of all origins may send what they have a credential for."""
        self.answer(200, PREFLIGHT, b"")

    def answer(self, status: int, fields: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
        """Answer without a service, and end the request."""
        self._first_byte_at = perf_counter()
        self.status = status
        self.keep_alive = self.keep_alive and self.body_complete and self.connection.goes_on()
        answer, self.bytes_out = own_answer(status, fields, body, self.head, self.request_id, not self.keep_alive)
        self.connection.send(answer)
        self.done()

    def pause_request(self) -> None:
        """Read no more of the body."""
        self.connection.pause_reading("request")

    def resume_request(self) -> None:
        """Go on reading the body."""
        self.connection.resume_reading("request")

    def stop_request(self) -> None:
        """The rest of the body is not wanted."""
        self.keep_alive = False

    def done(self) -> None:
        """The request is over: log it, and let the connection go on."""
        first = self._first_byte_at - self._started_at if self._first_byte_at else None
        self.log(first, perf_counter() - self._started_at)
        self.forward = None
        if self.ceilings:
            leave_all(self.ceilings, self)
        if self._pieces is not None:
            self._pieces.take()  # nobody is there for them, or they were sent
        self.connection.request_done()

    def log(self, first_byte_s: float | None, duration_s: float) -> None:
        """Count the request, and write its line. `first_byte_s` is None when no response began."""
        connection = self.connection
        settings = connection.port.settings
        forward = self.forward
        head = self.head
        status = self.status = self.status or 499
        settings.metrics.request_done(head.method, status, duration_s, self.bytes_in, self.bytes_out)
        if settings.access_log.enabled:
            settings.access_log.request(
                client=self.account.address.decode("ascii"),
                proxies=self.account.over,
                method=head.method,
                target=head.target,
                endpoint=self.endpoint,
                upstream=forward.upstream if forward is not None else "",
                status=status,
                bytes_in=self.bytes_in,
                bytes_out=self.bytes_out,
                first_byte_s=first_byte_s,
                duration_s=duration_s,
                request_id=self.request_id.decode("ascii"),
                error=self.error or (forward.error if forward is not None else ""),
                version_11=head.version_11,
                fields=head.by_name,
                subject="" if self.visitor is None else self.visitor.subject.name,
            )


def refuse(connection: ClientConnection, error: Http1Error) -> None:
    """What came is no request: answer, log it, and close."""
    account = account_of_peer(connection.peer.ip, connection.peer.https, None)
    request = ProxyRequest(connection, RequestHead(b"", b""), account, b"", True, False, 0)
    request.fail(error.status, error.message, error.code)
    request.log(None, 0.0)
    connection.linger()
