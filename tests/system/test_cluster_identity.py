"""A node ID: what a restarted node is to the others, and what happens to two processes with one ID."""

from __future__ import annotations

import re

import pytest

from tests.system.asking import Asking
from tests.system.cluster import Cluster, Watch
from tests.system.curl import curl
from tests.system.service import Service
from tools.stage.processes import CLOCK_BACK
from tools.stage.waiting import wait_until

THREE = ("n1", "n2", "n3")


@pytest.mark.parametrize("prelude", ["", CLOCK_BACK], ids=["clock right", "clock an hour back"])
@pytest.mark.parametrize("end", ["kill", "stop"])
def test_a_restart(cluster: Cluster, one: Service, end: str, prelude: str) -> None:
    """A node that starts again at once is active everywhere, never stands twice in a listing, and serves."""
    cluster.start(*THREE)
    cluster.agent(["n1"], {"web": one.address})
    cluster.wait_endpoint("n1", "web")
    watch = Watch(list(cluster.nodes.values()))
    if end == "kill":
        cluster["n1"].kill()
    else:
        cluster.stop("n1")
    again = cluster.again("n1", prelude=prelude)
    assert again.wait_output("is up")
    cluster.wait_all(THREE)
    again.wait_endpoint("web")
    cluster.wait_endpoint("n1", "web")
    for node in cluster.running():
        answer = curl(node.url("/"), "-H", "x-pico-endpoint: web", directory=cluster.stage.directory)
        assert (answer.status, answer.body) == (200, b"one")
    wait_until(lambda: all(_lives_on(cluster, id) for id in THREE), "heartbeats of the new life")
    cluster.wait_all(THREE)
    for id in THREE[1:]:
        wait_until(lambda id=id: watch.statuses(id, "n1")[-1] == "active", "the watch to see it")  # type: ignore[misc]
    watch.stop()
    watch.check_unique()
    for id in THREE[1:]:
        others = {status for other in THREE if other != "n1" for status in watch.statuses(id, other)}
        assert others == {"active"}


def _lives_on(cluster: Cluster, id: str) -> bool:
    """Whether a node knows the first node by the generation that it now has, and heard of it in a moment."""
    generation = cluster["n1"].admin.json("/status/gossip/nodes/local")["generation"]
    seen = cluster[id].admin.json("/status/gossip/nodes/n1")
    return bool(seen["generation"] == generation and seen["heard_s"] < 2.0)


def test_nothing_of_the_last_life_is_left(cluster: Cluster, one: Service) -> None:
    """What the last life held and the new one does not is gone everywhere."""
    cluster.start(*THREE)
    agent = cluster.agent(["n1"], {"web": one.address, "old": one.address})
    cluster.wait_endpoint("n1", "old")
    cluster["n1"].kill()
    agent.close()
    cluster.again("n1")
    cluster.agent(["n1"], {"web": one.address}, name="agent-2")
    cluster.wait_endpoint("n1", "web")
    cluster.wait_endpoint("n1", "old", 0)
    answer = curl(cluster["n2"].url("/"), "-H", "x-pico-endpoint: old", directory=cluster.stage.directory)
    assert (answer.status, answer.json["error"]) == (502, "no available upstreams")


@pytest.mark.parametrize("prelude", ["", CLOCK_BACK], ids=["clock right", "clock an hour back"])
def test_a_newcomer_with_an_id_that_is_taken(cluster: Cluster, one: Service, prelude: str) -> None:
    """The node that carries traffic stays, and its clients notice nothing. The newcomer says where the process with its
    ID is and for how long that has been up, waits for it to go, and ends with status 1."""
    cluster.start(*THREE)
    cluster.agent(["n1"], {"web": one.address})
    cluster.wait_endpoint("n1", "web")
    first = cluster["n1"]
    watch = Watch([cluster["n2"], cluster["n3"]])
    asking = Asking([cluster["n2"].proxy, first.proxy], "web", pause_s=0.02)
    settings = {"cluster": {"join": [cluster.gossip_address("n2")], "join_timeout": "6s"}}
    twin = cluster.launch("n1", settings, prelude=prelude, alias="twin")
    assert twin.wait_exit() == 1
    asking.stop()
    address = cluster.gossip_address("n1")
    wanted = rf"node ID n1 is in use by the process at {address} \(up for \d+ s\): set another cluster.node_id"
    assert re.search(f"joining: {wanted}", twin.output)
    assert re.search(f"The daemon ends: {wanted}", twin.output)
    assert asking.outcomes and not asking.failures
    watch.stop()
    watch.check_unique()
    for id in THREE[1:]:
        assert watch.statuses(id, "n1") == ["active"]
        assert _address(cluster, id) == first.ports.gossip
        assert cluster[id].output.count("Node n1 at ") == 1
    assert first.running and "Link to n1" not in twin.output


def test_a_hand_over(cluster: Cluster) -> None:
    """A process that waits for the ID of another one has it as soon as that was stopped in order."""
    cluster.start(*THREE)
    settings = {"cluster": {"join": [cluster.gossip_address("n2")]}}
    twin = cluster.launch("n1", settings, alias="twin")
    twin.wait_output("node ID n1 is in use")
    cluster.stop("n1")
    twin.wait_ready()
    for id in THREE[1:]:
        cluster.wait_view(cluster[id], dict.fromkeys(THREE, "active"))
        wait_until(lambda id=id: _address(cluster, id) == twin.ports.gossip, "the address of who stays")  # type: ignore[misc]


def test_two_that_start_together(cluster: Cluster) -> None:
    """Of two processes with one ID that start at the same moment exactly one stays; the other one ends with status 1,
    and names it."""
    cluster.start("n2", "n3")
    settings = {"cluster": {"join": [cluster.gossip_address("n2")], "join_timeout": "6s"}}
    twins = [cluster.launch("n1", settings, alias=alias) for alias in ("n1", "twin")]
    wait_until(lambda: not all(one.running for one in twins), "one of the two to end")
    (ended,), (stays,) = ([one for one in twins if one.running is runs] for runs in (False, True))
    assert ended.wait_exit() == 1
    assert re.search(rf"127.0.0.1:{stays.ports.gossip} .*set another cluster.node_id", ended.output)
    stays.wait_ready()
    for id in ("n2", "n3"):
        cluster.wait_view(cluster[id], dict.fromkeys(THREE, "active"))
        wait_until(lambda id=id: _address(cluster, id) == stays.ports.gossip, "the address of who stays")  # type: ignore[misc]


def _address(cluster: Cluster, id: str) -> int:
    (row,) = [row for row in cluster[id].admin.rows() if row["id"] == "n1"]
    return int(row["gossip_addr"].rpartition(":")[2])
