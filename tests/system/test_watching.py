"""What an operator sees of a real cluster in which things go wrong: events, failed requests, and how busy it is."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.ctl.harness import Done, picoctl
from tests.system.cluster import SECRET, Cluster, running_cluster
from tests.system.service import Connection, Service, answer
from tools.stage.asking import Json, get
from tools.stage.nodes import Settings
from tools.stage.ports import free_port, unused_address
from tools.stage.waiting import wait_until

IDS = ("n1", "n2", "n3")
QUIET: Settings = {"proxy": {"access_log": False}, "cluster": {"secrets": [SECRET]}, "grace_period": "2s"}


class Bed:
    """Three nodes without access logs, an agent at n2, and a service.

    Attributes:
        cluster: the nodes.
        service: answers, `/bad` with 503.
        hanging: never answers.
        agent_port: the admin port of the agent.
    """

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.service = Service()
        self.service.handler = lambda request: answer(b"x", status=503 if request.target.startswith(b"/bad") else 200)
        self.hanging = Service(script=_hang)
        cluster.start(*IDS)
        self.agent_port = free_port()
        self.agent = cluster.agent(
            ["n2"],
            {"web": self.service.address, "hang": self.hanging.address, "dead": unused_address()},
            settings={"admin": {"bind_addr": f"127.0.0.1:{self.agent_port}"}},
        )
        for endpoint in ("web", "hang", "dead"):
            cluster.wait_endpoint("n2", endpoint)

    def asked(self, path: str) -> bool:
        """Whether the service that hangs has got a request."""
        return any(request.target == path.encode() for request in self.hanging.requests)

    def request(self, node: str, endpoint: str, path: str, id: str) -> int:
        """The status that a client gets."""
        fields = {"x-pico-endpoint": endpoint, "x-request-id": id}
        return get(self.cluster[node].ports.proxy, path, fields).status

    def leave(self, node: str, endpoint: str, id: str) -> None:
        """A client that asks, waits until the service has the request, and leaves."""
        with socket.create_connection(self.cluster[node].proxy) as client:
            head = f"GET /left HTTP/1.1\r\nHost: x\r\nx-pico-endpoint: {endpoint}\r\nx-request-id: {id}\r\n\r\n"
            client.sendall(head.encode())
            wait_until(lambda: self.asked("/left"), "the request at the service")

    def rows(self, id: str, *, node: str = "n1") -> list[Json]:
        """What all nodes remember of a request, asked at one of them."""
        rows: list[Json] = self.cluster[node].admin.json(f"/status/cluster/requests?id={id}")["rows"]
        return rows

    def remembered(self, id: str, count: int, *, node: str = "n1") -> dict[str, Json]:
        """The same, once there are so many rows; by node and port."""
        found = wait_until(lambda: rows if len(rows := self.rows(id, node=node)) == count else None, f"rows of {id}")
        return {f"{row['node']} {row['port']}": row for row in found}

    def ctl(self, *arguments: str, node: str = "n1") -> Done:
        """Run picoctl at one of the nodes."""
        url = f"http://127.0.0.1:{self.cluster[node].ports.admin}"
        return picoctl(*arguments, PICO_ADMIN=url, COLUMNS="200")


def _hang(connection: Connection) -> None:
    connection.read_request()
    connection.linger()


@pytest.fixture
def bed(tmp_path: Path) -> Iterator[Bed]:
    """The cluster, without an access log."""
    with running_cluster(tmp_path, settings=QUIET) as cluster:
        made = Bed(cluster)
        yield made
        for service in (made.service, made.hanging):
            service.close()


def test_where_requests_failed(bed: Bed) -> None:
    """Each planted fault is found under its request ID at every hop that saw it, with nobody having looked before."""
    assert bed.request("n1", "web", "/", "id-fine") == 200
    assert bed.request("n1", "web", "/bad?token=abc123", "id-bad") == 503
    assert bed.request("n3", "dead", "/", "id-dead") == 502
    assert bed.request("n1", "nobody", "/", "id-nobody") == 502
    bed.leave("n1", "hang", "id-left")

    assert bed.rows("id-fine") == []
    bad = bed.remembered("id-bad", 2)
    assert bad["n1 proxy"]["target"] == "/bad?token=(hidden)"
    assert (bad["n1 proxy"]["hop"], bad["n1 proxy"]["upstream"]) == ("service", "n2")
    assert (bad["n2 link"]["client"], bad["n2 link"]["status"]) == ("n1", 503)
    dead = bed.remembered("id-dead", 2)
    assert {row["error"] for row in dead.values()} == {"service-unreachable"}
    assert {row["hop"] for row in dead.values()} == {"service"}
    nobody = bed.remembered("id-nobody", 1)
    assert (nobody["n1 proxy"]["hop"], nobody["n1 proxy"]["error"]) == ("proxy", "no-upstreams")
    left = bed.remembered("id-left", 2)
    assert {(row["status"], row["hop"]) for row in left.values()} == {(499, "client")}

    done = bed.ctl("who", "id-dead", node="n2")  # whichever node is asked
    assert done.returncode == 0
    assert "-> node n3 (proxy port) -> node n2" in done.stdout
    assert "node n3 -> node n2 (link) -> agent agent-1" in done.stdout
    assert "failed at the service: the agent could not connect to the service" in done.stdout
    done = picoctl("who", "id-dead", "--admin", f"http://127.0.0.1:{bed.agent_port}")
    assert done.returncode == 0
    assert "agent agent-1 -> service 127.0.0.1:" in done.stdout
    done = bed.ctl("who", "id-fine")
    assert done.returncode == 1
    assert "n3 knows what failed since" in done.stdout
    done = bed.ctl("endpoint", "dead", "--json")
    assert [row["request_id"] for row in json.loads(done.stdout)["failures"]] == ["id-dead"]


def test_a_node_that_is_killed_in_a_request(bed: Bed) -> None:
    """The other one says that the way there broke, and names who is silent; and what happened is among the events."""
    failed: list[int] = []
    began_s = time.time()
    client = socket.create_connection(bed.cluster["n1"].proxy)
    with client:
        client.sendall(b"POST /kill HTTP/1.1\r\nHost: x\r\nx-pico-endpoint: hang\r\nx-request-id: id-kill\r\n\r\n")
        wait_until(lambda: bed.asked("/kill"), "the request at the service")
        bed.cluster["n2"].kill()
        failed.append(int(client.recv(64).split()[1]))
    assert failed == [502]
    (row,) = bed.remembered("id-kill", 1, node="n3").values()
    assert (row["node"], row["error"], row["hop"]) == ("n1", "upstream-unreachable", "link")
    bed.cluster.wait_status("n2", "unreachable")

    done = bed.ctl("events", "--since", "1h")
    assert "Node n2 at" in done.stdout
    assert "is unreachable" in done.stdout
    assert "Link to n2 at" in done.stdout
    data = json.loads(bed.ctl("events", "--since", "1h", "--json").stdout)
    times = [one["at_s"] for one in data["rows"]]
    assert times == sorted(times)
    assert {one["node"] for one in data["rows"]} == {"n1", "n3"}
    assert any(one["at_s"] >= began_s and one["level"] == "warn" for one in data["rows"])


def test_an_agent_that_goes(bed: Bed) -> None:
    """When it came and when it went is among the events, with its endpoint and where it came from."""
    bed.agent.terminate()
    assert bed.agent.wait_exit() == 0
    bed.cluster.wait_endpoint("n2", "web", 0)
    rows = bed.cluster["n3"].admin.json("/status/cluster/events?limit=1000")["rows"]
    about: list[dict[str, Any]] = [one for one in rows if one["fields"].get("endpoint") == "web"]
    came = next(one for one in about if "registered by agent-1" in one["message"])
    went = next(one for one in about if "ended" in one["message"])
    assert came["node"] == went["node"] == "n2"
    assert came["fields"]["peer"] == went["fields"]["peer"]
    assert came["at_s"] <= went["at_s"]
    assert bed.request("n1", "web", "/", "id-gone") == 502
    assert "no agent served the endpoint" in bed.ctl("who", "id-gone").stdout


def test_all_is_kept_while_somebody_looks(bed: Bed) -> None:
    """Then requests that are fine are seen, too, and rates of endpoints are counted where their requests came to."""
    bed.cluster["n1"].admin.json("/status/cluster/summary")
    for number in range(20):
        assert bed.request("n3", "web", "/", f"id-{number}") == 200
    rows = bed.cluster["n2"].admin.json("/status/cluster/requests?endpoint=web&limit=1000")["rows"]
    assert len([row for row in rows if row["port"] == "proxy"]) == 20
    nodes = {node["id"]: node for node in bed.cluster["n1"].admin.json("/status/cluster/summary")["nodes"]}
    assert nodes.keys() == set(IDS)
    assert nodes["n3"]["endpoints"]["web"]["requests_per_s"] > 0
    assert nodes["n1"]["endpoints"].get("web", {"requests_per_s": 0})["requests_per_s"] == 0
    assert nodes["n3"]["requests_per_s"] > 0
    assert nodes["n2"]["sessions"] == 3
    assert all(node["memory_bytes"] > 1 << 20 for node in nodes.values())
    top = bed.ctl("top")
    assert top.returncode == 0
    assert "web" in top.stdout and "agent-1" in top.stdout


def test_workers_answer_for_their_host(tmp_path: Path) -> None:
    """Whichever worker a question comes to: the host's port tells of both, and so does the cluster."""
    with running_cluster(tmp_path, settings=QUIET) as cluster:
        node = cluster.launch("n1", {"cluster": {"workers": 2}})
        node.wait_ready()
        for number in range(40):
            assert get(node.ports.proxy, "/", {"x-pico-endpoint": "nobody", "x-request-id": f"id-{number}"}).status
        for path in ("/status/requests", "/status/cluster/requests"):
            told = node.admin.json(f"{path}?limit=1000")
            assert len(told["rows"]) == 40, path
            assert told["reach"].keys() == {"n1-w0", "n1-w1"}
        assert len(node.admin.json("/status/summary")["nodes"]) == 2
