"""The live page of real nodes: whichever is asked tells of all, and a node that stops is not kept by those who look."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pico_twisted.net.admin.page.routes import LIVE_PATH
from tests.system.cluster import SECRET, running_cluster
from tests.system.workers import WORKERS, Host
from tools.stage.asking import get
from tools.stage.ports import HOST
from tools.stage.waiting import PATIENCE_S

pytestmark = pytest.mark.processes

_DATA = "data: "


class Viewer:
    """Somebody who looks at a node's page.

    Args:
        port: its admin port.
    """

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection(HOST, port, timeout=PATIENCE_S)
        self._connection.request("GET", LIVE_PATH, headers={"accept": "text/event-stream"})
        self._answer = self._connection.getresponse()
        self.tables: dict[str, dict[str, Any]] = {}
        self.failures: list[dict[str, Any]] = []

    def told(self) -> Iterator[None]:
        """Take events as they come, until the stream ends, or the node with it."""
        with contextlib.suppress(http.client.IncompleteRead, ConnectionError):
            while line := self._answer.readline().decode():
                if line.startswith(_DATA):
                    self._take(json.loads(line.removeprefix(_DATA)))
                    yield

    def _take(self, told: dict[str, Any]) -> None:
        self.failures += told.get("failures", [])
        for name, rows in told.items():
            if isinstance(rows, dict) and name != "gone":
                self.tables.setdefault(name, {}).update(rows)
        for name, keys in told.get("gone", {}).items():
            for key in keys:
                del self.tables[name][key]

    def close(self) -> None:
        """Leave."""
        self._connection.close()


@contextlib.contextmanager
def viewer(port: int) -> Iterator[Viewer]:
    """Somebody who looks, for a `with` statement."""
    with contextlib.closing(Viewer(port)) as one:
        yield one


def figures(one: Viewer) -> set[str]:
    """The nodes that told their figures."""
    return {id for id, row in one.tables.get("nodes", {}).items() if "cpu" in row}


def test_any_node_tells_of_all(tmp_path: Path) -> None:
    """Figures, agents and failures of all nodes are told by each; SIGTERM ends a node as ever, whoever looks."""
    with running_cluster(tmp_path, settings={"cluster": {"secrets": [SECRET]}}) as cluster:
        cluster.start("n1", "n2")
        cluster.agent(["n2"], {"dead": f"{HOST}:1"})
        cluster.wait_endpoint("n2", "dead")
        port = cluster["n1"].ports.admin
        assert b"main.js" in get(port, "/", {"accept": "text/html"}).body
        assert "routes" in json.loads(get(port, "/").body)
        with viewer(port) as one:
            for _ in one.told():
                if figures(one) == {"n1", "n2"} and one.tables["sessions"]:
                    break
            ((session, row),) = one.tables["sessions"].items()
            assert re.fullmatch(r"\S+ n2 dead", session) and row["version"]
            assert one.tables["held"] == {"dead": {"n2": 1}}
            fields = {"x-pico-endpoint": "dead", "x-request-id": "lost"}
            assert get(cluster["n1"].ports.proxy, "/", fields).status == 502
            for _ in one.told():
                if one.failures:
                    break
            (failure,) = one.failures
            assert (failure["node"], failure["request_id"], failure["endpoint"]) == ("n1", "lost", "dead")
            cluster["n1"].terminate()
            for _ in one.told():
                pass  # until the node, which ends, has ended the stream
            assert cluster["n1"].wait_exit() == 0


def test_any_worker_tells_of_the_host(tmp_path: Path) -> None:
    """Workers are nodes: whichever takes the connection, all are on the page."""
    with contextlib.closing(Host(tmp_path)) as host:
        host.up()
        host.wait_nodes()
        for _ in range(3):
            with viewer(host.ports.admin) as one:
                for _ in one.told():
                    if figures(one) == set(WORKERS):
                        break
