"""HAProxy in front of nodes: one that is cordoned gets nothing more, and no request fails."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tests.ctl.harness import picoctl
from tests.system.asking import Asking
from tools.stage.nodes import Node
from tools.stage.ports import HOST, free_port, is_free
from tools.stage.processes import Process, find_program
from tools.stage.report import Report
from tools.stage.stage import Stage
from tools.stage.waiting import wait_until

_CONFIG: Final = """\
defaults
  mode http
  timeout connect 5s
  timeout client 30s
  timeout server 30s
listen pico
  bind {host}:{port}
  option httpchk GET /ready
  default-server inter 200ms fall 2 rise 2
{servers}
"""


def behind_haproxy(stage: Stage, directory: Path, nodes: list[Node], report: Report) -> None:
    """Cordon a node under load, and put it back.

    Args:
        stage: of the run.
        directory: for HAProxy's file.
        nodes: of one cluster, at which an agent serves `web`.
        report: gets what was seen.
    """
    port, config = free_port(), directory / "haproxy.cfg"
    servers = "\n".join(
        f"  server {node.name} {HOST}:{node.ports.proxy} check port {node.ports.admin}" for node in nodes
    )
    config.write_text(_CONFIG.format(host=HOST, port=port, servers=servers))
    stage.add(Process("haproxy", [find_program("haproxy", "haproxy"), "-f", str(config), "-db"], directory))
    wait_until(lambda: not is_free(port), "haproxy to listen")
    taken_out = nodes[0]
    asking = Asking([(HOST, port)], "web")

    def came() -> int:
        metrics = taken_out.admin.get("/metrics")[2].decode()
        return sum(
            int(float(line.split()[-1])) for line in metrics.splitlines() if line.startswith("pico_requests_total{")
        )

    try:
        wait_until(lambda: came() > 20, "requests at the first node")
        for command, still in (("cordon", False), ("uncordon", True)):
            done = picoctl(command, "local", "--admin", f"http://{HOST}:{taken_out.ports.admin}")
            report.check(f"picoctl {command}", done.returncode == 0, done.stderr)

            def settled(still: bool = still) -> bool:
                before, asked = came(), len(asking.outcomes)
                asking.wait_more(50)
                return (came() > before) is still and len(asking.outcomes) > asked

            wait_until(settled, f"HAProxy to have noticed {command}")
            report.check(f"{command}ed: it gets {'requests' if still else 'none'}", settled())
        failed = [outcome.problem for outcome in asking.outcomes if outcome.problem]
        report.check(f"none of {len(asking.outcomes)} requests failed", not failed, "; ".join(failed[:3]))
    finally:
        asking.stop()
