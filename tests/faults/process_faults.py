"""Faults of one process: it gets no CPU, it stands still, it hangs."""

from __future__ import annotations

import argparse
import contextlib
import math
import signal
import time
from collections.abc import Sequence

from tests.faults.rig import NODES, FaultsRig
from tests.faults.scarcity import starved
from tests.faults.table import FaultsReport
from tools.stage.processes import Process

_PERCENT = 1.0


def _starve(rig: FaultsRig, report: FaultsReport, name: str, process: Process, at: Sequence[str] = NODES) -> None:
    """One process gets 1 % of a core for a while."""
    began: list[float] = []
    with contextlib.ExitStack() as stack:

        def fault() -> None:
            began.append(time.time())
            stack.enter_context(starved(process, _PERCENT))

        seen = rig.suffer(fault, stack.close, at=at, seconds=15.0, after=8.0)
    report.fault(name, seen, worst_replayable_s=4.0, p99_near_after_s=5.0, healed_s=5.0)
    if process.name in rig.agents:
        report.line(f"{name}: its share from 5 s on", seen.share(process.name, 5.0) * 100, None, "%")
        _hold_named(rig, report, name, process.name, began[0])


def starved_agent(rig: FaultsRig, options: argparse.Namespace, report: FaultsReport) -> None:
    """One agent of three gets 1 % of a core."""
    rig.start()
    _starve(rig, report, "starved agent", rig.agents["a3"])


def starved_node(rig: FaultsRig, options: argparse.Namespace, report: FaultsReport) -> None:
    """One node of three gets 1 % of a core; clients ask the two others."""
    rig.start()
    _starve(rig, report, "starved node", rig.nodes["n3"], ("n1", "n2"))


def starved_service(rig: FaultsRig, options: argparse.Namespace, report: FaultsReport) -> None:
    """The service behind one agent of three gets 1 % of a core."""
    rig.start()
    _starve(rig, report, "starved service", rig.services["a3"])


def _stop(rig: FaultsRig, report: FaultsReport, name: str, process: Process, at: Sequence[str] = NODES) -> None:
    """One process stands still for a while, and goes on."""
    seen = rig.suffer(
        lambda: process.signal(signal.SIGSTOP),
        lambda: process.signal(signal.SIGCONT),
        at=at,
        seconds=12.0,
        after=8.0,
    )
    report.fault(name, seen, worst_replayable_s=4.0, back_s=5.0, healed_s=5.0)


def stopped_agent(rig: FaultsRig, options: argparse.Namespace, report: FaultsReport) -> None:
    """One agent of three is stopped dead (SIGSTOP), and goes on."""
    rig.start()
    _stop(rig, report, "stopped agent", rig.agents["a3"])


def stopped_node(rig: FaultsRig, options: argparse.Namespace, report: FaultsReport) -> None:
    """One node of three is stopped dead (SIGSTOP), and goes on; clients ask the two others."""
    rig.start()
    _stop(rig, report, "stopped node", rig.nodes["n3"], ("n1", "n2"))


def hung_service(rig: FaultsRig, options: argparse.Namespace, report: FaultsReport) -> None:
    """The service behind one agent of three takes connections and answers nothing, and goes on."""
    rig.start()
    service = rig.services["a3"]
    began: list[float] = []

    def fault() -> None:
        began.append(time.time())
        service.signal(signal.SIGSTOP)

    seen = rig.suffer(fault, lambda: service.signal(signal.SIGCONT), seconds=15.0, after=8.0)
    report.fault("hung service", seen, healed_s=5.0)
    report.line("hung service: its share from 5 s on", seen.share("a3", 5.0) * 100, 10.0, "%")
    _hold_named(rig, report, "hung service", "a3", began[0])


def _hold_named(rig: FaultsRig, report: FaultsReport, name: str, agent: str, since: float) -> None:
    """Hold it against the promise that a node says in its log that an agent gets little, and why."""
    after_s, _, message = min((one for one in rig.named(since) if one[1] == agent), default=(math.inf, "", ""))
    report.line(f"{name}: its agent is named after", after_s, 10.0, "s")
    if message:
        print(f"    {message}")
