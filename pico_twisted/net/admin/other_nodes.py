"""`?forward=<node ID>`: any route of the admin port, answered by another node.

An operator often reaches one node only. This one then asks the other node's admin port for the same path, and passes
status, content type and body on. The question names the node again, since several may share that port, and is marked
as forwarded: so marked it is passed on within a host at most, and cannot loop. No header of the client goes with it,
only a pass that says what they may do here (`passes`).

The answer is taken whole before any of it goes on, so whatever fails becomes a readable 502 or 504, and none ends
half-way as if it were whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import quote, unquote_to_bytes

from twisted.internet import defer
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import BAD_GATEWAY, GATEWAY_TIMEOUT
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from pico_twisted.net.admin.answers import Rendered, answer, fail, refuse_method, render
from pico_twisted.net.admin.passes import NodePasses
from pico_twisted.net.admin.shapes.paths import NO_SUCH_NODE
from pico_twisted.net.admin.site import AdminRequest
from pico_twisted.net.admin.status import INodeStatus
from pico_twisted.net.tls.fetch import CANNOT_REACH, AnswerTooLargeError, Fetched, Fetcher, why_unreachable

log = Logger()

PARAMETER: Final = b"forward"
"""Query parameter with the ID of the node that is to answer."""
LOCAL: Final = "local"
"""ID by which any node calls itself."""
ARRIVED: Final = "forwarded=1"
"""Marks, in the query, a question that another node passed on: it is not passed to a third one."""

OUT_OF_REACH: Final = "it has no admin port that other machines reach (its admin.bind_addr)"
"""Why a node is not asked."""

TIMEOUT_S: Final = 5.0
"""Seconds from the question to the last byte of the answer. A node that needs longer is in trouble."""

MAX_ID_SHOWN: Final = 64
"""Most characters of an unknown ID in the answer about it: no real one is longer."""

_PLAIN: Final = "!$&'()*+,;=:@/?%"  # what stands in a query as it is, beside letters and digits


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


class OtherNodesResource(Resource):
    """Answers what has `forward`; the rest is for the routes.

    Args:
        routes: of this node.
        status: knows this node's ID, and the admin ports of the others.
        fetcher: asks them.
        passes: what they are shown.
        host: answers what has no `forward`, when this node is one of several on its port; else the routes do.
        sockets: paths of Unix sockets of the others on this port, by node ID.
    """

    isLeaf = True

    def __init__(
        self,
        routes: Resource,
        status: INodeStatus,
        fetcher: Fetcher,
        passes: NodePasses,
        host: Resource | None = None,
        sockets: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._routes = routes
        self._status = status
        self._fetcher = fetcher
        self._passes = passes
        self._host = routes if host is None else host
        self._sockets = sockets or {}

    def render(self, request: AdminRequest) -> Rendered:
        ids, rest = split_query(request.uri.partition(b"?")[2])
        if len(ids) > 1 or ids == [""]:
            return fail(request, 400, "forward takes the ID of one node")
        if not ids:
            return render(self._host, request)
        if ids[0] in (LOCAL, self._status.node_id):
            return render(self._routes, request)
        if request.method not in (b"GET", b"HEAD"):
            return refuse_method(request, "GET, HEAD")
        (node_id,) = ids
        beside = self._sockets.get(node_id, "")
        marked = [pair for pair in rest.split("&") if pair != ARRIVED]
        arrived = ARRIVED in rest.split("&")
        base = "http://node" if beside else None if arrived else self._status.admin_url(node_id)
        if base is None and not arrived and self._status.node(node_id) is not None:
            return fail(request, BAD_GATEWAY, f"node {node_id} cannot be reached: {OUT_OF_REACH}")
        if base is None:
            return fail(request, 404, f"{NO_SUCH_NODE} to forward to: {node_id[:MAX_ID_SHOWN]}")
        # The path from its decoded parts: the same one, and nothing in it can be more than a path.
        path = "/".join(quote(part, safe="") for part in request.postpath or ())
        if not beside:  # several nodes may share that port: say which one is meant, and that it goes no further
            marked += [f"forward={quote(node_id, safe='')}", ARRIVED]
        query = "&".join(filter(None, marked))
        self._ask(request, node_id, f"{base}/{path}?{query}" if query else f"{base}/{path}", beside)
        return NOT_DONE_YET

    def _ask(self, request: AdminRequest, node_id: str, url: str, socket_path: str) -> None:
        """Answer the request with what is at the URL. HEAD asks with GET as well, to tell the length."""
        operator = request.operator
        shown = {} if socket_path else self._passes.fields(operator, node_id, url)
        asking = self._fetcher.fetch(url, socket_path, TIMEOUT_S, shown)

        def done(result: Fetched | Failure) -> None:
            if isinstance(result, Fetched) and (words := self._passes.why_refused(operator, result)):
                body = fail(request, BAD_GATEWAY, f"node {node_id} {words}")
            elif isinstance(result, Fetched):
                body = answer(request, result.body, result.content_type, result.status)
            elif result.check(defer.CancelledError):
                return  # the client left
            else:
                body = _failed(request, node_id, result)
            request.write(body)
            request.finish()

        request.notifyFinish().addErrback(lambda _: asking.cancel())
        asking.addBoth(done)


def _failed(request: AdminRequest, node_id: str, failure: Failure) -> bytes:
    """Answer a request whose question to another node failed. Returns the body."""
    if failure.check(defer.TimeoutError):
        return fail(request, GATEWAY_TIMEOUT, f"node {node_id} did not answer within {TIMEOUT_S:g} s")
    if failure.check(AnswerTooLargeError):
        return fail(request, BAD_GATEWAY, f"the answer of node {node_id} is too large to be passed on")
    if failure.check(*CANNOT_REACH):
        return fail(request, BAD_GATEWAY, f"node {node_id} cannot be reached: {why_unreachable(failure)}")
    log.failure("a request could not be forwarded to node {node_id}", failure, node_id=node_id)
    return fail(request, 500, "internal error; the log says more")
