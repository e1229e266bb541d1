"""Nodes of a cluster that die or hang without a word, under load."""

from __future__ import annotations

import signal

from tests.system.asking import Asking, came_twice
from tests.system.cluster import FIVE, Cluster, Watch, registrations
from tests.system.service import Service
from tools.stage.waiting import PATIENCE_S, wait_until


def test_kill_9_under_load(cluster: Cluster, one: Service, two: Service) -> None:
    """The endpoint is held by another node too: no GET fails, no POST runs twice, and the dead node stays dead."""
    cluster.start(*FIVE)
    cluster.agent(["n1"], {"web": one.address}, name="agent-1")
    cluster.agent(["n3"], {"web": two.address}, name="agent-2")
    cluster.wait_endpoint("n1", "web")
    cluster.wait_endpoint("n3", "web")
    gets = [Asking([cluster[id].proxy], "web") for id in ("n2", "n3", "n4")]
    posts = [Asking([cluster[id].proxy], "web", method="POST") for id in ("n2", "n5")]
    for asking in gets + posts:
        asking.wait_more(20)
    assert {outcome.body for outcome in gets[0].outcomes} == {b"one", b"two"}
    watch = Watch(cluster.running(but=["n1"]))
    cluster["n1"].kill()
    cluster.wait_status("n1", "unreachable")
    for asking in gets + posts:
        asking.wait_more(30)
    for asking in gets:
        asking.check()
    for asking in posts:
        asking.stop()
        # in flight at the moment of the death: they may have reached the service, so they are not made again
        assert all(failed.problem.startswith("502") for failed in asking.failures), asking.failures[:5]
        assert len(asking.failures) <= 2, asking.failures[:5]
    assert came_twice([one, two], "POST") == {}
    watch.stop()
    for node in cluster.running():
        assert watch.statuses(node.name, "n1") == ["active", "unreachable"]
        assert registrations(node, "n1", "web") == 0, "what it held is not there any more"
        assert node.admin.statuses() == {id: "unreachable" if id == "n1" else "active" for id in FIVE}


def test_the_only_agent_goes_elsewhere(cluster: Cluster, one: Service) -> None:
    """After a kill -9 the agent serves at the other node of its `connect.url`, and every node finds it there."""
    cluster.start(*FIVE)
    cluster.agent(["n1", "n2"], {"web": one.address})
    (holder,) = cluster.holders("web")
    (other,) = {"n1", "n2"} - {holder}
    cluster.wait_endpoint(holder, "web")
    askings = [Asking([cluster[id].proxy], "web") for id in (other, "n4")]
    for asking in askings:
        asking.wait_more(20)
    cluster[holder].kill()
    cluster.wait_endpoint(other, "web")
    for asking in askings:
        asking.wait_more(20)
        asking.stop()
        assert asking.outage_s < PATIENCE_S / 2, asking.failures[:5]
        assert all(failed.problem.startswith("502") for failed in asking.failures), asking.failures[:5]
    cluster.wait_status(holder, "unreachable")


def test_a_node_that_was_stopped_for_a_while(cluster: Cluster, one: Service, two: Service) -> None:
    """SIGSTOP: unreachable meanwhile, and nobody's GETs fail; back after SIGCONT, and it blames nobody."""
    cluster.start(*FIVE)
    cluster.agent(["n1"], {"web": one.address}, name="agent-1")
    cluster.agent(["n3"], {"web": two.address}, name="agent-2")
    cluster.wait_endpoint("n1", "web")
    cluster.wait_endpoint("n3", "web")
    asking = Asking([cluster["n4"].proxy], "web")
    asking.wait_more(20)
    cluster["n1"].signal(signal.SIGSTOP)
    try:
        cluster.wait_status("n1", "unreachable")
        cluster["n4"].wait_output(f"Link to n1 at {cluster.gossip_address('n1')} dropped: it does not answer")
        asking.wait_more(20)
    finally:
        cluster["n1"].signal(signal.SIGCONT)
    cluster.wait_status("n1", "active")
    cluster.wait_view(cluster["n1"], dict.fromkeys(FIVE, "active"))
    asking.check()
    assert not [record for record in cluster["n1"].records if record.get("status") == "unreachable"]
    for node in cluster.running(but=["n1"]):
        blamed = [record["node"] for record in node.records if record.get("status") == "unreachable"]
        assert blamed == ["n1"]
    wait_until(lambda: cluster["n1"].admin.metric("pico_gossip_pauses_total") > 0, "the pause to be counted")
    one.requests.clear()
    asking = Asking([cluster["n4"].proxy], "web")
    wait_until(lambda: one.requests, "requests at the node that is back")
    asking.check()
