"""Rules and dashboards speak of what there is. `make alarms` shows them to a real Prometheus."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from tools import grafana_dashboards
from tools.stage.processes import ROOT

RULES = ROOT / "etc" / "prometheus" / "pico.rules.yml"
REFERENCE = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
TARGET = frozenset({"job", "instance", "cluster", "node_id", "worker", "le"})
"""Labels that no metric of ours has by itself: of targets, of hosts with workers, of histograms."""
OF_OTHERS = frozenset(
    {"up", "process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds", "process_max_fds"}
)


def told_metrics() -> dict[str, set[str]]:
    """The labels of each metric that the reference has; `tests/system/test_reference.py` compares it with daemons."""
    rows = [line.split("|")[1] for line in REFERENCE.splitlines() if line.startswith("| `pico_")]
    known: dict[str, set[str]] = {}
    for name, labels in re.findall(r"`(pico_\w+)(?:{([a-z_,]+)})?`", "\n".join(rows)):
        known.setdefault(name, set()).update(filter(None, labels.split(",")))
    return known


def rules() -> list[dict[str, Any]]:
    """All rules, those that record and those that alarm."""
    read: dict[str, Any] = yaml.safe_load(RULES.read_text(encoding="utf-8"))
    return [rule for group in read["groups"] for rule in group["rules"]]


ALARMS = [rule for rule in rules() if "alert" in rule]
RECORDED = {rule["record"] for rule in rules() if "record" in rule}
EXPRESSIONS = [
    *((rule.get("alert", rule.get("record")), rule["expr"]) for rule in rules()),
    *(
        (f"{name}: {title}", expr)
        for name in grafana_dashboards.DASHBOARDS
        for title, expr in grafana_dashboards.expressions(name)
    ),
]


@pytest.mark.parametrize(("what", "expr"), EXPRESSIONS)
def test_metrics_exist(what: str, expr: str) -> None:
    """Each metric that a rule or a panel names is one of ours, with the labels that are asked of it."""
    known = told_metrics()
    for name, selector in re.findall(r"\b((?:pico|process|up)\w*)(?:{([^}]*)})?", re.sub(r"'[^']*'", "", expr)):
        plain = re.sub(r"_(bucket|sum|count)$", "", name)
        if name in OF_OTHERS or "pico-agents" in name:
            labels = set(TARGET)
        elif (
            f":{name}" in expr
            or re.search(rf"by \([^)]*\b{name}\b", expr)
            or re.search(rf'"[^"]*\b{name}\b[^"]*"', expr)
        ):
            continue  # a part of a recorded series, or of a text
        else:
            assert plain in known or name in known, f"{name} is not in docs/reference.md"
            labels = {*TARGET, *known.get(name, known.get(plain, set()))}
        asked = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selector))
        assert asked <= labels, f"{name} has no label {asked - labels}"
    for name in re.findall(r"[a-z]+:pico_\w+:\w+", expr):
        assert name in RECORDED


@pytest.mark.parametrize("rule", ALARMS, ids=lambda rule: str(rule["alert"]))
def test_an_alarm_helps(rule: dict[str, Any]) -> None:
    """Who is woken up reads what is so, and what to do; and knows if it had to be now."""
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert rule["annotations"]["summary"] and len(rule["annotations"]["runbook"]) > 40


@pytest.mark.parametrize("name", grafana_dashboards.DASHBOARDS)
def test_dashboards_are_fresh(name: str) -> None:
    """The files are what the tables say; each panel has a question and a place of its own."""
    path = grafana_dashboards.FOLDER / f"{name}.json"
    assert path.read_text(encoding="utf-8") == grafana_dashboards.text(name), "stale: make dashboards"
    panels = [panel for panel in grafana_dashboards.dashboard(name)["panels"] if panel["type"] != "row"]
    assert all(panel["description"] and panel["targets"] for panel in panels)
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels]
    assert len(set(places)) == len(places)
    assert len({panel["title"] for panel in panels}) == len(panels)
