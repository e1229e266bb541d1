"""What Prometheus is told of the nodes. A real one asks in `tests/monitoring`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from pico_twisted.net.admin.service_discovery import SD_PATH
from pico_twisted.net.admin.shapes.nodes import NodeRow
from tests.doubles.gate import ToldGate
from tests.net.admin.admin_fakes import Serve, Status, access, node_app
from tests.net.in_reactor import in_reactor


class Nodes(Status):
    """A cluster.

    Args:
        others: status and URL of the admin port of each other node, by ID.
        own: address of our own admin port.
    """

    def __init__(self, others: Mapping[str, tuple[str, str]], own: str = "10.0.0.1:8001", node_id: str = "n1") -> None:
        super().__init__(node_id)
        self.detail = attrs.evolve(self.detail, admin_addr=own)
        self.urls = {id: url for id, (_, url) in others.items() if url}
        self._others = others

    def nodes(self) -> Sequence[NodeRow]:
        others = [attrs.evolve(self.detail.row(), id=id, status=status) for id, (status, _) in self._others.items()]
        return [self.detail.row(), *others]


async def found(serve: Serve, status: Status) -> list[dict[str, Any]]:
    """What is listed, as Prometheus reads it."""
    code, headers, body = await serve(node_app(status)).ask(SD_PATH)
    assert (code, headers["content-type"].partition(";")[0]) == (200, "application/json")
    listed: list[dict[str, Any]] = json.loads(body)
    return listed


@in_reactor
async def test_all_nodes(serve: Serve) -> None:
    """Each node is a target with its ID, the cluster and how it is asked; one that is unreachable stays, one that has
    left goes, and so does one whose admin port is for its own machine alone."""
    others = {
        "n2": ("active", "https://10.0.0.2:8001"),
        "n3": ("unreachable", "http://10.0.0.3:8001"),
        "n4": ("left", "http://10.0.0.4:8001"),
        "n5": ("active", ""),
    }
    told = {one["targets"][0]: one["labels"] for one in await found(serve, Nodes(others))}
    more = {"cluster": "pico", "__metrics_path__": "/metrics"}
    assert told == {
        "10.0.0.1:8001": {"node_id": "n1", "__scheme__": "http", **more},
        "10.0.0.2:8001": {"node_id": "n2", "__scheme__": "https", **more},
        "10.0.0.3:8001": {"node_id": "n3", "__scheme__": "http", **more},
    }


@in_reactor
async def test_workers_are_one_target(serve: Serve) -> None:
    """The workers of a host share an admin port, which answers for all of them: it is asked once, as the host. A node
    of its own may be called as it likes."""
    others = {
        "n1-w1": ("active", "http://10.0.0.1:8001"),
        "n2-w0": ("active", "http://10.0.0.2:8001"),
        "n2-w1": ("active", "http://10.0.0.2:8001"),
        "db-w3": ("active", "http://10.0.0.3:8001"),
    }
    listed = await found(serve, Nodes(others, node_id="n1-w0"))
    assert [(one["targets"], one["labels"]["node_id"]) for one in listed] == [
        (["10.0.0.1:8001"], "n1"),
        (["10.0.0.2:8001"], "n2"),
        (["10.0.0.3:8001"], "db-w3"),
    ]


@in_reactor
async def test_on_a_unix_socket(serve: Serve) -> None:
    """A node whose admin port has no address is no target, and the others are."""
    listed = await found(serve, Nodes({"n2": ("active", "http://10.0.0.2:8001")}, own=""))
    assert [one["targets"] for one in listed] == [["10.0.0.2:8001"]]


@in_reactor
async def test_protected(serve: Serve) -> None:
    """Whoever may not read the metrics is not told where the nodes are either."""
    served = serve(node_app(Nodes({}), access(ToldGate({}))))
    for path in (SD_PATH, "/metrics"):
        code, _, body = await served.ask(path)
        assert code == 401 and b"10.0.0" not in body
