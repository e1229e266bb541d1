"""What nodes tell of requests, events and how busy they are: each of itself, and all together."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Mapping
from typing import Any, cast

import attrs
import pytest
from twisted.logger import Logger, LogPublisher

from pico_twisted.net.admin.asking_nodes import AskingNodes
from pico_twisted.net.admin.passes import NodePasses
from pico_twisted.net.admin.shapes.summary import NodeSummary
from pico_twisted.net.admin.site import admin_site
from pico_twisted.net.admin.watching import MOST_ROWS, Memory, Watched, WatchingRoutes
from pico_twisted.net.admin.workers import Siblings
from pico_twisted.net.observe.access_log import LoggedRequest
from pico_twisted.net.observe.events import EventMemory
from pico_twisted.net.observe.requests import RequestWatch
from pico_twisted.net.tls.fetch import Fetcher, HttpsPolicy
from tests.net.admin.admin_fakes import Serve, Served, Status, node_app
from tests.net.in_reactor import in_reactor, reactor


class Cluster(Status):
    """A node that knows others."""

    def __init__(self, node_id: str) -> None:
        super().__init__(node_id)
        self.others: list[str] = []

    def nodes(self) -> Any:
        row = self.detail.row()
        return [row, *(attrs.evolve(row, id=id) for id in self.others)]


class WatchedNode:
    """A node that remembers, with its admin port.

    Args:
        node_id: its ID.
        siblings: the other workers of its host.
    """

    def __init__(self, node_id: str, siblings: Siblings | None = None) -> None:
        self.status = Cluster(node_id)
        self.now_s = 1000.0
        self.watch = RequestWatch(None, "proxy", lambda: self.now_s, lambda: self.now_s)
        events = EventMemory(lambda: self.now_s)
        self.log = Logger(namespace="pico_twisted.app.node", observer=LogPublisher(events.observer))
        sockets = {} if siblings is None else siblings.sockets
        passes = NodePasses(node_id, "pico", (), wall=time.time, nonce=os.urandom)
        routes = WatchingRoutes(
            Memory(id=node_id, requests=self.watch, events=events, wall=lambda: self.now_s),
            Watched(
                summary=lambda: NodeSummary(id=node_id, started_at_s=1.0, at_s=2.0),
                asking=AskingNodes(self.status, Fetcher(reactor, HttpsPolicy()), passes, sockets),
            ),
        )
        self.app = node_app(self.status, siblings=siblings, more=(routes,))

    def failed(self, request_id: str, at_s: float = 1000.0, **more: Any) -> None:
        """A request failed."""
        self.now_s = at_s
        request: dict[str, Any] = {
            "client": "203.0.113.9",
            "proxies": b"",
            "method": b"GET",
            "target": b"/hook?token=abc123",
            "endpoint": "shop",
            "upstream": "agent-1",
            "status": 502,
            "bytes_in": 0,
            "bytes_out": 0,
            "first_byte_s": None,
            "duration_s": 0.5,
            "request_id": request_id,
            "error": "service-unreachable",
            "protocol": "HTTP/1.1",
            "fields": {},
            "subject": "",
            **more,
        }
        self.watch.request(False, cast(LoggedRequest, request))


async def ask(served: Served, path: str) -> Any:
    """What a route answers."""
    code, _, body = await served.ask(path)
    assert code == 200, body
    return json.loads(body)


@in_reactor
async def test_one_node(serve: Serve) -> None:
    """What a node remembers, and how far back that reaches; secrets in targets are hidden."""
    node = WatchedNode("n1")
    served = serve(node.app)
    node.failed("r-1")
    told = await ask(served, "/status/requests")
    (row,) = told["rows"]
    assert (row["node"], row["request_id"], row["hop"], row["status"]) == ("n1", "r-1", "service", 502)
    assert row["target"] == "/hook?token=(hidden)"
    assert told["reach"] == {"n1": {"now_s": 1000.0, "failed_since_s": 1000.0, "all_since_s": 1000.0}}
    node.log.info("Something happened", peer="10.0.0.1:4")
    (event,) = (await ask(served, "/status/events"))["rows"]
    assert (event["message"], event["level"], event["fields"]) == ("Something happened", "info", {"peer": "10.0.0.1:4"})
    assert [one["id"] for one in (await ask(served, "/status/summary"))["nodes"]] == ["n1"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ["r-1", "r-2", "r-3"]),
        ("?limit=2", ["r-2", "r-3"]),
        ("?since=1002", ["r-2", "r-3"]),
        ("?endpoint=API", ["r-2"]),
        ("?agent=agent-2", ["r-3"]),
        ("?id=r-1", ["r-1"]),
        ("?failed=1&unknown=x", ["r-1", "r-2"]),
    ],
)
@in_reactor
async def test_questions(query: str, expected: list[str], serve: Serve) -> None:
    """Each part of the query leaves something out."""
    node = WatchedNode("n1")
    served = serve(node.app)
    node.watch.looked()
    node.failed("r-1", 1001.0)
    node.failed("r-2", 1002.0, endpoint="api")
    node.failed("r-3", 1003.0, upstream="agent-2", status=200, error="")
    told = await ask(served, f"/status/requests{query}")
    assert [row["request_id"] for row in told["rows"]] == expected
    assert told["more"] == (1 if query == "?limit=2" else 0)


@pytest.mark.parametrize(
    "query", ["since=yesterday", "since=nan", "since=inf", "limit=0", f"limit={MOST_ROWS + 1}", "limit=x", "id=%ff"]
)
@in_reactor
async def test_nonsense(query: str, serve: Serve) -> None:
    """Is answered with what a question may look like."""
    served = serve(WatchedNode("n1").app)
    for path in ("/status/requests", "/status/cluster/requests", "/status/events", "/status/cluster/events"):
        code, _, body = await served.ask(f"{path}?{query}")
        assert code == 400
        assert b"since=" in body


@in_reactor
async def test_all_nodes(serve: Serve) -> None:
    """Their rows are merged by time; one that gives no answer is named."""
    one, two = WatchedNode("n1"), WatchedNode("n2")
    served, other = serve(one.app), serve(two.app)
    old = serve(node_app(Status("n3")))
    one.status.others = ["n2", "n3", "n4"]
    one.status.urls = {"n2": other.url, "n3": old.url}
    one.failed("r-1", 1001.0)
    two.failed("r-2", 1002.0)
    one.failed("r-3", 1003.0)
    two.log.warn("n2 warns")
    told = await ask(served, "/status/cluster/requests")
    assert [(row["node"], row["request_id"]) for row in told["rows"]] == [("n1", "r-1"), ("n2", "r-2"), ("n1", "r-3")]
    assert told["reach"].keys() == {"n1", "n2"}
    assert told["unanswered"].keys() == {"n3", "n4"}
    assert "earlier version" in told["unanswered"]["n3"]
    told = await ask(served, "/status/cluster/requests?limit=1&since=1001.5")
    assert ([row["request_id"] for row in told["rows"]], told["more"]) == (["r-3"], 1)
    events = await ask(served, "/status/cluster/events")
    assert [(row["node"], row["message"]) for row in events["rows"]] == [("n2", "n2 warns")]
    summary = await ask(served, "/status/cluster/summary")
    assert [node["id"] for node in summary["nodes"]] == ["n1", "n2"]
    assert two.watch.wants_all  # somebody looks at all nodes


@in_reactor
async def test_workers_of_a_host(serve: Serve) -> None:
    """The port that they share tells of all of them; a worker that is named, of itself."""
    with tempfile.TemporaryDirectory() as directory:
        path = f"{directory}/1"
        other = WatchedNode("n1-w1")
        listening = reactor.listenUNIX(path, admin_site(other.app))
        siblings: Mapping[str, str] = {"n1-w1": path}
        one = WatchedNode("n1-w0", Siblings(label="0", labels={"n1-w1": "1"}, sockets=siblings))
        served = serve(one.app)
        one.status.others = ["n1-w1"]
        one.failed("r-0", 1000.0)
        other.failed("r-1", 1001.0)
        for path, expected in (
            ("/status/requests", ["r-0", "r-1"]),
            ("/status/cluster/requests", ["r-0", "r-1"]),
            ("/status/requests?forward=n1-w0", ["r-0"]),
            ("/status/requests?forward=n1-w1", ["r-1"]),
        ):
            told = await ask(served, path)
            assert [row["request_id"] for row in told["rows"]] == expected, path
        assert len((await ask(served, "/status/summary"))["nodes"]) == 2
        await listening.stopListening()
