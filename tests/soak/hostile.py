"""A thousand hostile peers at a time beside honest requests: how much slower those are, and what it costs in memory."""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator

from tests.soak.attackers import CONNECTIONS
from tests.soak.rig import PAUSE, Rig, head, rig_of
from tests.system import wire
from tests.system.service import answer
from tools.stage.processes import environment
from tools.stage.report import Report
from tools.stage.stage import Stage

GROWTH_MIB = 100.0
TWICE = 2.0
NOISE_MS = 5.0
"""Milliseconds by which the slowest hundredth may differ between two runs of the same thing."""
ASKED = 600
PAUSE_S = 0.01
RAMP_S = 5.0

FORMS = ("silent", "heads", "bodies", "chunks", "handshakes", "unknown", "names", "bad", "packets")
TLS_FORMS = ("silent", "hellos", "handshakes")


def hostile(stage: Stage, options: argparse.Namespace, report: Report) -> None:
    """Every form of attack after the other against one node."""
    with rig_of(stage) as rig:
        rig.service.handler = lambda request: answer(b"small")
        _asked(rig)
        for form in TLS_FORMS if stage.tls else FORMS:
            before = _p99(_asked(rig))
            memory = rig.node.memory_mib()
            with _attackers(rig, form, options.hostile):
                PAUSE.wait(RAMP_S)
                beside = _p99(_asked(rig))
                grown = rig.node.memory_mib() - memory
            PAUSE.wait(1.0)
            after = _p99(_asked(rig))
            report.line(f"{form}: p99 before", before)
            report.line(f"{form}: p99 beside {options.hostile}", beside, max(TWICE * before, before + NOISE_MS))
            report.line(f"{form}: p99 a second later", after, max(TWICE * before, before + NOISE_MS))
            report.line(f"{form}: memory above before", grown, GROWTH_MIB, "MiB")
            report.check(f"{form}: node and agent still run", rig.node.running and rig.agent.running)


@contextlib.contextmanager
def _attackers(rig: Rig, form: str, count: int) -> Iterator[None]:
    node = rig.node
    ports = {"handshakes": node.ports.upstream, "agents": node.ports.upstream, "packets": node.ports.gossip}
    port = str(ports.get(form, node.ports.proxy))
    command = [sys.executable, "-m", "tests.soak.attackers", form, "127.0.0.1", port, str(count)]
    process = subprocess.Popen(command, env=environment(), stderr=subprocess.DEVNULL)
    try:
        yield
        if process.poll() is not None:
            raise RuntimeError(f"the attackers have ended: {form}")
    finally:
        process.kill()
        process.wait()


def _asked(rig: Rig) -> list[float]:
    """Milliseconds that each of some requests took, on a kept connection and on new ones in turn; all are answered."""
    kept: wire.Stream = rig.connect()
    times = []
    for number in range(ASKED):
        begin = time.monotonic()
        client = kept if number % 4 else rig.connect()
        client.send(head("GET /small HTTP/1.1"))
        assert client.read_response().body == b"small"
        times.append((time.monotonic() - begin) * 1000)
        if client is not kept:
            client.close()
        PAUSE.wait(PAUSE_S)
    kept.close()
    return times


def _p99(times: list[float]) -> float:
    return sorted(times)[-len(times) // 100 - 1]


assert set(FORMS) | set(TLS_FORMS) <= {*CONNECTIONS, "packets"}
