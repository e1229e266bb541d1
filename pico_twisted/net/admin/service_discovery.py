"""The route from which Prometheus learns of all nodes (`http_sd_configs`).

Any node lists all that it knows but those that have left: one that is unreachable stays, so that its missing answers
are seen. Workers of a host share an admin port, which answers for all of them: they are one target.

See https://prometheus.io/docs/prometheus/latest/http_sd/ for what Prometheus wants.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from twisted.web.iweb import IRequest
from zope.interface import implementer

from pico_twisted.net.admin.answers import answer_json
from pico_twisted.net.admin.routes import IRouteGroup, Routes
from pico_twisted.net.admin.status import INodeStatus

SD_PATH: Final = "/sd"
"""Path of the route."""
METRICS_PATH: Final = "/metrics"
"""Path at which each target answers."""

_WORKER: Final = re.compile(r"-w[0-9]+\Z")


@implementer(IRouteGroup)
class ServiceDiscovery:
    """See above.

    Args:
        status: of this node; knows the others.
        cluster: the cluster's name.
        scheme: of this node's admin port, `http` or `https`.
    """

    def __init__(self, status: INodeStatus, cluster: str, scheme: str) -> None:
        self._status = status
        self._cluster = cluster
        self._scheme = scheme

    def routes(self) -> Routes:
        """See `IRouteGroup`."""
        return {SD_PATH: ("the admin ports of all nodes, for Prometheus (http_sd_configs)", self._listed)}

    def changes(self) -> Routes:
        """See `IRouteGroup`."""
        return {}

    def _listed(self, request: IRequest) -> bytes:
        ids: dict[tuple[str, str], list[str]] = {}
        for row in self._status.nodes():
            if row.status != "left" and (place := self._place(row.id, row.admin_addr)) is not None:
                ids.setdefault(place, []).append(row.id)
        return answer_json(request, [self._target(place, held) for place, held in ids.items()])

    def _place(self, id: str, address: str) -> tuple[str, str] | None:
        """Scheme and address of a node's admin port; None when it has none that others reach."""
        if id == self._status.node_id:
            return (self._scheme, address) if address else None
        scheme, found, reached = (self._status.admin_url(id) or "").partition("://")
        return (scheme, reached) if found else None

    def _target(self, place: tuple[str, str], ids: Sequence[str]) -> dict[str, object]:
        scheme, address = place
        node_id = ids[0] if len(ids) == 1 else _WORKER.sub("", ids[0])
        labels = {
            "node_id": node_id,
            "cluster": self._cluster,
            "__scheme__": scheme,
            "__metrics_path__": METRICS_PATH,
        }
        return {"targets": [address], "labels": labels}
