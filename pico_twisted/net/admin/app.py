"""The routes of the admin port.

An app has one table of routes, from which both Klein's rules and the index at `/` are made. All but those that change
something are for GET and HEAD, and all answers are JSON, errors included; only the metrics are not. Of query parameters
only a node's `forward` means anything; see `other_nodes`. Who may come in is said in `entrance`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from klein import Klein
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from twisted.web.resource import IResource, Resource
from twisted.web.server import Request
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound

from pico_twisted.core.http1.error_pages import wants_html
from pico_twisted.net.admin.answers import (
    Rendered,
    answer,
    answer_json,
    answer_reloaded,
    break_down,
    fail,
    refuse_method,
    render,
)
from pico_twisted.net.admin.asking_nodes import AskingNodes
from pico_twisted.net.admin.cluster_agents import cluster_agents
from pico_twisted.net.admin.entrance import AdminAccess, Entrance
from pico_twisted.net.admin.operators import Reload
from pico_twisted.net.admin.other_nodes import OtherNodesResource
from pico_twisted.net.admin.page.files import PageFiles
from pico_twisted.net.admin.passes import NodePasses
from pico_twisted.net.admin.routes import IRouteGroup, Routes
from pico_twisted.net.admin.shapes.paths import AGENT_PATH, AGENTS_PATH, NO_SUCH_NODE, OPERATOR, RELOAD_PATH
from pico_twisted.net.admin.shapes.reading import to_json
from pico_twisted.net.admin.site import AdminRequest
from pico_twisted.net.admin.status import IAgentStatus, INodeStatus
from pico_twisted.net.admin.workers import Siblings, WorkersResource
from pico_twisted.net.observe.metrics import CONTENT_TYPE, Metrics
from pico_twisted.net.tls.fetch import Fetcher

log = Logger()


class CommonAdminApp:
    """What the admin ports of agents and nodes have in common.

    Args:
        status: what the agent or node says of itself.
        metrics: of this process.
        reload: reads the configuration again.
        access: who may use the port.
        groups: more routes, of the parts of the agent or node.
    """

    def __init__(
        self,
        status: IAgentStatus | INodeStatus,
        metrics: Metrics,
        reload: Reload,
        access: AdminAccess,
        groups: Sequence[IRouteGroup] = (),
    ) -> None:
        self._access = access
        self._groups = groups
        self._ready_now = status.ready
        self._metrics = metrics
        self._reload = reload

    _ready_words = ""

    def resource(self) -> IResource:
        """The resource for `admin_site`."""
        app = Klein()
        app.url_map.merge_slashes = False
        for path, (_, respond) in self._routes().items():
            # Klein would name a rule after its method, and groups may have methods of one name.
            app.route(path, methods=["GET"], endpoint=f"GET {path}")(respond)
        for path, (_, change) in self._changes().items():
            app.route(path, methods=["POST"], endpoint=f"POST {path}")(change)
        app.handle_errors(HTTPException)(refuse)
        app.handle_errors(Exception)(break_down)
        return CheckedResource(self._around(app.resource()))

    def _around(self, routes: Resource) -> Entrance:
        """What stands in front of the routes."""
        return Entrance(routes, self._access)

    def _routes(self) -> Routes:
        return {
            "/": ("this list", self._index),
            "/health": ("200 while the process is alive", self._health),
            "/ready": (self._ready_words, self._ready),
            "/metrics": ("metrics for Prometheus", self._exposition),
            **{path: route for group in self._groups for path, route in group.routes().items()},
        }

    def _changes(self) -> Routes:
        """The routes that change something, for operators."""
        return {
            RELOAD_PATH: ("reads the configuration again", self._reload_now),
            **{path: route for group in self._groups for path, route in group.changes().items()},
        }

    def _parameters(self) -> Mapping[str, str]:
        """The query parameters that every route takes, and what each is for."""
        return {}

    def _index(self, request: IRequest) -> bytes:
        listed = {path: what for path, (what, _) in self._routes().items()}
        parameters = dict(self._parameters())
        condition = f"for a POST; without admin.auth, from this machine alone with the field {OPERATOR}"
        changing = {path: f"{what}, {condition}" for path, (what, _) in self._changes().items()}
        return answer_json(
            request,
            {
                "component": self._metrics.component,
                "routes": listed,
                "parameters": parameters,
                "changing": changing,
            },
        )

    def _health(self, request: IRequest) -> bytes:
        return answer_json(request, {"status": "ok"})

    def _ready(self, request: IRequest) -> bytes:
        ready, reason = self._ready_now()
        return answer_json(request, {"status": "ready"}) if ready else fail(request, 503, reason)

    def _reload_now(self, request: AdminRequest) -> bytes:
        return answer_reloaded(request, self._reload(request.operator.name))

    def _exposition(self, request: IRequest) -> bytes:
        return answer(request, self._metrics.exposition(), CONTENT_TYPE)


class AgentAdminApp(CommonAdminApp):
    """What the admin port of an agent serves. See `CommonAdminApp`."""

    _ready_words = "200 while at least one listener is registered, else 503 and the reason"

    def __init__(
        self,
        status: IAgentStatus,
        metrics: Metrics,
        reload: Reload,
        access: AdminAccess,
        groups: Sequence[IRouteGroup] = (),
    ) -> None:
        super().__init__(status, metrics, reload, access, groups)
        self._status = status

    def _routes(self) -> Routes:
        return {**super()._routes(), AGENT_PATH: ("the listeners of this agent, and their sessions", self._detail)}

    def _detail(self, request: IRequest) -> bytes:
        return answer_json(request, to_json(self._status.detail()))


class AdminApp(CommonAdminApp):
    """What the admin port of a node serves.

    Args:
        status: what the node says of itself and of others.
        metrics: of this process.
        reload: reads the configuration again.
        access: who may use the port.
        passes: what other nodes are shown.
        fetcher: asks the admin ports of other nodes.
        groups: as of `CommonAdminApp`.
        siblings: the other workers that share the port; None when this node has it for itself.
        page: what browsers get at `/`; None when they get what programs get.
    """

    _ready_words = "200 while the node is to be sent requests, else 503 and the reason"

    def __init__(
        self,
        status: INodeStatus,
        metrics: Metrics,
        reload: Reload,
        access: AdminAccess,
        *,
        passes: NodePasses,
        fetcher: Fetcher,
        groups: Sequence[IRouteGroup] = (),
        siblings: Siblings | None = None,
        page: PageFiles | None = None,
    ) -> None:
        super().__init__(status, metrics, reload, access, groups)
        self._page = page
        self._status = status
        self._passes = passes
        self._fetcher = fetcher
        self._siblings = siblings
        self._asking = AskingNodes(status, fetcher, passes, {} if siblings is None else siblings.sockets)

    def _around(self, routes: Resource) -> Entrance:
        siblings, ids, fetcher = self._siblings, frozenset((self._status.node_id,)), self._fetcher
        if siblings is None:
            return Entrance(OtherNodesResource(routes, self._status, fetcher, self._passes), self._access, ids)
        host = WorkersResource(routes, siblings, self._status, self._metrics, self._reload, fetcher)
        others = OtherNodesResource(routes, self._status, fetcher, self._passes, host, siblings.sockets)

        def tell(path: str, fields: Mapping[str, str]) -> Deferred[object]:
            return Deferred.fromCoroutine(siblings.ask(fetcher, path, fields))

        return Entrance(others, self._access, ids | siblings.sockets.keys(), tell)

    def _parameters(self) -> Mapping[str, str]:
        return {"forward": "the ID of the node that is to answer; every route takes it"}

    def _routes(self) -> Routes:
        return {
            **super()._routes(),
            "/status/cluster/nodes": ("the nodes of the cluster", self._nodes),
            "/status/cluster/nodes/<id>": ("one node with its endpoints; the id may be local", self._node),
            "/status/upstream/endpoints": (
                "the endpoints that agents registered at this node, with the number of registrations",
                self._endpoints,
            ),
            "/status/cluster/endpoints": ("the endpoints of the cluster, with the nodes that hold them", self._held),
            "/status/cluster/agents": (
                "the agents of all nodes, asked now; endpoint=<id> leaves out those that do not serve it",
                self._all_agents,
            ),
            AGENTS_PATH: ("the agents of this node; endpoint=<id> as above", self._agents),
            "/status/gossip/nodes": ("what gossip knows of each node", self._gossip_nodes),
            "/status/gossip/nodes/<id>": (
                "the same of one node, with its keys and their versions; the id may be local",
                self._gossip_node,
            ),
        }

    def _index(self, request: IRequest) -> bytes:
        request.setHeader(b"vary", b"accept")
        if self._page is not None and wants_html(request.getHeader(b"accept") or b""):
            return self._page.index(request)
        return super()._index(request)

    def _nodes(self, request: IRequest) -> bytes:
        return answer_json(request, to_json(list(self._status.nodes())))

    def _node(self, request: IRequest, id: str) -> bytes:
        found = self._status.node(id)
        return fail(request, 404, NO_SUCH_NODE) if found is None else answer_json(request, to_json(found))

    def _endpoints(self, request: IRequest) -> bytes:
        return answer_json(request, dict(sorted(self._status.endpoints().items())))

    def _held(self, request: IRequest) -> bytes:
        return answer_json(request, dict(sorted(self._status.cluster_endpoints().items())))

    def _agents(self, request: Request) -> bytes:
        return answer_json(request, to_json(self._status.agents(_endpoint(request))))

    def _all_agents(self, request: AdminRequest) -> Deferred[bytes]:
        asking = Deferred.fromCoroutine(
            cluster_agents(self._status, self._asking, _endpoint(request), request.operator)
        )
        return asking.addCallback(lambda found: answer_json(request, to_json(found)))

    def _gossip_nodes(self, request: IRequest) -> bytes:
        return answer_json(request, to_json(list(self._status.gossip_nodes())))

    def _gossip_node(self, request: IRequest, id: str) -> bytes:
        found = self._status.gossip_node(id)
        return fail(request, 404, NO_SUCH_NODE) if found is None else answer_json(request, to_json(found))


def _endpoint(request: Request) -> str:
    """The endpoint that a request is about; empty when it is about all."""
    given: list[bytes] = (request.args or {}).get(b"endpoint", [])
    return given[0].decode("utf-8", "replace").lower() if given else ""


def refuse(request: IRequest, failure: Failure) -> bytes:
    """Answer a request that no route is for."""
    error = failure.value
    if isinstance(error, MethodNotAllowed):
        return refuse_method(request, ", ".join(sorted(error.valid_methods or ())))
    if isinstance(error, NotFound):
        return fail(request, 404, "no such path; GET / lists what is here")
    assert isinstance(error, HTTPException)
    return fail(request, error.code or 400, error.name)


class CheckedResource(Resource):
    """The outermost resource: it answers what nothing inside would answer well.

    It handles what Klein does not: paths that are not valid UTF-8, which Klein logs as server errors; methods in small
    letters, which Klein takes for others (RFC 9110 9.1); and our own exceptions raised before Klein is reached, for
    which twisted.web answers with HTML.
    """

    isLeaf = True

    def __init__(self, routes: Resource) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._routes = routes

    def render(self, request: Request) -> Rendered:
        parts = request.postpath or []
        if b"" in parts[:-1]:
            return fail(request, 404, "no such path; GET / lists what is here")
        if request.method != request.method.upper():
            return fail(request, 501, "methods are written in capitals")
        try:
            b"/".join(parts).decode("utf-8")
        except UnicodeDecodeError:
            return fail(request, 400, "the path is not UTF-8")
        try:
            return render(self._routes, request)
        except Exception:
            return break_down(request, Failure())
