"""What agents say of their health where one part is of an earlier version: that hears nothing of it, and serves on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.asking import Asking
from tests.system.service import Service, answer
from tests.system.test_service_health import Mortal
from tools.stage.stage import Stage, open_stage

CHECKED = {"path": "/", "interval": "500ms", "unhealthy_after": 1, "healthy_after": 1}


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """For processes of either version. In the end there are no faults in any log."""
    with open_stage(tmp_path) as result:
        yield result
        assert result.new_faults() == []


def test_a_new_agent_with_checks_at_an_old_node(stage: Stage, tmp_path: Path, earlier: str, service: Service) -> None:
    """Its service dies and comes back: the agent knows, the node is not told, and goes on calling the session, which
    stays; other endpoints notice nothing."""
    node = stage.node(prelude=earlier)
    mortal = Mortal(tmp_path)
    agent = stage.agent(node, {"web": {"addr": mortal.address, "health": CHECKED}, "other": service.address})
    web, other = (Asking([node.proxy], endpoint) for endpoint in ("web", "other"))
    try:
        web.wait_more(5, body=b"morta")
        mortal.process.kill()
        mortal.process.wait_exit()
        agent.wait_output("The service is out")
        other.wait_more(10)
        mortal.again()
        agent.wait_output("The service is back")
        web.wait_more(5, body=b"morta")
        other.wait_more(10)
    finally:
        web.stop()
        other.stop()
        mortal.process.kill()
    assert other.failures == []
    assert sum("registered by" in str(record.get("message")) for record in node.records) == 2, "each once"


def test_an_old_agent_beside_a_new_one_whose_service_is_out(
    stage: Stage, tmp_path: Path, earlier: str, service: Service
) -> None:
    """A new node has the requests served by the old agent, of which it hears nothing, until the service is back."""
    service.handler = lambda request: answer(b"other")
    node = stage.node()
    mortal = Mortal(tmp_path)
    agent = stage.agent(node, {"web": {"addr": mortal.address, "health": CHECKED}}, name="agent-new")
    stage.agent(node, {"web": service.address}, name="agent-old", prelude=earlier)
    node.wait_endpoint("web", 2)
    web = Asking([node.proxy], "web")
    try:
        web.wait_more(3, body=b"morta")
        web.wait_more(3, body=b"other")
        mortal.process.kill()
        mortal.process.wait_exit()
        agent.wait_output("The service is out")
        web.wait_more(20, body=b"other")
        mortal.again()
        web.wait_more(5, body=b"morta")
    finally:
        web.stop()
        mortal.process.kill()
    assert web.failures == []
