"""Agents whose sessions are spread over nodes: what happens to a node does not happen to requests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.system.asking import Asking
from tests.system.balancer import Balancer
from tests.system.cluster import Cluster
from tests.system.service import Service
from tools.stage.waiting import wait_until

AUTO = {"connect": {"connections": "auto"}}


@pytest.fixture
def balancer(cluster: Cluster) -> Iterator[Balancer]:
    """Two nodes that run, behind one address."""
    cluster.start("n1", "n2")
    result = Balancer([cluster[id].upstream for id in ("n1", "n2")], in_turn=True)
    yield result
    result.close()


def wait_sessions(cluster: Cluster, **wanted: int) -> None:
    """Wait until the nodes hold so many sessions of the endpoint."""
    wait_until(
        lambda: {id: cluster[id].admin.endpoints().get("web", 0) for id in wanted} == wanted, f"sessions: {wanted}"
    )


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_the_loss_of_a_node_interrupts_nothing(cluster: Cluster, balancer: Balancer, one: Service, how: str) -> None:
    """The agent is on both nodes. When one goes no request to the other fails, and it is on both again once it is
    back."""
    agent = cluster.stage.agent(balancer.url, {"web": one.address}, AUTO)
    wait_sessions(cluster, n1=1, n2=1)
    asking = Asking([cluster["n2"].proxy], "web")
    asking.wait_more(20)
    if how == "kill":
        cluster["n1"].kill()
    else:
        cluster.stop("n1")
    cluster.wait_status("n1", "unreachable", "left")
    asking.wait_more(20)
    wait_sessions(cluster, n2=2)
    cluster.again("n1")
    wait_sessions(cluster, n1=1, n2=1)
    asking.wait_more(20)
    asking.check()
    assert agent.running


def test_a_second_node_gets_a_session(cluster: Cluster, one: Service) -> None:
    """An agent of one node hears of another that joined, and is on both, without a restart."""
    cluster.start("n1")
    urls = [f"http://127.0.0.1:{cluster.ports(id).upstream}" for id in ("n1", "n2")]
    settings = {"connect": {"url": urls, "connections": "auto"}}
    cluster.stage.agent(cluster["n1"], {"web": one.address}, settings)
    wait_sessions(cluster, n1=1)
    cluster.launch("n2", {"cluster": {"join": [cluster.gossip_address("n1")]}}).wait_ready()
    wait_sessions(cluster, n1=1, n2=1)


def test_an_agent_that_reaches_one_node_only(cluster: Cluster, one: Service, two: Service) -> None:
    """It has one session, however many nodes there are; unless a number was asked for."""
    cluster.start("n1", "n2")
    auto = cluster.stage.agent(cluster["n1"], {"web": one.address}, AUTO)
    auto.wait_output("The cluster has other nodes, but none of them is reached")
    wait_sessions(cluster, n1=1, n2=0)
    cluster.stage.agent(cluster["n1"], {"web": two.address}, {"connect": {"connections": "3"}}, name="agent-2")
    wait_sessions(cluster, n1=4, n2=0)
