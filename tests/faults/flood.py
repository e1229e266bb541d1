"""A node that gets far more than it can do: it stays a member, keeps its agents, answers operators, and sheds the rest.

The whole CPU that one process can use goes to clients of one node for a minute. Beside them other clients ask it at a
constant rate, an operator asks its admin port, and the other nodes are asked what they think of it.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

from tests.faults.reckoning import between, p99_s, percentile
from tests.faults.rig import NODES, PORTS, FaultsRig
from tests.faults.scarcity import starved
from tests.faults.table import FaultsReport
from tools.stage import kernel
from tools.stage.certificates import make
from tools.stage.nodes import Settings
from tools.stage.processes import find_program

AT: Final = "n1"
"""The node that is asked too much."""
RATE: Final = 50.0
"""Requests a second of the clients whose answers are looked at."""
PERCENT: Final = 25.0
"""Of a core that the node gets, so that it is busy all the time and all others of the machine are not."""
PERIOD_US: Final = 10_000
"""In which it gets that: so short that its timers do not notice."""
CONNECTIONS: Final = 2000
"""Of the flood: with half a millisecond for a request, each waits for a second if the node serves them all."""
ADMIN_P99_S: Final = 1.0
SERVED_P99_S: Final = 5.0
ROUND_TRIP_S: Final = 3.0
"""Promised: of the admin port, of the requests that are served, and of heartbeats to agents, which may take 20 s."""
_PAUSE_S: Final = 0.1

Flood = Callable[[FaultsRig, int], "subprocess.Popen[bytes]"]


class Watch:
    """What operators and other nodes see of a node, over and over.

    Args:
        rig: with the node.
    """

    def __init__(self, rig: FaultsRig) -> None:
        self._rig = rig
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []
        self.admin_s: dict[str, list[float]] = {"/health": [], "/status/cluster/nodes": []}
        self.unanswered = 0
        self.round_trips_s: list[float] = []
        self.thought: set[str] = set()

    def _each(self, machine: str, look: Callable[[], object]) -> None:
        def run() -> None:
            while not self._over.wait(_PAUSE_S):
                look()

        thread = threading.Thread(target=run)
        self._threads.append(thread)
        self._rig.net[machine].do(thread.start)

    def _ask(self, path: str) -> None:
        began = time.monotonic()
        if self._rig.nodes[AT].admin.status(path) != 200:
            self.unanswered += 1
        self.admin_s[path].append(time.monotonic() - began)

    def _agents(self) -> None:
        found: dict[str, Any] = self._rig.nodes[AT].admin.try_json("/status/upstream/agents") or {}
        self.round_trips_s += [one["rtt_s"] for one in found.get("sessions", ()) if one["rtt_s"] is not None]

    def _think(self, id: str) -> None:
        self.thought.add(self._rig.nodes[id].admin.statuses().get(AT, "not listed"))

    @contextlib.contextmanager
    def looking(self) -> Iterator[None]:
        """Look, meanwhile."""
        for path in self.admin_s:
            self._each(AT, lambda path=path: self._ask(path))  # type: ignore[misc]
        self._each(AT, self._agents)
        for id in NODES:
            if id != AT:
                self._each(id, lambda id=id: self._think(id))  # type: ignore[misc]
        try:
            yield
        finally:
            self._over.set()
            for thread in self._threads:
                thread.join()


def _url(rig: FaultsRig, scheme: str = "http") -> str:
    return f"{scheme}://{rig.net[AT].ip}:{PORTS.proxy}/"


def _wrk(rig: FaultsRig, seconds: int, *more: str, scheme: str = "http") -> subprocess.Popen[bytes]:
    command = [find_program("wrk", "wrk"), "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--timeout", "20s"]
    for field in ("x-pico-endpoint: web", *more):
        command += ["-H", field]
    return rig.net["clients"].do(subprocess.Popen, [*command, _url(rig, scheme)], stdout=subprocess.PIPE)


def _requests(rig: FaultsRig, seconds: int) -> subprocess.Popen[bytes]:
    return _wrk(rig, seconds)


def _connections(rig: FaultsRig, seconds: int) -> subprocess.Popen[bytes]:
    return _wrk(rig, seconds, "Connection: close")


def _handshakes(rig: FaultsRig, seconds: int) -> subprocess.Popen[bytes]:
    return _wrk(rig, seconds, "Connection: close", scheme="https")


def _streams(rig: FaultsRig, seconds: int) -> subprocess.Popen[bytes]:
    command = [find_program("h2load", "nghttp2-client"), "-c100", "-m100", f"-D{seconds}", "-H", "x-pico-endpoint: web"]
    return rig.net["clients"].do(subprocess.Popen, [*command, _url(rig)], stdout=subprocess.PIPE)


def _flooded(
    rig: FaultsRig,
    options: argparse.Namespace,
    report: FaultsReport,
    name: str,
    flood: Flood,
    tls: Settings | None = None,
) -> None:
    rig.start(node=tls and {"proxy": {"tls": tls}})
    seconds = options.flood_seconds
    watch, used = Watch(rig), [0.0, 0.0]
    with contextlib.ExitStack() as stack:

        def fault() -> None:
            used[0] = kernel.cpu_s(rig.nodes[AT].pid)
            stack.enter_context(starved(rig.nodes[AT], PERCENT, PERIOD_US))
            process = stack.enter_context(flood(rig, seconds))
            stack.callback(process.kill)
            stack.enter_context(watch.looking())

        def heal() -> None:
            used[1] = kernel.cpu_s(rig.nodes[AT].pid)
            stack.close()

        before = _registrations(rig)
        seen = rig.suffer(fault, heal, at=(AT,), rate=RATE, seconds=seconds, after=12.0, tls=tls is not None)
        after = _registrations(rig)
    assert seen.healed is not None
    asked = between(seen.outcomes, seen.since, seen.healed)
    served, shed = [one for one in asked if not one.lost], [one for one in asked if one.shed]
    others = [one for one in asked if one.lost and not one.shed]
    refused = rig.admin(AT, "metric", "pico_limited_total", 'reason="overloaded"')
    report.line(f"{name}: CPU of the node", (used[1] - used[0]) / (seen.healed - seen.since) * 100, None, "%")
    report.line(f"{name}: requests, of the flood too", rig.admin(AT, "metric", "pico_requests_total"), None, "")
    report.line(f"{name}: of these refused as overloaded", refused, None, "")
    for path, took in watch.admin_s.items():
        report.line(f"{name}: admin port, {path}, p99 of {len(took)}", percentile(took, 99), ADMIN_P99_S, "s")
    report.line(f"{name}: unanswered by the admin port", watch.unanswered, 0, "")
    report.line(f"{name}: round trip of heartbeats to agents", max(watch.round_trips_s, default=0.0), ROUND_TRIP_S, "s")
    report.line(f"{name}: sessions that agents had to open again", after - before, 0, "")
    report.check(f"{name}: the node is active at the others", watch.thought == {"active"}, str(watch.thought))
    report.line(
        f"{name}: p99 of {len(served)} served of {len(asked)}", p99_s(served), None if tls else SERVED_P99_S, "s"
    )
    report.line(f"{name}: median of those", percentile((one.latency_s for one in served), 50), None, "s")
    report.line(f"{name}: refused with Retry-After", len(shed) / max(1, len(asked)) * 100, None, "%")
    report.line(f"{name}: neither served nor refused", len(others), None, "")
    for problem in sorted({one.problem[:80] for one in others})[:3]:
        print(f"    {problem}")
    healed_s = seen.healed_s
    report.check(f"{name}: as before within 10 s of its end", healed_s is not None and healed_s <= 10, f"{healed_s}")


def _registrations(rig: FaultsRig) -> float:
    return sum(float(rig.admin(id, "metric", "pico_upstream_registrations_total")) for id in NODES)


def flood_requests(rig: FaultsRig, options: argparse.Namespace, report: FaultsReport) -> None:
    """A node is asked by 2000 clients on kept connections, each with the next request at once."""
    _flooded(rig, options, report, "requests", _requests)


def flood_connections(rig: FaultsRig, options: argparse.Namespace, report: FaultsReport) -> None:
    """A node is asked by 2000 clients that connect anew for each request."""
    _flooded(rig, options, report, "connections", _connections)


def flood_handshakes(rig: FaultsRig, options: argparse.Namespace, report: FaultsReport) -> None:
    """A node is asked by 2000 clients that connect anew for each request, with a handshake of TLS."""
    pair = make(rig.stage.directory, "proxy", names=(rig.net[AT].ip,)).pair
    tls = {"cert": str(pair.cert), "key": str(pair.key)}
    _flooded(rig, options, report, "handshakes", _handshakes, tls)


def flood_streams(rig: FaultsRig, options: argparse.Namespace, report: FaultsReport) -> None:
    """A node is asked over HTTP/2, by a hundred connections with a hundred streams each."""
    _flooded(rig, options, report, "streams", _streams)
