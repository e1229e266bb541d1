"""Debian's Prometheus, with our rules in a hurry."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import yaml

from tools.stage.asking import try_get
from tools.stage.ports import free_port
from tools.stage.processes import ROOT, Process, find_program
from tools.stage.waiting import wait_until

FILES: Final = ROOT / "etc" / "prometheus"
RULES: Final = FILES / "pico.rules.yml"
WINDOW: Final = "15s"
"""What each window of time in a rule becomes: `[5m]`, `[10m]`, `[1h]`."""
PATIENT_S: Final = 2
"""Seconds that each `for:` becomes."""
START_S: Final = 60.0

Sample = tuple[dict[str, str], float]
"""Labels, and the value."""


def shortened(rules: str) -> str:
    """The rules for a test, which has no hours: every window is `WINDOW`, every `for:` is `PATIENT_S`. What is compared
    with what, and all bounds, are as they are."""
    rules = re.sub(r"\[\d+[mhd]:1m\]", f"[{WINDOW}:1s]", rules)
    rules = re.sub(r"\[\d+[mhd]\]", f"[{WINDOW}]", rules)
    return re.sub(r"(\bfor:) \w+", rf"\1 {PATIENT_S}s", rules)


class Prometheus(Process):
    """A server that asks nodes for all nodes, and a file for agents, each second.

    Args:
        directory: where it keeps everything.
        nodes: addresses of the admin ports of nodes that it asks for all others.
    """

    def __init__(self, directory: Path, nodes: Sequence[str]) -> None:
        config: dict[str, Any] = yaml.safe_load((FILES / "prometheus.yml").read_text(encoding="utf-8"))
        config["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
        of_nodes, of_agents = config["scrape_configs"]
        of_nodes["http_sd_configs"] = [{"url": f"http://{address}/sd", "refresh_interval": "1s"} for address in nodes]
        self._agents = directory / "agents.json"
        del of_agents["static_configs"]
        of_agents["file_sd_configs"] = [{"files": [str(self._agents)], "refresh_interval": "1s"}]
        self.set_agents([])
        (directory / RULES.name).write_text(shortened(RULES.read_text(encoding="utf-8")))
        file = directory / "prometheus.yml"
        file.write_text(yaml.safe_dump(config))
        self.port = free_port()
        command = [
            find_program("prometheus", "prometheus"),
            f"--config.file={file}",
            f"--storage.tsdb.path={directory / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
        ]
        super().__init__("prometheus", command, directory)
        self.wait_until(lambda: try_get(self.port, "/-/ready")[0] == 200, "Prometheus", START_S)

    def set_agents(self, ports: Sequence[int]) -> None:
        """Have it ask the agents with these admin ports."""
        self._agents.write_text(json.dumps([{"targets": [f"127.0.0.1:{port}" for port in ports]}]))

    def _api(self, path: str, **query: str) -> Any:  # as JSON is
        status, body = try_get(self.port, f"/api/v1/{path}?{urlencode(query)}")
        answer = json.loads(body or b"{}")
        assert status == 200, (path, query, answer)
        return answer["data"]

    def query(self, expr: str) -> list[Sample]:
        """The samples of an expression, now."""
        result = self._api("query", query=expr)["result"]
        return [(one["metric"], float(one["value"][1])) for one in result]

    def healthy(self, job: str) -> dict[str, str]:
        """The targets of a job that answer: node ID (or address) -> address."""
        found: Sequence[Mapping[str, Any]] = self._api("targets", state="active")["activeTargets"]
        labels = [one["labels"] for one in found if one["labels"]["job"] == job and one["health"] == "up"]
        return {one.get("node_id", one["instance"]): one["instance"] for one in labels}

    def firing(self) -> set[str]:
        """The alarms that fire now."""
        alarms = self._api("alerts")["alerts"]
        return {one["labels"]["alertname"] for one in alarms if one["state"] == "firing"}

    def wait_healthy(self, job: str, names: set[str]) -> None:
        """Wait until exactly these answer."""
        try:
            wait_until(lambda: set(self.healthy(job)) == names, f"{names} to answer Prometheus", START_S)
        except TimeoutError as error:
            raise TimeoutError(f"{error}; those that do: {self.healthy(job)}") from None
