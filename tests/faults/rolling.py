"""Restarts and upgrades in turn, balancers that retry and that do not, and rest."""

from __future__ import annotations

import argparse
import subprocess
import time
from typing import Final

from tests.faults.network_faults import haproxy
from tests.faults.rig import AGENTS, NODES, PORTS, FaultsRig, pause
from tests.faults.table import FaultsReport
from tests.mixed_versions import old
from tools.stage.processes import ROOT
from tools.stage.waiting import wait_until

_STREAMS: Final = 5
_DRAIN: Final = {"drain_streams": "2s"}
"""Less than the default, so that six restarts with open streams fit into a part."""
_OLD_DRAIN: Final = {"grace_period": "5s"}
"""The version of that commit gives streams no time of their own."""
_BALANCER_PORT: Final = 8080
_CONFIG: Final = """\
defaults
  mode http
  timeout connect 2s
  timeout client 1m
  timeout server 1m
  timeout tunnel 1h
  option redispatch
{retries}
listen pico
  bind :{port}
  balance roundrobin
  option httpchk GET /ready
  default-server check port {admin} inter 500ms fall 2 rise 1
{servers}
"""
_RETRIES: Final = """\
  retries 2
  retry-on conn-failure empty-response response-timeout
  http-request disable-l7-retry if METH_POST"""
_ONCE: Final = "  retries 0"


def _behind_haproxy(rig: FaultsRig, retries: str) -> tuple[str, int]:
    """Start HAProxy before the nodes, as docs/production.md has it; its address."""
    servers = "\n".join(f"  server {id} {rig.net[id].ip}:{PORTS.proxy}" for id in NODES)
    defaults, _, frontend = retries.partition("\n  http-request")
    text = _CONFIG.format(retries=defaults, port=_BALANCER_PORT, admin=PORTS.admin, servers=servers)
    if frontend:
        text = text.replace("  balance", f"  http-request{frontend}\n  balance")
    path = rig.stage.directory / "haproxy.cfg"
    path.write_text(text)
    process = haproxy(rig, "balancer", path)
    address = (rig.net["balancer"].ip, _BALANCER_PORT)
    pause(1.5)  # one round of checks
    assert process.running, process.output
    return address


def _in_turn(rig: FaultsRig) -> None:
    """Stop and start each node, then each agent, one after the other; the version that starts is that of today."""
    for id in NODES:
        rig.nodes[id].terminate()
        rig.nodes[id].wait_exit()
        rig.start_node(id, _DRAIN)
        rig.net[id].do(rig.nodes[id].wait_ready)
        rig.wait_whole()
        pause(1.0)  # HAProxy has seen it
    for id in AGENTS:
        rig.agents[id].terminate()
        rig.agents[id].wait_exit()
        rig.start_agent(id, _DRAIN)
        rig.wait_whole()


def rolling_restart(rig: FaultsRig, options: argparse.Namespace, report: FaultsReport) -> None:
    """Each node and each agent is restarted in turn behind HAProxy, with WebSockets and event streams open."""
    rig.start(_DRAIN, _DRAIN)
    to = [_behind_haproxy(rig, _RETRIES)]
    seen = rig.suffer(lambda: _in_turn(rig), to=to, seconds=0.0, after=4.0, streams=_STREAMS, rate=options.rolling_rate)
    report.fault("rolling restart", seen, lost=0)


def rolling_upgrade(rig: FaultsRig, options: argparse.Namespace, report: FaultsReport) -> None:
    """The same, from the last tag, and from the wheel of a4dd4d4 where there is none, to the version of today."""
    commit = last_tag() or old.COMMIT
    prelude = old.prelude(ROOT / ".pytest_cache" / "d" / "old-version", commit)
    settings = _OLD_DRAIN if commit == old.COMMIT else _DRAIN
    rig.start(settings, settings, preludes=dict.fromkeys((*NODES, *AGENTS), prelude))
    to = [_behind_haproxy(rig, _RETRIES)]
    seen = rig.suffer(lambda: _in_turn(rig), to=to, seconds=0.0, after=4.0, streams=_STREAMS, rate=options.rolling_rate)
    report.fault(f"rolling upgrade from {commit}", seen, lost=0)


def last_tag() -> str:
    """The last tag of this clone's history; "" when there is none."""
    command = ["git", "describe", "--tags", "--abbrev=0"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=30)
    return done.stdout.strip()


def balancer_retries(rig: FaultsRig, options: argparse.Namespace, report: FaultsReport) -> None:
    """A node is killed behind HAProxy that retries what had no answer, but for POST."""
    rig.start()
    to = [_behind_haproxy(rig, _RETRIES)]
    seen = rig.suffer(rig.nodes["n1"].kill, to=to, seconds=12.0, after=0.0)
    report.fault("node killed, balancer retries", seen, worst_replayable_s=4.0, back_s=3.0)


def balancer_once(rig: FaultsRig, options: argparse.Namespace, report: FaultsReport) -> None:
    """A node is killed behind HAProxy that retries nothing: only what it sends there until its check fails is lost."""
    rig.start()
    to = [_behind_haproxy(rig, _ONCE)]
    seen = rig.suffer(rig.nodes["n1"].kill, to=to, seconds=12.0, after=0.0)
    most = round(2.0 * options.rate / len(NODES))
    report.fault("node killed, no retries", seen, lost=most, lost_replayable=None, worst_replayable_s=4.0, back_s=3.0)


def at_rest(rig: FaultsRig, options: argparse.Namespace, report: FaultsReport) -> None:
    """Nobody asks anything for a minute: nobody dials."""
    rig.start()
    rig.wait_whole()
    pause(5.0)  # what follows a start
    machines = (*NODES, *AGENTS)
    before = {id: rig.net[id].dials() for id in machines}
    since = time.monotonic()
    pause(options.rest_seconds)
    dials = {id: rig.net[id].dials() - before[id] for id in machines}
    minutes = (time.monotonic() - since) / 60
    report.line("at rest: dials a minute, of all six", sum(dials.values()) / minutes, 0.0, "")
    wait_until(rig.whole, "all sessions after the rest", 5.0)
