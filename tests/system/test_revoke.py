"""Access is taken away: three real nodes, agents, clients, tokens made by picoctl, and picoctl at one of the nodes."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.ctl.harness import Done, picoctl
from tests.system.cluster import SECRET, Cluster, running_cluster
from tests.system.curl import CurlAnswer, curl
from tests.system.requesting import client_of
from tests.system.service import Service, answer
from tests.system.wire import Request, Stream
from tools.stage.nodes import Agent, Node, Settings
from tools.stage.waiting import wait_until

THREE = ("n1", "n2", "n3")
CUT = (101, "revoked")
UPGRADE = b"Connection: Upgrade\r\nUpgrade: x\r\n"


class World:
    """Nodes whose agents and clients show tokens."""

    def __init__(self, cluster: Cluster, directory: Path) -> None:
        self.cluster = cluster
        self.tokens = directory / "tokens"
        self.made = {name: self.make(name, rule) for name, rule in self.rules.items()}
        auth = {"auth": {"tokens_file": str(self.tokens)}}
        self.settings: Settings = {"upstream": auth, "proxy": auth, "grace_period": "4s"}

    rules = {"ci": "listen:web", "api-agent": "listen:api", "app": "connect:*", "other": "connect:*"}

    def make(self, name: str, rule: str) -> str:
        """Make a token."""
        done = picoctl("token", "create", name, "--rule", rule, "--file", str(self.tokens))
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def revoked_file(self, id: str) -> Path:
        """Where a node keeps what is revoked."""
        return self.tokens.with_name(f"revoked-{id}")

    def start(self) -> None:
        """Start all nodes, each with a file of its own for what is revoked."""
        for id in THREE:
            self.cluster.ports(id)
        join = [self.cluster.gossip_address(id) for id in THREE]
        for id in THREE:
            cluster = {"secrets": [SECRET], "join": join, "revocations_file": str(self.revoked_file(id))}
            self.cluster.launch(id, {**self.settings, "cluster": cluster})
        for id in THREE:
            self.cluster[id].wait_ready()
        self.cluster.wait_all(THREE)

    def agent(self, token: str, endpoint: str, service: Service, name: str = "agent-1", *, wait: bool = True) -> Agent:
        """An agent with sessions at two nodes."""
        nodes, settings = [self.cluster[id] for id in THREE], {"connect": {"token": self.made[token], "connections": 2}}
        agent = self.cluster.stage.agent(nodes, {endpoint: service.address}, settings, name=name, wait=wait)
        if wait:
            wait_until(lambda: all(known(node, endpoint) == 2 for node in nodes), "all nodes to know two with it")
        return agent

    def ask(self, id: str, endpoint: str = "web", token: str = "app") -> CurlAnswer:
        """One request at a node."""
        fields = ("-H", f"x-pico-endpoint: {endpoint}", "-H", f"x-pico-authorization: {self.made[token]}")
        return curl(self.cluster[id].url("/"), *fields, directory=self.cluster.stage.directory)

    def begin(self, id: str, path: str = "/slow", token: str = "app", more: bytes = b"") -> Stream:
        """A client that has sent a request."""
        client = client_of(self.cluster.stage, self.cluster[id])
        head = f"GET {path} HTTP/1.1\r\nHost: web.x\r\nx-pico-authorization: {self.made[token]}\r\n"
        client.send(head.encode() + more + b"\r\n")
        return client

    def revoke(self, id: str, *arguments: str) -> Done:
        """Run picoctl revoke at a node."""
        done = picoctl("revoke", *arguments, PICO_ADMIN=f"http://127.0.0.1:{self.cluster[id].ports.admin}")
        assert done.returncode == 0, done.stderr
        return done

    def holders(self, endpoint: str) -> list[str]:
        """The nodes at which it is registered, by their own word."""
        return self.cluster.holders(endpoint)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Three nodes."""
    with running_cluster(tmp_path) as cluster:
        world = World(cluster, tmp_path)
        world.start()
        yield world


def known(node: Node, endpoint: str) -> int:
    """How many nodes hold an endpoint, by the word of one."""
    return len(node.admin.json("/status/cluster/endpoints").get(endpoint, ()))


def cut(node: Node) -> list[str]:
    """Whose upgraded connections a node has cut, by its access log."""
    return [record["subject"] for record in node.records if (record.get("status"), record.get("error")) == CUT]


def said(node: Node, message: str) -> list[dict[str, str]]:
    """The lines of a node's log with this in them."""
    return [record for record in node.records if message in record.get("message", "")]


def test_an_agent_loses_access_at_all_nodes(world: World, service: Service, one: Service) -> None:
    """Its sessions are gone from every node, requests in progress finish, none begins, it is told why, and who has
    another token notices nothing; nodes that start again still refuse it, until that is taken back."""
    cluster, held = world.cluster, threading.Event()

    def handler(request: Request) -> bytes:
        if b"slow" in request.target:
            held.wait(60)
        return answer(b"done")

    service.handler = handler
    agent = world.agent("ci", "web", service)
    world.agent("api-agent", "api", one, name="agent-2")
    assert [world.ask(id).body for id in THREE] == [b"done"] * 3
    slow = [world.begin(id) for id in THREE]
    service.wait_request(5)
    began = time.monotonic()
    done = world.revoke("n3", "ci")
    assert done.stdout == "ci is revoked at 3 nodes: n1, n2, n3\nsessions and requests that this ends: 2\n"
    assert done.stderr == ""
    wait_until(lambda: not world.holders("web"), "the sessions of the agent to be gone")
    assert time.monotonic() - began < 20  # mostly 0.1 s
    for id in THREE:
        wait_until(lambda id=id: world.ask(id).status == 502, f"{id} to know of no agent")  # type: ignore[misc]
        assert world.ask(id, "api").body == b"one"
    held.set()
    assert [client.read_response().body for client in slow] == [b"done"] * 3
    agent.wait_output("the credential was revoked")
    agent.kill()
    (line,) = said(cluster["n3"], "is revoked by")
    assert line["name"] == "ci" and line["by"]
    for id in ("n1", "n2"):
        assert said(cluster[id], "is revoked by")[0]["node"] == "n3"
        assert cluster[id].admin.metric("pico_revocations") == 1
    cluster.stop(*THREE)
    for id in THREE:
        cluster.again(id, wait=False)
    for id in THREE:
        cluster[id].wait_ready()
    second = world.agent("ci", "web", service, "agent-3", wait=False)
    second.wait_output("the credential was revoked")
    assert world.holders("web") == []
    world.revoke("n1", "ci", "--undo")
    second.kill()
    world.agent("ci", "web", service, name="agent-4")


def test_nodes_that_missed_it(world: World, service: Service) -> None:
    """One that was frozen, and one that was away and has lost its file, refuse the agent, by its ID, as soon as they
    are back; they are named to the operator before that. Another agent with the same token is let in."""
    cluster = world.cluster
    agent = world.agent("ci", "web", service, name="agent-1")
    cluster["n2"].kill()
    cluster["n3"].signal(signal.SIGSTOP)
    try:
        done = world.revoke("n1", "--agent", "agent-1")
    finally:
        cluster["n3"].signal(signal.SIGCONT)
    assert done.stdout.startswith("agent-1 is revoked at node n1\n") and done.stderr.count("cannot be reached now") == 2
    assert not world.revoked_file("n2").exists()
    cluster.again("n2")
    for id in THREE:
        wait_until(lambda id=id: cluster[id].admin.metric("pico_revocations") == 1, f"{id} to know")  # type: ignore[misc]
        wait_until(world.revoked_file(id).exists, f"{id} to have it in its file")
    wait_until(lambda: not world.holders("web"), "its sessions to be gone")
    agent.wait_output("this agent was revoked, by its ID")
    world.agent("ci", "web", service, name="agent-2")


def test_a_client_loses_access_at_all_nodes(world: World, service: Service) -> None:
    """On a kept connection and on new ones its next request is refused, at every node; an upgraded connection goes on
    for the grace period, and is cut then. Others notice nothing."""

    def script(connection: Any) -> None:
        while connection.read_request().get("upgrade") is None:
            connection.send(answer(b"done"))
        connection.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nhello")
        connection.linger()

    service.script = script
    world.agent("ci", "web", service)
    kept = [world.begin(id, "/") for id in THREE]
    assert [client.read_response().status for client in kept] == [200] * 3
    raw, others = world.begin("n1", more=UPGRADE), world.begin("n1", token="other", more=UPGRADE)
    for client in (raw, others):
        assert client.response_head().status == 101 and client.read(5) == b"hello"
    world.revoke("n2", "app")
    for id, client in zip(THREE, kept, strict=True):
        client.send(f"GET / HTTP/1.1\r\nHost: web.x\r\nx-pico-authorization: {world.made['app']}\r\n\r\n".encode())
        assert client.read_response().get("x-pico-error") == f"{id}; revoked".encode()
        assert world.ask(id).status == 401 and world.ask(id, token="other").status == 200
    raw.wait_gone()
    others.send(b"more")
    world.cluster["n1"].wait_until(lambda: cut(world.cluster["n1"]), "the line of the request that was cut")
    assert cut(world.cluster["n1"]) == ["app"]


def test_a_token_that_is_taken_out_of_the_file(world: World, service: Service) -> None:
    """It counts until each node is told to read its files again; then its sessions end, and others go on."""
    world.agent("ci", "web", service)
    for name in ("ci", "app"):
        assert picoctl("token", "revoke", name, "--file", str(world.tokens)).returncode == 0
    assert [world.ask(id).status for id in THREE] == [200] * 3
    for id in THREE:
        world.cluster[id].signal(signal.SIGHUP)
    for id in THREE:
        wait_until(lambda id=id: world.ask(id).status == 401, f"{id} to have read the file")  # type: ignore[misc]
        assert world.ask(id, token="other").status in (200, 502)
    wait_until(lambda: not world.holders("web"), "the sessions of the agent to be gone")
