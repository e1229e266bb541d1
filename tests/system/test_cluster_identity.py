"""A node ID: what a restarted node is to the others, and what happens to two processes with one ID."""

from __future__ import annotations

import re

import pytest

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
    assert (answer.status, answer.json) == (502, {"error": "no available upstreams"})


@pytest.mark.parametrize("prelude", ["", CLOCK_BACK], ids=["clock right", "clock an hour back"])
def test_two_processes_with_one_id(cluster: Cluster, prelude: str) -> None:
    """One of them ends with status 1 and a message that says what to do; the other one stays, and stands once."""
    cluster.start(*THREE)
    watch = Watch([cluster["n2"], cluster["n3"]])
    first = cluster["n1"]
    twin = cluster.launch("n1", {"cluster": {"join": [cluster.gossip_address("n2")]}}, prelude=prelude, alias="twin")
    wait_until(lambda: not (first.running and twin.running), "one of the two to end")
    ended, stayed = (first, twin) if twin.running else (twin, first)
    assert ended.wait_exit() == 1
    assert re.search(r"node ID n1: give each node an ID of its own", ended.output)
    wait_until(lambda: stayed.admin.status("/ready") == 200, "the other one to be ready")
    for id in ("n2", "n3"):
        cluster.wait_view(cluster[id], dict.fromkeys(THREE, "active"))
        (row,) = [row for row in cluster[id].admin.rows() if row["id"] == "n1"]
        wait_until(lambda id=id: _address(cluster, id) == stayed.ports.gossip, "the address of who stays")  # type: ignore[misc]
        assert row
    watch.stop()
    watch.check_unique()
    assert stayed.running


def _address(cluster: Cluster, id: str) -> int:
    (row,) = [row for row in cluster[id].admin.rows() if row["id"] == "n1"]
    return int(row["gossip_addr"].rpartition(":")[2])
