"""Affinity where one part is of an earlier version, which does not know of it: it serves on as ever."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.cluster import Cluster, running_cluster
from tests.system.test_affinity import Client, Polling


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Nodes, none of which is started yet. In the end there are no faults in any log."""
    with running_cluster(tmp_path) as result:
        yield result
        assert result.stage.new_faults() == []


@pytest.fixture
def services() -> Iterator[list[Polling]]:
    """Two, each of which alone knows its sessions."""
    made = [Polling("one"), Polling("two")]
    yield made
    for polling in made:
        polling.service.close()


@pytest.mark.parametrize("affinity", ["cookie", "address"])
def test_an_old_agent_beside_a_new_one(cluster: Cluster, earlier: str, services: list[Polling], affinity: str) -> None:
    """Clients of the new agent, which asks for that, stay with it, at whichever node they arrive; the old one, which
    cannot ask, keeps none and serves those that come to it, and all when the new one is gone."""
    new, aged = services
    cluster.start("n1", "n2")
    agent = cluster.agent(["n1"], {"web": {"addr": new.service.address, "affinity": affinity}}, name="agent-new")
    cluster.stage.agent([cluster["n2"]], {"web": aged.service.address}, name="agent-old", prelude=earlier)
    for id in ("n1", "n2"):
        cluster.wait_endpoint(id, "web")
    clients = [Client(cluster[id]) for id in ("n1", "n1", "n2", "n2")]
    for client in clients:
        polled = [client.poll(cluster[id]) for id in ("n1", "n2") * 10]
        if client.sid.startswith("one-"):
            assert polled == [(200, client.sid.encode())] * 20
        else:
            assert affinity == "cookie" and {status for status, _ in polled} <= {200, 400}, "answers of a service"
    assert any(client.sid.startswith("one-") for client in clients)
    agent.terminate()
    assert agent.wait_exit() == 0
    for id in ("n1", "n2"):
        assert Client(cluster[id]).sid.startswith("two-")


def test_an_old_node(cluster: Cluster, earlier: str, services: list[Polling]) -> None:
    """It shares the requests of its clients out as ever, and tells them of no agent; those of the new node stay with
    theirs, wherever that is connected."""
    cluster.start("n1")
    aged = cluster.launch("n2", {"cluster": {"join": [cluster.gossip_address("n1")]}}, prelude=earlier)
    aged.wait_ready()
    cluster.wait_all(("n1", "n2"))
    for id, polling in zip(("n1", "n2"), services, strict=True):
        cluster.agent([id], {"web": {"addr": polling.service.address, "affinity": "cookie"}}, name=f"agent-{id}")
        cluster.wait_endpoint(id, "web")
    for _ in range(4):
        client = Client(cluster["n1"])
        assert [client.poll(cluster["n1"]) for _ in range(20)] == [(200, client.sid.encode())] * 20
    assert [Client(aged).sid.partition("-")[0] for _ in range(4)] == ["two"] * 4, "its own agent, as ever"
