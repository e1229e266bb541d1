"""Affinity: clients that poll stay with their agent, at whichever node they arrive, and over restarts of nodes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system import wire
from tests.system.cluster import Cluster, running_cluster
from tests.system.service import Service, answer
from tests.system.wire import Request
from tools.stage.nodes import Node


class Polling:
    """A service as socket.io's is: who asks for a session gets one, which this process alone knows."""

    def __init__(self, name: str) -> None:
        self._numbers = itertools.count()
        self._name = name
        self._sessions: set[bytes] = set()
        self.service = Service()
        self.service.handler = self._answer

    def _answer(self, request: Request) -> bytes:
        sid = request.target.partition(b"sid=")[2]
        if not sid:
            sid = f"{self._name}-{next(self._numbers)}".encode()
            self._sessions.add(sid)
        elif sid not in self._sessions:
            return answer(b"unknown session", status=400, reason="Bad Request")
        cookies = request.all("cookie")
        return answer(sid, headers=[("X-Cookies", b"; ".join(cookies).decode())])


class Client:
    """A client that polls, with a new connection each time."""

    def __init__(self, node: Node) -> None:
        self._cookie = ""
        answered = self.poll(node, "")
        assert answered[0] == 200
        self.sid = answered[1].decode()

    def poll(self, node: Node, sid: str | None = None) -> tuple[int, bytes]:
        """One request, at a node: the status and the body."""
        stream = wire.connect(node.proxy)
        lines = [f"GET /socket.io/?sid={self.sid if sid is None else sid} HTTP/1.1", "Host: web.example"]
        if self._cookie:
            lines.append(f"Cookie: theme=dark; {self._cookie}")
        stream.send(("\r\n".join([*lines, "Connection: close", "", ""])).encode())
        response = stream.read_response()
        stream.close()
        for value in response.all("set-cookie"):
            self._cookie = value.partition(b";")[0].decode()
        assert b"pico-agent" not in b"".join(response.all("x-cookies")), "a cookie of ours is no service's"
        return response.status, response.body


@pytest.fixture
def services() -> Iterator[list[Polling]]:
    """Two of them."""
    made = [Polling("one"), Polling("two")]
    yield made
    for polling in made:
        polling.service.close()


@pytest.mark.parametrize("affinity", ["cookie", "address"])
def test_polling(tmp_path: Path, services: list[Polling], affinity: str) -> None:
    """Twenty of twenty requests of each client get to the agent that has its session, by both nodes in turn; and again
    after a node was started anew."""
    with running_cluster(tmp_path) as cluster:
        cluster.start("n1", "n2")
        for number, polling in enumerate(services, 1):
            listener = {"addr": polling.service.address, "affinity": affinity}
            cluster.agent([f"n{number}"], {"web": listener}, name=f"agent-{number}")
            cluster.wait_endpoint(f"n{number}", "web")
        clients = [Client(cluster[id]) for id in ("n1", "n2", "n2", "n1")]
        _all_right(cluster, clients)
        cluster.stop("n2")
        cluster.again("n2")
        cluster.wait_all(["n1", "n2"])
        cluster.wait_endpoint("n2", "web")
        _all_right(cluster, clients)


def _all_right(cluster: Cluster, clients: list[Client]) -> None:
    for client in clients:
        nodes = itertools.cycle(cluster.running())
        polled = [client.poll(next(nodes)) for _ in range(20)]
        assert polled == [(200, client.sid.encode())] * 20
