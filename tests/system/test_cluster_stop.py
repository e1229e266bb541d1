"""A node of a cluster that stops in order: nobody notices."""

from __future__ import annotations

from typing import Any

import pytest

from tests.system.asking import Asking, came_twice
from tests.system.balancer import Balancer
from tests.system.cluster import FIVE, Cluster, Watch, registrations
from tests.system.service import Connection, Service
from tests.system.wire import connect
from tools.stage.nodes import Node
from tools.stage.waiting import wait_until
from tools.stage.wrk import Wrk

# A node that stops listens on until nobody comes any more, at most for a tenth of this; clients here come for ever.
GRACE = {"grace_period": "10s"}
REQUEST = b"GET / HTTP/1.1\r\nHost: web.example\r\n\r\n"


def said(node: Node, *messages: str) -> list[dict[str, Any]]:
    """The log records of a node with these messages, in their order."""
    return [record for record in node.records if record.get("message") in messages]


def test_sigterm_under_load(cluster: Cluster, one: Service) -> None:
    """The only agent of an endpoint moves from a draining node; no request fails, at that node or at any other.

    The others see it draining and then left, it ends with 0, and what its log says is in order.
    """
    cluster.start(*FIVE, settings=GRACE)
    cluster.agent(["n1", "n2"], {"web": one.address})
    (leaver,) = cluster.holders("web")
    (other,) = {"n1", "n2"} - {leaver}
    cluster.wait_endpoint(leaver, "web")
    watch = Watch(cluster.running(but=[leaver]))
    balancer = Balancer([cluster[leaver].proxy, cluster["n5"].proxy])
    wrks = [Wrk(f"http://127.0.0.1:{port}/", "web", seconds=3, connections=4) for port in (balancer.port,)]
    wrks.append(Wrk(cluster["n3"].url(), "web", seconds=3, connections=4))
    places = [[cluster[leaver].proxy, cluster["n4"].proxy], [cluster[other].proxy], [cluster["n3"].proxy]]
    askings = [Asking(place, "web", method=method) for place in places for method in ("GET", "POST")]
    try:
        for asking in askings:
            asking.wait_more(20)
        cluster[leaver].terminate()
        cluster.wait_status(leaver, "draining", "left")
        cluster.wait_endpoint(other, "web")
        assert cluster[leaver].wait_exit() == 0
        cluster.wait_status(leaver, "left")
        for asking in askings:
            asking.wait_more(20)
        for wrk in wrks:
            result = wrk.result()
            assert (result.failed, result.requests > 0) == (0, True), result.output
        for asking in askings:
            asking.check()
    finally:
        for wrk in wrks:
            wrk.close()
        balancer.close()
        for asking in askings:
            asking.stop()
        watch.stop()
    assert came_twice([one], "POST") == {}
    for node in cluster.running():
        assert watch.statuses(node.name, leaver) == ["active", "draining", "left"]
        assert registrations(node, leaver, "web") == 0
        assert not [
            record for record in node.records if record.get("level") == "warn" and "link" in record["subsystem"]
        ]
    stopping, stopped = said(cluster[leaver], "Stopping: requests in progress have 10.0 s", "Stopped")
    assert stopping["time"] < stopped["time"]
    assert cluster[leaver].records[-1] == stopped
    served = [record["time"] for record in cluster[leaver].records if record.get("subsystem") == "access"]
    assert all(time <= stopped["time"] for time in served)
    (said_left,) = [record for record in cluster[other].records if record.get("status") == "left"]
    assert stopping["time"] < said_left["time"]


def test_a_call_of_another_node_is_finished(cluster: Cluster, one: Service) -> None:
    """What came over a link before SIGTERM is answered in full before the node ends."""

    def script(connection: Connection) -> None:
        connection.read_request()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf")
        wait_until(lambda: cluster["n1"].admin.status("/ready") == 503, "the drain")
        connection.send(b"full")
        connection.linger()

    one.script = script
    cluster.start("n1", "n2")
    cluster.agent(["n1"], {"web": one.address})
    cluster.wait_endpoint("n1", "web")
    client = connect(cluster["n2"].proxy)
    client.send(REQUEST)
    assert client.response_head().status == 200
    assert client.body_bytes(4) == b"half"
    cluster["n1"].terminate()
    assert client.body_bytes(4) == b"full"
    client.close()
    assert cluster["n1"].wait_exit() == 0
    cluster.wait_status("n1", "left")


def test_a_rolling_restart_under_load(cluster: Cluster, one: Service) -> None:
    """Every node is stopped and started again, one after the other: no request fails, and no POST runs twice."""
    ids = ("n1", "n2", "n3")
    cluster.start(*ids, settings=GRACE)
    cluster.agent(ids, {"web": one.address})
    (holder,) = cluster.holders("web")
    cluster.wait_endpoint(holder, "web")
    proxies = [cluster[id].proxy for id in ids]
    places = [proxies[first:] + proxies[:first] for first in range(3)]
    askings = [Asking(place, "web", method=method, clients=1) for place in places for method in ("GET", "POST")]
    for id in ids:
        for asking in askings:
            asking.wait_more(10)
        cluster.stop(id)
        cluster.again(id)
        cluster.wait_all(ids)
    for asking in askings:
        asking.wait_more(10)
        asking.check()
    assert came_twice([one], "POST") == {}
    for node in cluster.running():
        assert not [record for record in node.records if record.get("status") == "unreachable"]


def test_all_stop_at_once(cluster: Cluster) -> None:
    """Nobody waits for anybody: each ends with 0."""
    cluster.start(*FIVE)
    cluster.stop(*FIVE)
    for node in cluster.nodes.values():
        assert said(node, "Stopped")


@pytest.mark.parametrize("signals", [1, 2])
def test_a_node_that_is_cut_says_that_it_leaves(cluster: Cluster, one: Service, signals: int) -> None:
    """At the end of the grace period, or at a second signal, calls are cut; nobody waits for the node's silence."""
    one.script = lambda connection: connection.linger()
    cluster.start("n1", "n2", "n3", settings={"grace_period": "1s" if signals == 1 else "10m"})
    cluster.agent(["n1"], {"web": one.address})
    client = connect(cluster["n1"].proxy)
    client.send(REQUEST)
    one.wait_connection()
    for _ in range(signals):
        cluster["n1"].terminate()
        cluster["n1"].wait_output("Stopping")
    assert cluster["n1"].wait_exit() == 0
    cluster.wait_status("n1", "left")
    client.close()
    for node in cluster.running():
        assert not [record for record in node.records if record.get("status") == "unreachable"]
