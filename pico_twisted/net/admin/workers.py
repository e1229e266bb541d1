"""The admin port that several workers share: the one that takes a request answers for the host.

Each worker also answers on a Unix socket, for itself alone and only to its siblings. Metrics and endpoints are asked
of all of them; one that does not answer in time is left out, and the metrics say how many did. What is asked there
never goes further. The host is ready when any worker is: the kernel sends connections to those that are. A reload is
done here first, and by the others only if all was well. A login or logout is told to the others.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from typing import Final

import attrs
from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from pico_twisted.net.admin.answers import JSON, Rendered, answer, answer_json, answer_reloaded, fail, render
from pico_twisted.net.admin.operators import Reload
from pico_twisted.net.admin.shapes.paths import OPERATOR, RELOAD_PATH
from pico_twisted.net.admin.site import AdminRequest
from pico_twisted.net.admin.status import INodeStatus
from pico_twisted.net.observe.metrics import CONTENT_TYPE, Metrics
from pico_twisted.net.tls.fetch import Fetched, Fetcher

log = Logger()

METRICS: Final = [b"metrics"]
"""Path of the metrics, which are asked of all workers."""
READY: Final = [b"ready"]
"""Path of the readiness."""
RELOAD: Final = [RELOAD_PATH[1:].encode("ascii")]
"""Path of the reload, which all workers do."""
ENDPOINTS: Final = [b"status", b"upstream", b"endpoints"]
"""Path of the endpoints, which are asked of all workers."""
SIBLING_TIMEOUT_S: Final = 2.0
"""Seconds after which a sibling on the same host that did not answer counts as stuck."""


@attrs.frozen(kw_only=True)
class Siblings:
    """The other workers of the host.

    Attributes:
        label: of this worker, in metrics.
        labels: of the others, by node ID.
        sockets: paths of their Unix sockets, by node ID.
    """

    label: str
    labels: Mapping[str, str]
    sockets: Mapping[str, str]

    async def ask(self, fetcher: Fetcher, path: str, fields: Mapping[str, str] | None = None) -> dict[str, object]:
        """What each sibling answers, by its node ID: `Fetched`, or what went wrong.

        Args:
            fetcher: asks.
            path: what is asked for.
            fields: of a POST; None for a GET.
        """
        method = "GET" if fields is None else "POST"
        ids = list(self.sockets)
        asked = [
            fetcher.fetch(f"http://node{path}", self.sockets[id], SIBLING_TIMEOUT_S, fields, method=method)
            for id in ids
        ]
        results = await DeferredList(asked, consumeErrors=True)
        return {id: result for id, (_, result) in zip(ids, results, strict=True)}


class WorkersResource(Resource):
    """Answers for the host what is a sum over its workers; the rest is for the routes.

    Args:
        routes: of this worker.
        siblings: who else is to be asked.
        status: of this worker.
        metrics: of this worker.
        reload: has this worker read its configuration again.
        fetcher: asks.
    """

    isLeaf = True

    def __init__(
        self,
        routes: Resource,
        siblings: Siblings,
        status: INodeStatus,
        metrics: Metrics,
        reload: Reload,
        fetcher: Fetcher,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._routes = routes
        self._siblings = siblings
        self._status = status
        self._metrics = metrics
        self._reload = reload
        self._fetcher = fetcher

    def render(self, request: AdminRequest) -> Rendered:
        if request.method == b"POST" and request.postpath == RELOAD:
            return self._deferred(request, self._reload_all)
        if request.method not in (b"GET", b"HEAD") or request.postpath not in (METRICS, ENDPOINTS, READY):
            return render(self._routes, request)
        if request.postpath == READY and self._status.ready()[0]:
            return render(self._routes, request)
        return self._deferred(request, self._answer)

    def _deferred(
        self,
        request: AdminRequest,
        respond: Callable[[AdminRequest, Deferred[None]], Coroutine[Deferred[object], object, None]],
    ) -> Rendered:
        left = request.notifyFinish()
        asking = Deferred.fromCoroutine(respond(request, left))
        left.addErrback(lambda _: asking.cancel())
        asking.addErrback(lambda failure: self._broken(request, failure))
        return NOT_DONE_YET

    async def _reload_all(self, request: AdminRequest, left: Deferred[None]) -> None:
        operator = request.operator.name or "somebody"
        own = self._reload(operator)
        faults = list(own.faults)
        if not faults:
            answers = await self._siblings.ask(self._fetcher, RELOAD_PATH, {OPERATOR: operator})
            for id, answered in answers.items():
                if not isinstance(answered, Fetched):
                    faults.append(f"worker {self._siblings.labels[id]} does not answer")
                elif answered.status != 200:
                    faults.append(f"worker {self._siblings.labels[id]}: {json.loads(answered.body)['error']}")
        if not left.called:
            request.write(answer_reloaded(request, attrs.evolve(own, faults=tuple(faults))))
            request.finish()

    async def _answer(self, request: AdminRequest, left: Deferred[None]) -> None:
        path = "/" + b"/".join(request.postpath or ()).decode("ascii")
        found = {
            id: answered.body
            for id, answered in (await self._siblings.ask(self._fetcher, path)).items()
            if isinstance(answered, Fetched) and answered.status == 200
        }
        if left.called:
            return  # so has the client
        if request.postpath == METRICS:
            texts = {self._siblings.label: self._metrics.exposition()}
            texts.update((self._siblings.labels[node_id], body) for node_id, body in found.items())
            body = answer(request, merged(texts), CONTENT_TYPE)
        elif request.postpath == READY:
            ready = next(iter(found.values()), b"")  # only who is ready answers with 200
            body = answer(request, ready, JSON) if ready else fail(request, 503, self._status.ready()[1])
        else:
            counts = Counter(self._status.endpoints())
            for answered in found.values():
                counts.update(json.loads(answered))
            body = answer_json(request, dict(sorted(counts.items())))
        request.write(body)
        request.finish()

    def _broken(self, request: AdminRequest, failure: Failure) -> None:
        log.failure("an admin request failed", failure)
        request.setResponseCode(500)
        request.finish()


def merged(texts: Mapping[str, bytes]) -> bytes:
    """One exposition of several, each sample with a label `worker` in front.

    Args:
        texts: expositions in the text format 0.0.4, by the value of the label.

    Returns:
        The same families, each with its HELP and TYPE once, and one more: how many workers answered.
    """
    families: dict[str, tuple[list[str], list[str]]] = {}
    for label, text in texts.items():
        heads: list[str] = []
        samples: list[str] = []
        for line in text.decode("utf-8").split("\n"):
            if line.startswith("# HELP "):
                name = line.split(" ", 3)[2]
                heads, samples = families.setdefault(name, ([], []))
            if line.startswith("#"):
                if line not in heads:
                    heads.append(line)
            elif line:
                samples.append(_labelled(line, label))
    lines = [line for heads, samples in families.values() for line in (*heads, *samples)]
    lines += [
        "# HELP pico_workers_answering Workers of this host whose metrics these are.",
        "# TYPE pico_workers_answering gauge",
        f"pico_workers_answering {len(texts)}",
    ]
    return "\n".join(lines).encode("utf-8") + b"\n"


def _labelled(sample: str, label: str) -> str:
    """A sample with one label more. No name holds a brace or a space, so the first of either ends the name."""
    end = min(at for at in (sample.find("{"), sample.find(" ")) if at >= 0)
    rest = sample[end:]
    if rest.startswith("{"):
        return f'{sample[:end]}{{worker="{label}",{rest[1:]}'
    return f'{sample[:end]}{{worker="{label}"}}{rest}'
