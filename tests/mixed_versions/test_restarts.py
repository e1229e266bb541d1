"""A stop while a stream is open, with an earlier version on one side."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.asking import Asking
from tests.system.service import Service
from tests.system.test_restart import FOR_EVER, opened, streams
from tools.stage.stage import Stage, open_stage


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """For processes of either version."""
    with open_stage(tmp_path) as result:
        yield result


@pytest.mark.parametrize("aged", ["node", "agent"])
def test_the_only_agent_stops(stage: Stage, earlier: str, aged: str) -> None:
    """It serves on while a stream is open: an old node is told of the stop at its end only, and a new node calls an old
    agent as long as there is no other."""
    service = Service(streams)
    node = stage.node(prelude=earlier if aged == "node" else "")
    settings = FOR_EVER if aged == "node" else {"grace_period": "1h"}
    agent = stage.agent(node, {"web": service.address}, settings, prelude=earlier if aged == "agent" else "")
    clients = opened(node)
    load = Asking([node.proxy], "web", method="POST", kept=3)
    try:
        load.wait_more(10)
        agent.terminate()
        agent.wait_output("Waiting for calls in flight")
        load.wait_more(100)
        assert load.failures == []
        for client in clients:
            client.close()
        load.stop()
        assert agent.wait_exit() == 0
    finally:
        load.stop()
        service.close()
