"""An agent that takes what is sent to it and says nothing, as one that was stopped does, beside one that is well."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from pico_twisted.core.rpc.heartbeats import SILENCE_S
from tests.peers import v2
from tests.peers.pipe import Ended
from tests.system.asking import Asking
from tests.system.cluster import Cluster
from tests.system.service import answer
from tools.stage.nodes import Node
from tools.stage.waiting import wait_until


@pytest.fixture
def node(cluster: Cluster) -> Node:
    """A node alone."""
    cluster.start("n1")
    return cluster["n1"]


@pytest.fixture
def silent(node: Node) -> Iterator[v2.Agent]:
    """The first agent of the endpoint: it does not even answer heartbeats."""
    agent = v2.Agent(node.upstream, "web", agent_id="silent", echo=False)
    yield agent
    agent.close()


@pytest.fixture
def well(node: Node, silent: v2.Agent) -> Iterator[v2.Agent]:
    """The second one, which answers all calls."""
    agent = v2.Agent(node.upstream, "web", agent_id="well")

    def serve() -> None:
        while True:
            try:
                agent.answer_call(agent.next_call(60.0).call, answer(b"well"))
            except (Ended, TimeoutError):
                return

    threading.Thread(target=serve, daemon=True).start()
    yield agent
    agent.close()


def test_its_requests_are_made_elsewhere(node: Node, silent: v2.Agent, well: v2.Agent) -> None:
    """No GET waits until the session is given up, none fails, and who is silent is told."""
    asking = Asking([node.proxy], "web", clients=4)
    silent.next_call()
    wait_until(lambda: node.admin.metric("pico_retries_total", "silent") > 0, "a request to be moved")
    node.wait_output("silent is silent for web")
    assert node.admin.metric("pico_routes_unwell", "silent") == 1
    asking.wait_more(50)
    asking.check()
    assert asking.longest_s < SILENCE_S
