"""Nodes that operators take out and put back while they run, and agents whose sessions are ended."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.ctl.harness import Done, picoctl
from tests.system.asking import Asking, came_twice
from tests.system.balancer import Balancer
from tests.system.cluster import SECRET, Cluster, running_cluster
from tests.system.service import Connection, Service
from tests.system.wire import connect
from tests.system.workers import WORKERS, Host
from tools.stage.nodes import Node
from tools.stage.waiting import wait_until

REQUEST = b"GET / HTTP/1.1\r\nHost: web.example\r\n\r\n"


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Nodes that have a secret, none of which is started yet."""
    with running_cluster(tmp_path, settings={"cluster": {"secrets": [SECRET]}}) as result:
        yield result


def ask(node: Node, *arguments: str) -> Done:
    """Run picoctl at a node."""
    return picoctl(*arguments, "--admin", f"http://127.0.0.1:{node.ports.admin}")


def told(node: Node, *arguments: str) -> Any:
    """What picoctl says at a node, which has to be good."""
    done = ask(node, *arguments, "--json")
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return json.loads(done.stdout)


def intake(node: Node, id: str) -> str:
    """What a node says of what another one takes."""
    rows = node.admin.json("/status/cluster/nodes")
    return next(str(row["intake"]) for row in rows if row["id"] == id)


def test_drain_under_load(cluster: Cluster, one: Service) -> None:
    """A node that is drained through another one loses its agents and its clients, and no request fails; it runs on,
    serves what comes to it all the same, and takes agents again once it is put back."""
    ids = ("n1", "n2", "n3")
    cluster.start(*ids)
    cluster.agent(["n1", "n2"], {"web": one.address})
    (leaver,) = cluster.holders("web")
    (other,) = {"n1", "n2"} - {leaver}
    cluster.wait_endpoint(leaver, "web")
    balancer = Balancer([cluster[leaver].proxy, cluster["n3"].proxy])
    places = [[cluster[leaver].proxy], [("127.0.0.1", balancer.port)], [cluster["n3"].proxy]]
    askings = [Asking(place, "web", method=method) for place in places for method in ("GET", "POST")]
    try:
        for asking in askings:
            asking.wait_more(20)
        said = told(cluster["n3"], "drain", leaver)
        assert (said["node"], said["intake"], said["elsewhere"]) == (leaver, "drained", 2)
        cluster.wait_endpoint(other, "web")
        wait_until(lambda: told(cluster["n3"], "drain", leaver)["sessions"] == 0, "the agent to be gone")
        assert cluster[leaver].admin.status("/ready") == 503
        for asking in askings:
            asking.wait_more(20)
        assert [intake(cluster[id], leaver) for id in ids] == ["drained"] * 3
        assert told(cluster["n3"], "uncordon", leaver)["intake"] == "open"
        cluster.wait_all(ids)
        assert cluster[leaver].admin.status("/ready") == 200
        for asking in askings:
            asking.wait_more(20)
            asking.check()
    finally:
        balancer.close()
        for asking in askings:
            asking.stop()
    assert came_twice([one], "POST") == {}
    lines = [record for record in cluster[leaver].records if record.get("intake")]
    assert (lines[0]["intake"], lines[0]["before"]) == ("drained", "open")
    assert lines[0]["by"] == "picoctl through node n3"


def test_wait(cluster: Cluster, one: Service) -> None:
    """`--wait` tells what is in progress until nothing is: 0 then, and 1 when the time is over before."""

    def script(connection: Connection) -> None:
        connection.read_request()
        connection.linger()  # without an answer

    one.script = script
    cluster.start("n1", "n2")
    cluster.agent(["n1", "n2"], {"web": one.address})
    (holder,) = cluster.holders("web")
    client = connect(cluster[holder].proxy)
    client.send(REQUEST)
    wait_until(lambda: told(cluster["n1"], "drain", holder)["requests"] == 1, "the request to be in progress")
    done = ask(cluster["n2"], "drain", holder, "--wait", "--within", "1s")
    assert (done.returncode, "1 request in progress" in done.stdout) == (1, True), done
    client.close()
    done = ask(cluster["n2"], "drain", holder, "--wait")
    assert (done.returncode, done.stdout) == (0, f"node {holder} is drained: nothing in progress\n"), done


def test_cordon(cluster: Cluster, one: Service) -> None:
    """A cordoned node keeps its agents, lets no other in, and balancers leave it; a start of it forgets that."""
    cluster.start("n1", "n2")
    cluster.agent(["n1"], {"web": one.address})
    assert told(cluster["n2"], "cordon", "n1")["sessions"] == 1
    assert json.loads(cluster["n1"].admin.get("/ready")[2]) == {"error": "cordoned"}
    agent = cluster.agent(["n1", "n2"], {"late": one.address}, name="agent-2")
    wait_until(lambda: cluster.holders("late") == ["n2"], "the second agent to be at the other node")
    assert agent.running
    cluster.wait_endpoint("n1", "web")
    client = connect(cluster["n2"].proxy)  # nobody else serves it
    client.send(REQUEST)
    assert client.response_head().status == 200
    client.close()
    cluster.stop("n1")
    cluster.again("n1")
    assert cluster["n1"].admin.status("/ready") == 200
    wait_until(lambda: intake(cluster["n2"], "n1") == "", "the other node to know that it is open")


def test_an_agent_without_another_node_stays(cluster: Cluster, one: Service) -> None:
    """The only node is drained: its agent stays and is served, and picoctl says so."""
    cluster.start("n1")
    cluster.agent(["n1"], {"web": one.address})
    done = ask(cluster["n1"], "drain", "local", "--wait")
    assert done.stdout.endswith("1 session of agents, which stay: there is no other node\n")
    assert done.returncode == 0
    for _ in range(2):
        client = connect(cluster["n1"].proxy)
        client.send(REQUEST)
        assert client.response_head().status == 200
        client.close()

    def sessions() -> list[str]:
        return [one["address"] for one in told(cluster["n1"], "agents")["sessions"]]

    before = sessions()
    told(cluster["n1"], "uncordon", "n1")
    wait_until(lambda: len(sessions()) == 1 and sessions() != before, "the agent to have one session, a new one")


def test_kick(cluster: Cluster, one: Service) -> None:
    """All sessions of an agent end at all nodes; it comes back at once, unless it is kept away for a while."""
    cluster.start("n1", "n2", "n3")
    settings = {"connect": {"connections": 2}}
    cluster.agent(["n1", "n2"], {"web": one.address}, name="agent-1", settings=settings)
    cluster.agent(["n1", "n2"], {"other": one.address}, name="agent-2", settings=settings)

    def sessions(agent: str) -> int:
        found = told(cluster["n3"], "agents")["sessions"]
        return sum(session["agent"] == agent for session in found)

    wait_until(lambda: sessions("agent-1") == sessions("agent-2") == 2, "two sessions of each")
    before = time.time()
    said = told(cluster["n3"], "kick", "agent-1")
    assert (said["ended"], sorted(said["nodes"]), said["unaware"]) == (2, ["n1", "n2", "n3"], {})
    wait_until(lambda: sessions("agent-1") == 2, "the agent to be back")
    ages = {one["agent"]: one["since_s"] for one in told(cluster["n3"], "agents")["sessions"]}
    assert ages["agent-1"] <= time.time() - before + 1
    said = told(cluster["n3"], "kick", "agent-1", "--for", "5m")
    assert (said["ended"], sessions("agent-1"), sessions("agent-2")) == (2, 0, 2)
    assert 0 <= said["until_s"] - (time.time() + 300) <= 61
    done = ask(cluster["n1"], "kick", "agent-1")
    assert (done.returncode, done.stdout) == (1, "agent agent-1 has no session at any node\n")
    assert ask(cluster["n2"], "revoke", "--agent", "agent-1", "--undo").returncode == 0


def test_what_cannot_be_done(cluster: Cluster) -> None:
    """A node that is not there, one that cannot be reached, an ID that is none: said in words, and nothing changes."""
    cluster.start("n1", "n2")
    done = ask(cluster["n1"], "drain", "n9")
    assert (done.returncode, done.stderr) == (1, "picoctl: no such node: n9\n")
    assert ask(cluster["n1"], "kick", "a b").returncode == 1
    cluster["n2"].kill()
    done = ask(cluster["n1"], "drain", "n2", "--timeout", "20s")
    assert done.returncode == 3 and done.stderr.startswith("picoctl: node n2: "), done
    done = ask(cluster["n1"], "cordon", "n1", "--forward", "n2")
    assert done.returncode == 3 and "GET, HEAD" in done.stderr


def test_workers(tmp_path: Path) -> None:
    """A host with workers is taken out as one, whichever worker is named, or the host."""
    host = Host(tmp_path)
    try:
        host.up()
        wait_until(lambda: set(host.nodes()) == set(WORKERS), "two nodes")
        for name in ("host", *WORKERS, "local"):
            for command, status in (("cordon", 503), ("uncordon", 200)):
                done = picoctl(command, name, "--admin", f"http://127.0.0.1:{host.ports.admin}")
                assert (done.returncode, done.stderr) == (0, ""), done
                assert host.admin.status("/ready") == status
    finally:
        host.close()


def test_all_nodes_at_once(cluster: Cluster, one: Service) -> None:
    """Two nodes are drained before either has heard of the other: neither counts on the other one, and their agents
    stay and are served."""
    cluster.start("n1", "n2")
    cluster.agent(["n1", "n2"], {"web": one.address}, settings={"connect": {"connections": 2}})
    wait_until(lambda: cluster.holders("web") == ["n1", "n2"], "a session at each node")
    cluster.wait_endpoint("n1", "web")
    cluster.wait_endpoint("n2", "web")
    draining = [threading.Thread(target=told, args=(cluster[id], "drain", "local")) for id in ("n1", "n2")]
    for thread in draining:
        thread.start()
    for thread in draining:
        thread.join()
    until = time.monotonic() + 6
    while time.monotonic() < until:
        for id in ("n1", "n2"):
            client = connect(cluster[id].proxy)
            client.send(REQUEST)
            assert client.response_head().status == 200
            client.close()
        time.sleep(0.2)
