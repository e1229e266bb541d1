"""Faults of what is between the machines: resets, forgotten connections, loss, a wire that breaks."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Final

from tests.faults.rig import AGENTS, NODES, PORTS, FaultsRig
from tests.faults.table import FaultsReport
from tools.stage.processes import Process, find_program

_BAD_GATEWAY: Final = """\
defaults
  mode http
  timeout connect 5s
  timeout client 30s
  timeout server 30s
frontend dead
{binds}
  http-request return status 502 content-type text/plain string "nobody is there"
"""


def baseline(rig: FaultsRig, options: argparse.Namespace, report: FaultsReport) -> None:
    """Nothing happens: what the load alone is like on this machine."""
    rig.start()
    began = time.time()
    report.fault("baseline", rig.suffer(lambda: None), lost=0, worst_s=4.0, back_s=0.0)
    named = rig.named(began)
    report.check("baseline: nobody is told to be slow", not named, str(named))


def reset_agents(rig: FaultsRig, options: argparse.Namespace, report: FaultsReport) -> None:
    """Connections at one node are reset, and only the agents learn of it: the node's sessions are half open."""
    rig.start()
    seen = rig.suffer(lambda: rig.reset_agent_side(rig.fullest()), seconds=12.0, after=0.0)
    report.fault("reset, agents learn", seen, worst_replayable_s=4.0, worst_s=4.0, back_s=2.0)
    report.check("reset, agents learn: all sessions are there again", _whole_soon(rig))


def reset_nodes(rig: FaultsRig, options: argparse.Namespace, report: FaultsReport) -> None:
    """Connections at one node are reset, and only the node learns of it: the agents believe in dead sessions."""
    rig.start()
    seen = rig.suffer(lambda: rig.reset_node_side(rig.fullest()), seconds=12.0, after=0.0)
    report.fault("reset, a node learns", seen, worst_replayable_s=4.0, worst_s=4.0, back_s=2.0)
    report.check("reset, a node learns: all sessions are there again", _whole_soon(rig))


def balancer_drops(rig: FaultsRig, options: argparse.Namespace, report: FaultsReport) -> None:
    """A balancer before one node forgets its connections: packets of both sides vanish, new connections pass.

    All agents are at this node and a second one. The third has none, and sends its requests to both.
    """
    urls = [f"http://{rig.net[id].ip}:{PORTS.upstream}" for id in ("n1", "n2")]
    rig.start(agent={"connect": {"url": urls}})

    def fault() -> None:
        for id, ports in rig.flows("n1").items():
            for port in ports:
                rig.net["n1"].drop(f"ip saddr {rig.net[id].ip} tcp sport {port} tcp dport {PORTS.upstream}")
                rig.net[id].drop(f"ip saddr {rig.net['n1'].ip} tcp sport {PORTS.upstream} tcp dport {port}")

    seen = rig.suffer(fault, seconds=12.0, after=0.0)
    report.fault("a balancer drops flows", seen, worst_replayable_s=4.0, worst_s=4.0, back_s=5.0)
    report.check("a balancer drops flows: all sessions are there again", _whole_soon(rig))


def balancer_answers(rig: FaultsRig, options: argparse.Namespace, report: FaultsReport) -> None:
    """A node is killed, and a balancer answers 502 at its address, to agents and to other nodes."""
    rig.start()

    def fault() -> None:
        rig.nodes["n1"].kill()
        ports = (PORTS.upstream, PORTS.proxy)
        path = rig.stage.directory / "dead.cfg"
        path.write_text(_BAD_GATEWAY.format(binds="\n".join(f"  bind :{port}" for port in ports)))
        haproxy(rig, "n1", path)

    seen = rig.suffer(fault, at=("n2", "n3"), seconds=12.0, after=0.0)
    report.fault("a balancer answers 502 for a node", seen, worst_replayable_s=4.0, back_s=5.0)
    good = sum(rig.sessions().values()) == 2 * len(AGENTS)
    report.check("a balancer answers 502 for a node: agents went elsewhere", good, str(rig.sessions()))


def loss(rig: FaultsRig, options: argparse.Namespace, report: FaultsReport) -> None:
    """Every link loses 1, 5, and 20 % of the packets in each direction."""
    rig.start()
    for percent in (1, 5, 20):
        seen = rig.suffer(lambda percent=percent: rig.net.lose(percent), rig.net.heal, seconds=10.0, after=7.0)  # type: ignore[misc]
        report.fault(f"loss of {percent} %", seen, lost=0 if percent < 20 else None, healed_s=5.0)
        listed = {id: rig.admin(id, "statuses") for id in NODES}
        good = all(seen_by == dict.fromkeys(NODES, "active") for seen_by in listed.values())
        report.check(f"loss of {percent} %: all nodes are active", good, str(listed))


def partition(rig: FaultsRig, options: argparse.Namespace, report: FaultsReport) -> None:
    """The wire between the halves breaks, and is mended: clients of the one half, in which one agent of three is."""
    rig.start()
    seen = rig.suffer(
        lambda: rig.net.cut_wire(cut=True),
        lambda: rig.net.cut_wire(cut=False),
        at=("n1", "n2"),
        seconds=15.0,
        after=12.0,
    )
    report.fault("partition", seen, worst_replayable_s=4.0, worst_s=4.0, back_s=8.0, healed_s=5.0)
    report.check("partition: all sessions are there again", _whole_soon(rig))


def haproxy(rig: FaultsRig, machine: str, config: Path) -> Process:
    """Start HAProxy on a machine."""
    command = [find_program("haproxy", "haproxy"), "-f", str(config), "-db"]
    return rig.stage.add(rig.net[machine].do(Process, f"haproxy-{machine}", command, rig.stage.directory))


def _whole_soon(rig: FaultsRig, timeout: float = 25.0) -> bool:
    """Whether all sessions come back by themselves."""
    try:
        rig.wait_whole(timeout)
    except TimeoutError:
        return False
    return True
