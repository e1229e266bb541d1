"""Asks other servers over HTTP: the admin ports of other nodes and workers, and those who publish keys.

Answers are taken whole. What all that are in the making hold together is bounded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

import attrs
import treq
from OpenSSL import SSL
from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.error import ConnectError, ConnectingCancelledError, ConnectionClosed, DNSLookupError
from twisted.internet.interfaces import (
    IOpenSSLClientConnectionCreator,
    IReactorTime,
    IReactorUNIX,
    IStreamClientEndpoint,
    ITCPTransport,
)
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from twisted.web.client import URI, Agent, HTTPConnectionPool, RequestTransmissionFailed, ResponseFailed
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IAgentEndpointFactory, IBodyProducer, IPolicyForHTTPS, IResponse
from zope.interface import implementer

from pico_twisted.config.pem import UnusableCertificateError
from pico_twisted.net.tls.client import client_tls, explain_tls
from pico_twisted.net.tls.failures import connect_failure_text
from pico_twisted.net.tls.verification import Objection, no_objection

CONNECT_S: Final = 5.0
"""Seconds that connecting to a server may take."""

MAX_HELD_BYTES: Final = 64 * 1024 * 1024
"""Most bytes of all answers together that are being fetched, unless told otherwise. The largest real one, all entries
of a node with 10,000 endpoints, is about a megabyte."""

CANNOT_REACH: Final = (
    ConnectError,
    ConnectionClosed,
    DNSLookupError,
    RequestTransmissionFailed,
    ResponseFailed,
    SSL.Error,
    UnusableCertificateError,
)
"""What a question fails with when its server cannot be reached; `why_unreachable` has words for each."""

_CONTENT_TYPE: Final = "application/octet-stream"  # when the other server named none
_STAND_IN: Final = "http://node/"  # for treq; see `_OneUrl`


class AnswerTooLargeError(Exception):
    """The answers that are being fetched are more than may be held."""


@implementer(IPolicyForHTTPS)
class HttpsPolicy:
    """How servers are trusted: chain and name are checked, as an agent checks a node's.

    Args:
        root_cas: a PEM file with the certificates to trust; the system's when empty. A changed file is read again.
        further: asked about each certificate that OpenSSL accepts.
    """

    def __init__(self, root_cas: str = "", further: Objection = no_objection) -> None:
        self._root_cas = root_cas
        self._further = further

    def creatorForNetloc(self, hostname: bytes, port: int) -> IOpenSSLClientConnectionCreator:
        return client_tls(hostname.decode("ascii"), self._root_cas, further=self._further)


@attrs.frozen
class Fetched:
    """What a server answered."""

    status: int
    content_type: str
    body: bytes


class Fetcher:
    """Asks other servers.

    Args:
        reactor: connects, looks names up, and keeps the time.
        tls: for https; see `HttpsPolicy`.
        most_bytes: what all answers together may have while they are fetched; None for `MAX_HELD_BYTES`.
    """

    # The reactor: treq wants several of its interfaces at once, and has a name of its own for that.
    def __init__(self, reactor: Any, tls: IPolicyForHTTPS, most_bytes: int | None = None) -> None:
        self._reactor = reactor
        self._tls = tls
        self.most_bytes = MAX_HELD_BYTES if most_bytes is None else most_bytes
        self._bodies: set[_Body] = set()

    @property
    def held_bytes(self) -> int:
        """Bytes of the answers that are being fetched."""
        return sum(body.size for body in self._bodies)

    def fetch(
        self,
        url: str,
        socket_path: str,
        timeout_s: float,
        fields: Mapping[str, str] | None = None,
        *,
        method: str = "GET",
    ) -> Deferred[Fetched]:
        """Ask for a URL. No redirect is followed, no proxy of the environment is used, no cookie is kept.

        Args:
            url: what is asked for.
            socket_path: a Unix socket at which it is asked for, whatever host the URL names; none when empty.
            timeout_s: seconds from the question to the last byte of the answer.
            fields: of the question's head, if any.
            method: of the question, which has no body.

        Returns:
            The answer, whatever its status. It fails with `defer.TimeoutError` after `timeout_s`, with
            `AnswerTooLargeError`, or with one of the errors that `why_unreachable` puts into words. Once it fired the
            connection is closed.
        """
        asking = Deferred.fromCoroutine(self._fetch(method, url, socket_path, fields or {}))
        return asking.addTimeout(timeout_s, self._reactor)

    async def _fetch(self, method: str, url: str, socket_path: str, fields: Mapping[str, str]) -> Fetched:
        connections = _Connections(self._reactor)
        if socket_path:
            agent = Agent.usingEndpointFactory(self._reactor, _OneSocket(self._reactor, socket_path), connections)
        else:
            agent = Agent(self._reactor, self._tls, connectTimeout=CONNECT_S, pool=connections)
        body = _Body(self)
        self._bodies.add(body)
        try:
            # A client of its own for each question: treq keeps cookies in the client.
            client = treq.client.HTTPClient(_OneUrl(agent, url.encode("ascii")))
            response = await client.request(
                method,
                _STAND_IN,
                headers=Headers({name: [value] for name, value in fields.items()}),
                allow_redirects=False,
                unbuffered=True,
                reactor=self._reactor,
            )
            await treq.collect(response, body.take)
            content_type = response.headers.getRawHeaders(b"content-type", [b""])[0].decode("latin-1")
            return Fetched(response.code, content_type or _CONTENT_TYPE, b"".join(body.pieces))
        except ConnectingCancelledError:
            raise defer.CancelledError from None  # as below
        except (RequestTransmissionFailed, ResponseFailed) as error:
            if any(reason.check(defer.CancelledError) for reason in error.reasons):
                raise defer.CancelledError from None  # Twisted wraps it, and then no timeout is seen in it
            raise
        finally:
            self._bodies.discard(body)
            connections.abort()


@implementer(IAgentEndpointFactory)
class _OneSocket:
    """Connects to one Unix socket, whatever the URL."""

    def __init__(self, reactor: IReactorUNIX, path: str) -> None:
        self._reactor = reactor
        self._path = path

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        return UNIXClientEndpoint(self._reactor, self._path, timeout=CONNECT_S)


@implementer(IAgent)
class _OneUrl:
    """Asks one URL, whatever treq says: that encodes hosts as IDNA, also in a parsed URL, and fails for IPv6."""

    def __init__(self, agent: Agent, url: bytes) -> None:
        self._agent = agent
        self._url = url

    def request(
        self, method: bytes, uri: bytes, headers: Headers | None = None, bodyProducer: IBodyProducer | None = None
    ) -> Deferred[IResponse]:
        asking: Deferred[IResponse] = self._agent.request(method, self._url, headers, bodyProducer)
        return asking


class _Body:
    """The body of one answer, as it comes."""

    __slots__ = ("_fetcher", "pieces", "size")

    def __init__(self, fetcher: Fetcher) -> None:
        self._fetcher = fetcher
        self.pieces: list[bytes] = []
        self.size = 0

    def take(self, data: bytes) -> None:
        self.size += len(data)
        if self._fetcher.held_bytes > self._fetcher.most_bytes:
            raise AnswerTooLargeError
        self.pieces.append(data)


class _Connections(HTTPConnectionPool):
    """Keeps nothing open, but can drop what is open: Twisted's response has no way to do so half-way in its body."""

    def __init__(self, reactor: IReactorTime) -> None:
        super().__init__(reactor, persistent=False)  # type: ignore[no-untyped-call]
        self._open: list[Protocol] = []

    # The type of a connection is private in twisted.web.
    def getConnection(self, key: object, endpoint: IStreamClientEndpoint) -> Deferred[Any]:
        return super().getConnection(key, endpoint).addCallback(self._opened)

    def _opened(self, connection: Protocol) -> Protocol:
        self._open.append(connection)
        return connection

    def abort(self) -> None:
        """Drop the connection, if there is one. Idempotent."""
        while self._open:
            cast(ITCPTransport, self._open.pop().transport).abortConnection()


def why_unreachable(failure: Failure) -> str:
    """Why a server could not be asked, in words."""
    if explained := explain_tls(failure):
        return explained
    if failure.check(ConnectionClosed, ResponseFailed, RequestTransmissionFailed):
        return "the connection ended before the whole answer had come, or the answer was not HTTP"
    return connect_failure_text(failure)
