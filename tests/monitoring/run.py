"""Rules, /sd and dashboards at a real Prometheus that scrapes a real cluster. Run by `make alarms`.

    python -m tests.monitoring.run             every part
    python -m tests.monitoring.run files       promtool and Grafana's classes alone
    python -m tests.monitoring.run alarms

The exit status is 1 when an alarm fires while all is well, or does not when its fault is there; when a panel is empty;
when Prometheus does not find a node; or when promtool or Grafana's classes find a fault. It needs Debian's package
`prometheus`, and takes some three minutes.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from tests.monitoring.faults import FAULTS, NOBODY
from tests.monitoring.prometheus import FILES, RULES, Prometheus
from tests.monitoring.scene import NODES, Scene, scene
from tools import grafana_dashboards
from tools.stage.processes import find_program
from tools.stage.report import Options, Report, exit_status
from tools.stage.waiting import wait_until

WELL_S: Final = 20.0
"""Seconds in which no alarm may fire: longer than a window of the rules and `for:` together."""
FIRES_S: Final = 120.0
"""Most seconds until an alarm fires whose fault is there, on a machine that does all of this at once."""
UNIT_TESTS: Final = Path(__file__).with_name("rules.test.yml")
_PANELS: Final = {"$__rate_interval": "2m", "$cluster": "pico", "$agent": ".+"}


def _promtool(*arguments: str, said: bytes = b"") -> tuple[bool, str]:
    command = [find_program("promtool", "prometheus"), *arguments]
    done = subprocess.run(command, input=said, capture_output=True, check=False, cwd=FILES)
    return done.returncode == 0 and not (said and done.stderr), (done.stdout + done.stderr).decode()


def files(here: Scene, options: argparse.Namespace, report: Report) -> None:
    """promtool checks and tests the rules, and what daemons show; Grafana's classes read the dashboards."""
    report.check("the configuration", *_promtool("check", "config", "prometheus.yml"))
    report.check("unit tests of the rules", *_promtool("test", "rules", str(UNIT_TESTS)))
    agent = here.agent("a-1", "n1", {"web": here.service.address})
    here.ask("n1", "web")
    here.ask("n1", "nobody")
    agent.wait_until(lambda: here.prometheus.healthy("pico-agents"), "the agent's admin port")
    for name, admin in (("a node", here.nodes["n1"].admin), ("an agent", here.admin_of("a-1"))):
        report.check(f"metrics of {name}", *_promtool("check", "metrics", said=admin.get("/metrics")[2]))
    for name in grafana_dashboards.DASHBOARDS:
        lost = list(_lost(name))
        report.check(f"Grafana's classes know all of {name}.json", not lost, ", ".join(lost))


def _lost(name: str) -> Iterator[str]:
    """Places of a dashboard of which Grafana's classes keep nothing, or something else."""
    written = json.loads((grafana_dashboards.FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    read = json.loads(JSONEncoder(sort_keys=True).encode(Dashboard.from_json(written)))

    def compare(before: Any, after: Any, place: str) -> Iterator[str]:  # as JSON is
        if isinstance(before, dict) and isinstance(after, dict):
            for key, value in before.items():
                yield from compare(value, after.get(key), f"{place}/{key}")
        elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
            for at, pair in enumerate(zip(before, after, strict=True)):
                yield from compare(*pair, f"{place}/{at}")
        elif before != after:
            yield place

    yield from compare(written, read, "")


def discovery(here: Scene, options: argparse.Namespace, report: Report) -> None:
    """Prometheus finds five nodes by asking two; one that joins, until it leaves; and all once the first is dead."""
    prometheus = here.prometheus
    prometheus.wait_healthy("pico", set(NODES))
    report.check("nodes", True)
    here.node("n6")
    prometheus.wait_healthy("pico", {*NODES, "n6"})
    report.check("a node that joins", True)
    here.nodes["n6"].terminate()
    wait_until(lambda: "n6" not in _asked(prometheus), "n6 to be gone")
    report.check("a node that has left is not missed", True)
    # In this order: of a node that is asked for all others and does not answer, Prometheus keeps the last list.
    here.nodes["n1"].kill()
    here.node("n7", {"cluster": {"join": [f"127.0.0.1:{here.nodes['n2'].ports.gossip}"]}})
    prometheus.wait_healthy("pico", {*NODES, "n7"} - {"n1"})
    report.check("a node that joins when another is dead", True)
    asked = _asked(prometheus)
    report.check("a node that is dead is missed", asked.get("n1") == 0, str(asked))


def _asked(prometheus: Prometheus) -> dict[str, float]:
    """The nodes that Prometheus asks: ID -> 1 when it answers, 0 when it does not."""
    return {labels["node_id"]: value for labels, value in prometheus.query('up{job="pico"}')}


def alarms(here: Scene, options: argparse.Namespace, report: Report) -> None:
    """No alarm fires while all is well; each does when its fault is there; and then no panel is empty."""
    prometheus, address = here.prometheus, here.service.address
    here.agent("a-web", "n1", {"web": address, "both": address, "limited": address})
    for id in ("n1", "n3"):
        here.agent(f"a-bad-{id}", id, {"broken": NOBODY})
    here.agent("a-gone", "n1", {f"gone-{number}": address for number in range(10)})
    here.agent("a-dies", "n1", {"dies": address})
    prometheus.wait_healthy("pico", set(NODES))
    wait_until(lambda: len(prometheus.healthy("pico-agents")) == 5, "the agents to answer Prometheus")
    for id in ("n1", "n2"):
        here.load(id, "web", clients=3)
    wait_until(lambda: not prometheus.firing(), "what the start itself makes fire to be over", FIRES_S)
    early: set[str] = set()
    with contextlib.suppress(TimeoutError):
        early = wait_until(prometheus.firing, "an alarm", WELL_S)
    report.check("no alarm while all is well", not early, ", ".join(sorted(early)))
    for plant in dict.fromkeys(FAULTS.values()):
        plant(here)
    fired: set[str] = set()

    def all_fired() -> bool:
        fired.update(prometheus.firing())
        return fired >= FAULTS.keys()

    with contextlib.suppress(TimeoutError):
        wait_until(all_fired, "all alarms", FIRES_S)
    for name in FAULTS:
        report.check(f"{name} fires", name in fired, (FAULTS[name].__doc__ or "").splitlines()[0])
    for name in grafana_dashboards.DASHBOARDS:
        empty = [title for title, expr in grafana_dashboards.expressions(name) if not _shows(prometheus, expr)]
        report.check(f"no panel of {name}.json is empty", not empty, ", ".join(empty))


def _shows(prometheus: Prometheus, expr: str) -> bool:
    """Whether a panel has a number, at one node at least."""
    for variable, value in _PANELS.items():
        expr = expr.replace(variable, value)
    samples = prometheus.query(expr.replace('node_id="$node"', 'node_id=~".+"'))
    return any(not math.isnan(value) for _, value in samples)


PARTS: Final = {"files": files, "discovery": discovery, "alarms": alarms}


def main() -> int:
    """The command. Returns its exit status."""
    told = set(re.findall(r"- alert: (\w+)", RULES.read_text(encoding="utf-8")))
    assert told == set(FAULTS), f"no fault for {told ^ set(FAULTS)}"
    return Report().run("monitoring", PARTS, Options(__doc__, PARTS).read(), scene)


if __name__ == "__main__":
    sys.exit(exit_status(main))
