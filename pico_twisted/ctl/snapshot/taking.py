"""Asks all nodes for all that belongs into a snapshot."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping
from functools import partial
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote

import attrs

from pico_twisted import __version__
from pico_twisted.ctl.client import AdminPort
from pico_twisted.ctl.doctor.lines import at_once
from pico_twisted.ctl.exits import ExitWithMessage
from pico_twisted.ctl.snapshot.archive import ABOUT, Snapshot
from pico_twisted.net.admin.shapes.events import CLUSTER_EVENTS_PATH
from pico_twisted.net.admin.shapes.paths import CONFIGURATION_PATH
from pico_twisted.net.admin.shapes.requests import CLUSTER_REQUESTS_PATH
from pico_twisted.net.admin.shapes.revocations import REVOCATIONS_PATH
from pico_twisted.net.admin.shapes.summary import CLUSTER_SUMMARY_PATH

MOST_ROWS: Final = 1000
"""Rows of events, and of failed requests, that are asked for."""
AT_ONCE: Final = 16
"""Most nodes that are asked at the same time."""

CLUSTER: Final = {
    "nodes.json": "/status/cluster/nodes",
    "endpoints.json": "/status/cluster/endpoints",
    "agents.json": "/status/cluster/agents",
    "summary.json": CLUSTER_SUMMARY_PATH,
    "events.json": f"{CLUSTER_EVENTS_PATH}?limit={MOST_ROWS}",
    "failed.json": f"{CLUSTER_REQUESTS_PATH}?failed=1&limit={MOST_ROWS}",
    "revocations.json": REVOCATIONS_PATH,
}
"""What the node that is asked tells of all: the parts of a snapshot, and their routes."""
NODE: Final = {
    "metrics.txt": "/metrics",
    "configuration.json": CONFIGURATION_PATH,
    "nodes.json": "/status/cluster/nodes",
    "gossip.json": "/status/gossip/nodes",
    "ready.json": "/ready",
}
"""What each node tells of itself."""


def take(port: AdminPort, doctor: list[dict[str, str]]) -> Snapshot:
    """Ask.

    Args:
        port: the admin port of a node, through which the others are asked.
        doctor: what the doctor says.

    Raises:
        ExitWithMessage: the node gives no answer.
    """
    began = time.time()
    nodes = _ask(port, "nodes.json", CLUSTER["nodes.json"])
    ids = [str(row["id"]) for row in nodes if isinstance(row, dict) and row.get("status") in ("active", "draining")]
    asked: dict[str, Callable[[], Any]] = {name: partial(_ask, port, name, path) for name, path in CLUSTER.items()}
    for id in ids:
        through, folder = attrs.evolve(port, forward=id), f"nodes/{quote(id, safe='')}"
        asked |= {f"{folder}/{name}": partial(_ask, through, name, path) for name, path in NODE.items()}
    parts, missing = _answers(asked, port.timeout_s)
    about = {
        "at_s": began,
        "took_s": round(time.time() - began, 3),
        "asked": port.url,
        "picoctl": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "missing": missing,
    }
    return Snapshot({ABOUT: about, "doctor.json": doctor, **parts})


def _answers(asked: Mapping[str, Callable[[], Any]], timeout_s: float) -> tuple[dict[str, Any], dict[str, str]]:
    """What came, and why the rest did not, by the names of the parts."""
    names, parts, missing = list(asked), dict[str, Any](), dict[str, str]()
    most = AT_ONCE * len(NODE)
    for at in range(0, len(names), most):
        some = names[at : at + most]
        for name, found in zip(some, at_once([asked[one] for one in some], timeout_s + 1.0), strict=True):
            if isinstance(found, Exception):
                missing[name] = found.message if isinstance(found, ExitWithMessage) else str(found)
            else:
                parts[name] = found
    return parts, missing


def _ask(port: AdminPort, name: str, path: str) -> Any:
    """The answer for a path: a text, or what JSON can hold."""
    if not name.endswith(".json"):
        return port.text(path)
    answer = port.ask(path)
    if answer.status not in (HTTPStatus.OK, HTTPStatus.SERVICE_UNAVAILABLE):
        raise port.refusal(answer)
    return answer.data
