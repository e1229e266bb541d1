"""The routes of the admin port.

An app has one table of routes, from which both Klein's rules and the index at `/` are made. All are for GET and HEAD,
and all answers are JSON, errors included; only the metrics are not. Query parameters are ignored.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from klein import Klein
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from twisted.web.resource import IResource, Resource
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound

from pico_twisted.net.admin.shapes import to_json
from pico_twisted.net.admin.status import INodeStatus
from pico_twisted.net.metrics import CONTENT_TYPE, Metrics

log = Logger()

JSON: Final = "application/json"

Routes = Mapping[str, tuple[str, Callable[..., bytes]]]
"""Path -> (what is there, for the index; what answers)."""


def answer(request: IRequest, body: bytes, content_type: str, status: int = 200) -> bytes:
    """Set code and headers of a request's answer. Returns the body."""
    request.setResponseCode(status)
    request.setHeader(b"content-type", content_type.encode("ascii"))
    request.setHeader(b"content-length", b"%d" % len(body))
    request.setHeader(b"cache-control", b"no-store")
    return body


def answer_json(request: IRequest, value: object, status: int = 200) -> bytes:
    """Answer a request with what JSON can hold. Returns the body."""
    return answer(request, json.dumps(value, indent=2).encode("ascii") + b"\n", JSON, status)


def fail(request: IRequest, status: int, message: str) -> bytes:
    """Answer a request with an error. Returns the body."""
    return answer_json(request, {"error": message}, status)


class AgentAdminApp:
    """What the admin port of an agent serves, and the part that a node's has in common with it.

    Args:
        metrics: of this process.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def resource(self) -> IResource:
        """The resource for `admin_site`."""
        app = Klein()
        app.url_map.merge_slashes = False
        for path, (_, respond) in self._routes().items():
            app.route(path, methods=["GET"])(respond)
        app.handle_errors(HTTPException)(refuse)
        app.handle_errors(Exception)(break_down)
        return CheckedResource(app.resource())

    def _routes(self) -> Routes:
        return {
            "/": ("this list", self._index),
            "/health": ("200 while the process is alive", self._health),
            "/metrics": ("metrics for Prometheus", self._exposition),
        }

    def _index(self, request: IRequest) -> bytes:
        listed = {path: what for path, (what, _) in self._routes().items()}
        return answer_json(request, {"component": self._metrics.component, "routes": listed})

    def _health(self, request: IRequest) -> bytes:
        return answer_json(request, {"status": "ok"})

    def _exposition(self, request: IRequest) -> bytes:
        return answer(request, self._metrics.exposition(), CONTENT_TYPE)


class AdminApp(AgentAdminApp):
    """What the admin port of a node serves.

    Args:
        status: what the node says of itself and of others.
        metrics: of this process.
    """

    def __init__(self, status: INodeStatus, metrics: Metrics) -> None:
        super().__init__(metrics)
        self._status = status

    def _routes(self) -> Routes:
        return {
            **super()._routes(),
            "/ready": ("200 while the node is to be sent requests, else 503 and the reason", self._ready),
            "/status/cluster/nodes": ("the nodes of the cluster", self._nodes),
            "/status/cluster/nodes/<id>": ("one node with its endpoints; the id may be local", self._node),
            "/status/upstream/endpoints": (
                "the endpoints that agents registered at this node, with the number of registrations",
                self._endpoints,
            ),
        }

    def _ready(self, request: IRequest) -> bytes:
        ready, reason = self._status.ready()
        return answer_json(request, {"status": "ready"}) if ready else fail(request, 503, reason)

    def _nodes(self, request: IRequest) -> bytes:
        return answer_json(request, to_json(list(self._status.nodes())))

    def _node(self, request: IRequest, id: str) -> bytes:
        found = self._status.node(id)
        return fail(request, 404, "no such node") if found is None else answer_json(request, to_json(found))

    def _endpoints(self, request: IRequest) -> bytes:
        return answer_json(request, dict(sorted(self._status.endpoints().items())))


def refuse(request: IRequest, failure: Failure) -> bytes:
    """Answer a request that no route is for."""
    error = failure.value
    if isinstance(error, MethodNotAllowed):
        allowed = ", ".join(sorted(error.valid_methods or ()))
        request.setHeader(b"allow", allowed.encode("ascii"))
        return fail(request, 405, f"only {allowed} here")
    if isinstance(error, NotFound):
        return fail(request, 404, "no such path; GET / lists what is here")
    assert isinstance(error, HTTPException)
    return fail(request, error.code or 400, error.name)


def break_down(request: IRequest, failure: Failure) -> bytes:
    """Answer a request that a fault of ours keeps from being served."""
    log.failure("an admin request failed", failure)
    return fail(request, 500, "internal error; the log says more")


class CheckedResource(Resource):
    """Refuses paths that are no text before Klein sees them, which would log each one as a fault of ours."""

    isLeaf = True

    def __init__(self, routes: Resource) -> None:
        super().__init__()
        self._routes = routes

    def render(self, request: Any) -> Any:
        if b"" in request.postpath[:-1]:
            return fail(request, 404, "no such path; GET / lists what is here")
        try:
            b"/".join(request.postpath).decode("utf-8")
        except UnicodeDecodeError:
            return fail(request, 400, "the path is not UTF-8")
        return self._routes.render(request)
