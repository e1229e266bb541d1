"""`?forward=<node ID>`: any route of the admin port, answered by another node.

An operator often reaches one node only. This one then asks the other node's admin port for the same path, and passes
status, content type and body on. The question names the node again, since several may share that port, and is marked
as forwarded: so marked it is passed on within a host at most, and cannot loop. No header of the client goes with it.

The answer is taken whole before any of it goes on, so whatever fails becomes a readable 502 or 504, and none ends
half-way as if it were whole. What all answers in the making hold together is bounded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote, unquote_to_bytes

import attrs
import treq
from OpenSSL import SSL
from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.error import ConnectError, ConnectionClosed, DNSLookupError
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IStreamClientEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.client import URI, Agent, HTTPConnectionPool, RequestTransmissionFailed, ResponseFailed
from twisted.web.http import BAD_GATEWAY, GATEWAY_TIMEOUT
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IAgentEndpointFactory, IBodyProducer, IPolicyForHTTPS
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET
from zope.interface import implementer

from pico_twisted.net.admin.answers import answer, fail, refuse_method
from pico_twisted.net.admin.shapes import NO_SUCH_NODE
from pico_twisted.net.admin.status import INodeStatus
from pico_twisted.net.tls.client import client_tls, explain_tls
from pico_twisted.net.tls.failures import connect_failure_text
from pico_twisted.net.tls.server import UnusableCertificateError

log = Logger()

PARAMETER: Final = b"forward"
LOCAL: Final = "local"
ARRIVED: Final = "forwarded=1"
"""In the query of a question that another node passed on: it is not passed to a third one."""

TIMEOUT_S: Final = 5.0
"""From the question to the last byte of the answer. A node that needs longer to tell its state is in trouble."""

MAX_HELD_BYTES: Final = 64 * 1024 * 1024
"""Of answers that are being fetched, all together. The largest real one, all entries of a node with 10,000 endpoints,
is about a megabyte."""

MAX_ID_SHOWN: Final = 64
"""Characters of an unknown ID in the answer about it: no real one is longer."""

_CONTENT_TYPE: Final = "application/octet-stream"  # when the other node named none
_STAND_IN: Final = "http://node/"  # for treq; see `_OneUrl`
_PLAIN: Final = "!$&'()*+,;=:@/?%"  # what stands in a query as it is, beside letters and digits
_CANNOT_REACH: Final = (
    ConnectError,
    ConnectionClosed,
    DNSLookupError,
    RequestTransmissionFailed,
    ResponseFailed,
    SSL.Error,
    UnusableCertificateError,
)


class AnswerTooLargeError(Exception):
    """The answers of other nodes that are being fetched are more than this one will hold."""


@implementer(IPolicyForHTTPS)
class AdminTls:
    """How other nodes' admin ports are trusted: chain and name are checked, as an agent checks a node's.

    Args:
        root_cas: a PEM file with the certificates to trust; the system's when empty. A changed file is read again.
    """

    def __init__(self, root_cas: str = "") -> None:
        self._root_cas = root_cas

    def creatorForNetloc(self, hostname: bytes, port: int) -> IOpenSSLClientConnectionCreator:
        return client_tls(hostname.decode("ascii"), self._root_cas)


@attrs.frozen
class Fetched:
    """What another node answered."""

    status: int
    content_type: str
    body: bytes


class Fetcher:
    """Asks other nodes' admin ports.

    Args:
        reactor: connects, and keeps the time.
        tls: for https; see `AdminTls`.
    """

    def __init__(self, reactor: Any, tls: IPolicyForHTTPS) -> None:
        self._reactor = reactor
        self._tls = tls
        self._bodies: set[_Body] = set()

    @property
    def held_bytes(self) -> int:
        """Of the answers that are being fetched."""
        return sum(body.size for body in self._bodies)

    def fetch(self, url: str, socket_path: str, timeout_s: float) -> Deferred[Fetched]:
        """GET a URL. No redirect is followed, no proxy of the environment is used, no cookie is kept.

        Args:
            url: what is asked for.
            socket_path: of a Unix socket at which it is asked for, whatever host the URL names; none when empty.
            timeout_s: from the question to the last byte of the answer.

        Returns:
            The answer, whatever its status. It fails with `defer.TimeoutError` after `timeout_s`, with
            `AnswerTooLargeError`, or with one of the errors that `why_unreachable` puts into words. Once it fired the
            connection is closed.
        """
        return Deferred.fromCoroutine(self._fetch(url, socket_path)).addTimeout(timeout_s, self._reactor)

    async def _fetch(self, url: str, socket_path: str) -> Fetched:
        connections = _Connections(self._reactor)
        if socket_path:
            agent = Agent.usingEndpointFactory(self._reactor, _OneSocket(self._reactor, socket_path), connections)
        else:
            agent = Agent(self._reactor, self._tls, connectTimeout=TIMEOUT_S, pool=connections)
        body = _Body(self)
        self._bodies.add(body)
        try:
            # A client of its own for each question: treq keeps cookies in the client.
            client = treq.client.HTTPClient(_OneUrl(agent, url.encode("ascii")))
            response = await client.get(_STAND_IN, allow_redirects=False, unbuffered=True, reactor=self._reactor)
            await treq.collect(response, body.take)
            content_type = response.headers.getRawHeaders(b"content-type", [b""])[0].decode("latin-1")
            return Fetched(response.code, content_type or _CONTENT_TYPE, b"".join(body.pieces))
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

    def __init__(self, reactor: Any, path: str) -> None:
        self._reactor = reactor
        self._path = path

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        return UNIXClientEndpoint(self._reactor, self._path, timeout=TIMEOUT_S)


@implementer(IAgent)
class _OneUrl:
    """Asks one URL, whatever treq says: that takes its URLs apart, and stumbles over IPv6 addresses."""

    def __init__(self, agent: Agent, url: bytes) -> None:
        self._agent = agent
        self._url = url

    def request(
        self, method: bytes, uri: bytes, headers: Headers | None = None, bodyProducer: IBodyProducer | None = None
    ) -> Deferred[Any]:
        return self._agent.request(method, self._url, headers, bodyProducer)


class _Body:
    """The body of one answer, as it comes."""

    __slots__ = ("_fetcher", "pieces", "size")

    def __init__(self, fetcher: Fetcher) -> None:
        self._fetcher = fetcher
        self.pieces: list[bytes] = []
        self.size = 0

    def take(self, data: bytes) -> None:
        self.size += len(data)
        if self._fetcher.held_bytes > MAX_HELD_BYTES:
            raise AnswerTooLargeError
        self.pieces.append(data)


class _Connections(HTTPConnectionPool):
    """Keeps nothing open, but can drop what is open: Twisted's response has no way to do so half-way in its body."""

    def __init__(self, reactor: Any) -> None:
        super().__init__(reactor, persistent=False)
        self._open: list[Any] = []

    def getConnection(self, key: object, endpoint: IStreamClientEndpoint) -> Deferred[Any]:
        connecting: Deferred[Any] = super().getConnection(key, endpoint)
        return connecting.addCallback(self._opened)

    def _opened(self, connection: Any) -> Any:
        self._open.append(connection)
        return connection

    def abort(self) -> None:
        """Drop the connection, if there is one. Idempotent."""
        while self._open:
            self._open.pop().transport.abortConnection()


def why_unreachable(failure: Failure) -> str:
    """Why another node's admin port could not be asked, in words."""
    if explained := explain_tls(failure):
        return explained
    if failure.check(ConnectionClosed, ResponseFailed, RequestTransmissionFailed):
        return "the connection ended before the whole answer had come, or the answer was not HTTP"
    return connect_failure_text(failure)


def split_query(query: bytes) -> tuple[list[str], str]:
    """Take `forward` out of a query.

    Args:
        query: what is behind the question mark, as received.

    Returns:
        The values of `forward`, and the rest of the query in an order and a form that fit into a URL.
    """
    found: list[str] = []
    rest: list[str] = []
    for pair in query.split(b"&") if query else ():
        name, _, value = pair.replace(b"+", b" ").partition(b"=")
        if unquote_to_bytes(name) == PARAMETER:
            found.append(unquote_to_bytes(value).decode("utf-8", "replace"))
        else:
            rest.append(quote(pair, safe=_PLAIN))
    return found, "&".join(rest)


class ForwardResource(Resource):
    """Answers what has `forward`; the rest is for the routes.

    Args:
        routes: of this node.
        status: knows this node's ID, and the admin ports of the others.
        fetcher: asks them.
        host: answers what has no `forward`, when this node is one of several on its port; else the routes do.
        sockets: paths of Unix sockets of the others on this port, by node ID.
    """

    isLeaf = True

    def __init__(
        self,
        routes: Resource,
        status: INodeStatus,
        fetcher: Fetcher,
        host: Resource | None = None,
        sockets: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        self._routes = routes
        self._status = status
        self._fetcher = fetcher
        self._host = routes if host is None else host
        self._sockets = sockets or {}

    def render(self, request: Any) -> Any:
        ids, rest = split_query(request.uri.partition(b"?")[2])
        if len(ids) > 1 or ids == [""]:
            return fail(request, 400, "forward takes the ID of one node")
        if not ids:
            return self._host.render(request)
        if ids[0] in (LOCAL, self._status.node_id):
            return self._routes.render(request)
        if request.method not in (b"GET", b"HEAD"):
            return refuse_method(request, "GET, HEAD")
        (node_id,) = ids
        beside = self._sockets.get(node_id, "")
        marked = [pair for pair in rest.split("&") if pair != ARRIVED]
        arrived = ARRIVED in rest.split("&")
        base = "http://node" if beside else None if arrived else self._status.admin_url(node_id)
        if base is None:
            return fail(request, 404, f"{NO_SUCH_NODE} to forward to: {node_id[:MAX_ID_SHOWN]}")
        # The path anew from its decoded parts: the same one, and nothing in it can be more than a path.
        path = "/".join(quote(part, safe="") for part in request.postpath)
        if not beside:  # several nodes may share that port: say which one is meant, and that it goes no further
            marked += [f"forward={quote(node_id, safe='')}", ARRIVED]
        query = "&".join(filter(None, marked))
        self._ask(request, node_id, f"{base}/{path}?{query}" if query else f"{base}/{path}", beside)
        return NOT_DONE_YET

    def _ask(self, request: Any, node_id: str, url: str, socket_path: str) -> None:
        """Answer the request with what is at the URL. HEAD asks with GET as well, to tell the length."""
        asking = self._fetcher.fetch(url, socket_path, TIMEOUT_S)

        def done(result: Fetched | Failure) -> None:
            if isinstance(result, Fetched):
                body = answer(request, result.body, result.content_type, result.status)
            elif result.check(defer.CancelledError):
                return  # the client left
            else:
                body = _failed(request, node_id, result)
            request.write(body)
            request.finish()

        request.notifyFinish().addErrback(lambda _: asking.cancel())
        asking.addBoth(done)


def _failed(request: Any, node_id: str, failure: Failure) -> bytes:
    """Answer a request whose question to another node failed. Returns the body."""
    if failure.check(defer.TimeoutError):
        return fail(request, GATEWAY_TIMEOUT, f"node {node_id} did not answer within {TIMEOUT_S:g} s")
    if failure.check(AnswerTooLargeError):
        return fail(request, BAD_GATEWAY, f"the answer of node {node_id} is too large to be passed on")
    if failure.check(*_CANNOT_REACH):
        return fail(request, BAD_GATEWAY, f"node {node_id} cannot be reached: {why_unreachable(failure)}")
    log.failure("a request could not be forwarded to node {node_id}", failure, node_id=node_id)
    return fail(request, 500, "internal error; the log says more")
