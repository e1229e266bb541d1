"""Any node serves any endpoint: five nodes, agents at some of them, requests to all."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.ctl.harness import picoctl
from tests.system.asking import Asking
from tests.system.cluster import FIVE, Cluster, running_cluster
from tests.system.curl import CurlAnswer, curl
from tests.system.service import Service
from tools.stage.nodes import Node
from tools.stage.waiting import wait_until


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Five nodes that all tests of this file share; each test ends its agents, so that the next begins with none."""
    with running_cluster(tmp_path_factory.mktemp("five")) as result:
        result.start(*FIVE)
        yield result


@pytest.fixture(autouse=True)
def no_agents(cluster: Cluster) -> Iterator[None]:
    """End the test's agents."""
    yield
    for process in list(cluster.stage.processes):
        if process not in cluster.nodes.values():
            process.close()
            cluster.stage.processes.remove(process)
    for node in cluster.running():
        wait_until(lambda node=node: not any(row["upstreams"] for row in node.admin.rows()), "no upstreams")  # type: ignore[misc]


def ask(cluster: Cluster, node: Node, endpoint: str = "web") -> CurlAnswer:
    """One request."""
    return curl(node.url("/"), "-H", f"x-pico-endpoint: {endpoint}", directory=cluster.stage.directory)


def routed(node: Node, askings: Asking) -> Counter[str]:
    """Where a node sent the requests of some clients, by its access log."""
    targets = {outcome.target for outcome in askings.outcomes}

    def logged() -> list[str]:
        records = [record for record in node.records if record.get("target") in targets]
        return [record["upstream"] for record in records]

    wait_until(lambda: len(logged()) == len(targets), "the access lines of all requests")
    return Counter(logged())


def test_all_serve_what_one_holds(cluster: Cluster, one: Service) -> None:
    """Registered at one node, served through all five, by the header and by Host; deregistered, gone from all."""
    agent = cluster.agent(["n1"], {"web": one.address})
    cluster.wait_endpoint("n1", "web")
    for node in cluster.running():
        assert ask(cluster, node).body == b"one"
        by_host = curl(node.url("/"), "-H", "Host: WEB.pico.example", directory=cluster.stage.directory)
        assert by_host.body == b"one"
    agent.terminate()
    assert agent.wait_exit() == 0
    cluster.wait_endpoint("n1", "web", 0)
    for node in cluster.running():
        answer = ask(cluster, node)
        assert (answer.status, answer.json["error"]) == (502, "no available upstreams")


def test_counts(cluster: Cluster, one: Service, two: Service) -> None:
    """Every node shows the registrations of every other one, and a dead agent is not counted."""
    cluster.agent(["n1"], {"web": one.address, "api": one.address}, name="agent-1")
    second = cluster.agent(["n1"], {"web": two.address}, name="agent-2")
    cluster.agent(["n2"], {"web": two.address}, name="agent-3")
    cluster.wait_endpoint("n1", "web", 2)
    cluster.wait_endpoint("n1", "api", 1)
    cluster.wait_endpoint("n2", "web", 1)
    for node in cluster.running():
        counts = {row["id"]: (row["endpoints"], row["upstreams"]) for row in node.admin.rows()}
        assert counts == {"n1": (2, 3), "n2": (1, 1), "n3": (0, 0), "n4": (0, 0), "n5": (0, 0)}
    second.kill()
    cluster.wait_endpoint("n1", "web", 1)


def test_the_choice_among_nodes(cluster: Cluster, one: Service) -> None:
    """Nodes are chosen by their registrations; a node that holds the endpoint itself asks no other."""
    for number in range(4):
        cluster.agent(["n1"], {"web": one.address}, name=f"agent-{number}")
    cluster.agent(["n2"], {"web": one.address}, name="agent-4")
    cluster.wait_endpoint("n1", "web", 4)
    cluster.wait_endpoint("n2", "web", 1)
    outside, inside = (Asking([cluster[id].proxy], "web", clients=1, pause_s=0.0) for id in ("n5", "n2"))
    for asking, enough in ((outside, 300), (inside, 30)):
        asking.wait_more(enough)
        asking.check()
    shares = routed(cluster["n5"], outside)
    assert set(shares) == {"n1", "n2"}
    # four to one; a share under two to one has a chance of less than one in a million
    assert shares["n1"] > 2 * shares["n2"], shares
    assert set(routed(cluster["n2"], inside)) == {"agent-4"}


def test_a_node_that_says_not_here_is_believed(cluster: Cluster, one: Service, two: Service) -> None:
    """Right after an agent's death another node answers 502 or goes to another holder: it never waits."""
    agent = cluster.agent(["n1"], {"web": one.address}, name="agent-1")
    cluster.wait_endpoint("n1", "web")
    assert ask(cluster, cluster["n2"]).status == 200
    agent.kill()
    answer = ask(cluster, cluster["n2"])
    assert (answer.status, answer.json["error"]) == (502, "no available upstreams")
    agent = cluster.agent(["n1"], {"web": one.address}, name="agent-2")
    cluster.agent(["n3"], {"web": two.address}, name="agent-3")
    cluster.wait_endpoint("n1", "web")
    cluster.wait_endpoint("n3", "web")
    asking = Asking([cluster["n2"].proxy], "web")
    asking.wait_more(20)
    agent.kill()
    asking.wait_more(20)
    asking.check()


def test_the_admin_port_of_another_node(cluster: Cluster, one: Service) -> None:
    """`?forward=` and `picoctl --forward` show what the other node says."""
    cluster.agent(["n3"], {"web": one.address})
    admin = cluster["n1"].admin
    assert admin.json("/status/upstream/endpoints") == {}
    assert admin.json("/status/upstream/endpoints?forward=n3") == {"web": 1}
    assert admin.json("/status/cluster/nodes/local?forward=n3")["id"] == "n3"
    assert admin.get("/health?forward=n2")[0] == 200
    assert admin.get("/status/cluster/nodes?forward=nobody")[0] == 404
    url = f"http://127.0.0.1:{admin.port}"
    done = picoctl("status", "endpoints", "--json", "--admin", url, "--forward", "n3")
    assert (done.returncode, json.loads(done.stdout)) == (0, {"web": {"n3": 1}})
    shown = json.loads(picoctl("status", "nodes", "--json", "--admin", url).stdout)
    assert {row["id"]: row["status"] for row in shown} == cluster["n1"].admin.statuses()


def test_metrics(cluster: Cluster, one: Service) -> None:
    """Gossip, links and routing are counted, and what is counted is plausible."""
    cluster.agent(["n1"], {"web": one.address})
    cluster.wait_endpoint("n1", "web")
    for _ in range(3):
        assert ask(cluster, cluster["n2"]).status == 200
    metric = cluster["n2"].admin.metric
    assert metric("pico_nodes", 'status="active"') == 4
    assert metric("pico_nodes", 'status="unreachable"') == 0
    for kind in ("syn", "reply", "delta"):
        assert metric("pico_gossip_packets_total", f'kind="{kind}"') > 0
    for direction in ("sent", "received"):
        packets = metric("pico_gossip_packets_total", f'direction="{direction}"')
        assert 0 < packets < metric("pico_gossip_bytes_total", f'direction="{direction}"') < 1400 * packets
    assert metric("pico_gossip_dropped_total", 'reason="garbage"') == 0
    assert metric("pico_gossip_entries_total") > 0
    wait_until(lambda: metric("pico_gossip_delay_seconds_count") > 0, "delays")
    assert metric("pico_gossip_delay_seconds_sum") / metric("pico_gossip_delay_seconds_count") < 5.0
    assert metric("pico_gossip_suspicion") < 8.0
    assert metric("pico_gossip_keys", 'kind="live"') >= 5 * 5
    assert metric("pico_links_outbound") >= 1
    assert cluster["n1"].admin.metric("pico_links_inbound") >= 1
    assert metric("pico_routed_total", 'to="node"') >= 3
    assert metric("pico_link_calls_total") >= 3
    assert cluster["n1"].admin.metric("pico_routed_total", 'to="agent"') >= 3
