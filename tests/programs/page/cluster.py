"""A cluster for the page: three nodes that authenticate, two agents, and what goes wrong there."""

from __future__ import annotations

import contextlib
import http.client
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from pico_twisted.core.access.credentials_file import hash_of
from tests.system.service import Service
from tools.stage.asking import get
from tools.stage.nodes import Agent, Node
from tools.stage.ports import HOST, Ports
from tools.stage.stage import Stage
from tools.stage.waiting import wait_until

OPERATOR: Final = "pico_operator-of-the-page"
READER: Final = "pico_reader-of-the-page"
MANY: Final = tuple(f"acme-{number}" for number in range(1, 9))
"""Endpoints enough to be filtered."""


@dataclass
class Cluster:
    """The nodes n1, n2 and n3, and their agents."""

    stage: Stage
    nodes: list[Node]
    agents: dict[str, Agent]
    service: Service

    @property
    def url(self) -> str:
        """Of the page at the first node."""
        return f"http://{HOST}:{self.nodes[0].ports.admin}/"

    def ask(self, endpoint: str, path: str = "/", node: int = 0, request_id: str = "") -> int:
        """The status of one request for an endpoint."""
        fields = {"x-pico-endpoint": endpoint, **({"x-request-id": request_id} if request_id else {})}
        return get(self.nodes[node].ports.proxy, path, fields).status

    def agent(self, name: str, node: int, *endpoints: str, dead: bool = False) -> None:
        """Another agent, and wait until it serves; a dead one's service is not there."""
        address = f"{HOST}:{Ports.pick().proxy}" if dead else self.service.address
        self.agents[name] = self.stage.agent(
            self.nodes[node].upstream_url, dict.fromkeys(endpoints, address), name=name, wait=False
        )
        wait_until(lambda: all(map(self._serves, endpoints)), f"{', '.join(endpoints)} to be served")

    def _serves(self, endpoint: str) -> bool:
        with contextlib.suppress(OSError, http.client.HTTPException):
            fields = {"x-pico-endpoint": endpoint}
            return b"no-upstreams" not in get(self.nodes[0].ports.proxy, "/", fields).body
        return False


@contextlib.contextmanager
def cluster(stage: Stage) -> Iterator[Cluster]:
    """Start it; the stage ends its processes."""
    tokens = stage.directory / "page-tokens"
    rows = ((OPERATOR, "ann", "admin:operate"), (READER, "bob", "admin:read"))
    tokens.write_text("".join(f"{name} sha256:{hash_of(token.encode()).hex()} {rule}\n" for token, name, rule in rows))
    common = {"admin": {"auth": {"tokens_file": str(tokens)}}}
    secrets = ["a-secret-of-the-nodes-of-the-page"]
    nodes: list[Node] = []
    for name in ("n1", "n2", "n3"):
        join = [f"{HOST}:{node.ports.gossip}" for node in nodes]
        limits = {"limits": {"sessions": 2}} if name == "n2" else {}  # as many as its agent has
        nodes.append(
            stage.node(name, {**common, **limits, "cluster": {"secrets": secrets, "name": "acme", "join": join}})
        )
    service = Service()
    with contextlib.closing(service):
        found = Cluster(stage, nodes, {}, service)
        found.agent("agent-7f3", 0, "shop", *MANY)
        found.agent("agent-a01", 1, "shop", "blog")
        found.agent("agent-bad", 2, "broken", dead=True)
        yield found
