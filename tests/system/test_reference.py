"""docs/reference.md is as the daemons are: metrics and admin routes of a real node and a real agent, and picoctl."""

from __future__ import annotations

import ast
import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pico_twisted.core.access.ceilings import Limit
from pico_twisted.ctl.main import COMMANDS
from tests.structure.source import modules
from tests.system.cluster import SECRET
from tools.stage.asking import Admin
from tools.stage.ports import free_port
from tools.stage.processes import ROOT
from tools.stage.stage import Stage

PAGE = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    """The text under a heading of the second level."""
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def first_cells(title: str) -> str:
    """The first cells of the tables under a heading."""
    return "\n".join(line.split("|")[1] for line in section(title).splitlines() if line.startswith("| `"))


METRICS = set(re.findall(r"`(pico_\w+)", first_cells("Metrics")))


@pytest.fixture
def admins(stage: Stage) -> list[Admin]:
    """The admin ports of a node of a cluster, and of an agent."""
    node = stage.node("n1", {"cluster": {"secrets": [SECRET]}})
    port = free_port()
    agent = stage.agent(node, {"web": 1}, {"admin": {"bind_addr": f"127.0.0.1:{port}"}})
    agent.wait_until(lambda: Admin(port).status("/health") == 200, "the agent's admin port")
    return [node.admin, Admin(port)]


@pytest.mark.parametrize("stage", ["plain"], indirect=True)
def test_metrics_and_routes(admins: list[Admin]) -> None:
    """Whoever looks for a metric or a route of a daemon finds it on the page."""
    routes = re.findall(r"`(/[\w/<>-]*)`", first_cells("Admin routes"))
    for admin in admins:
        families = text_string_to_metric_families(admin.get("/metrics")[2].decode())
        names = {family.name + ("_total" if family.type == "counter" else "") for family in families}
        assert {name for name in names if name.startswith("pico_")} - METRICS == set()
        known = {re.sub(r"<[^>]*>", "<>", route) for route in routes}
        there = {
            re.sub(r"<[^>]*>", "<>", route) for route in [*admin.json("/")["routes"], *admin.json("/")["changing"]]
        }
        assert there - known == set()


def test_no_metric_is_made_up() -> None:
    """Each metric of the page is made somewhere in the package."""
    text = "\n".join(module.text for module in modules().values())
    assert [name for name in sorted(METRICS) if name.removesuffix("_total") not in text] == []


def test_error_codes() -> None:
    """A code that somebody meets is on the page, and no code of the page is made up."""
    listed = set(re.findall(r"`([a-z0-9.-]+)`", first_cells("Error codes")))
    literals = {
        node.value
        for module in modules().values()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert listed - literals == set()
    refusals = modules()["pico_twisted.net.routing.refusals"].text
    refused = set(re.findall(r'^[A-Z_]+: Final = "([a-z-]+)"', refusals, re.MULTILINE))
    assert ({limit.value for limit in Limit} | refused) - listed == {"address-connections"}  # answered by a close


def test_commands() -> None:
    """The page has a row for each command of picoctl, and no other."""
    rows = set(re.findall(r"`picoctl ([a-z-]+)", first_cells("picoctl")))
    assert rows == set(COMMANDS)
