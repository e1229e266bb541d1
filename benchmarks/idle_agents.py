"""What many idle agents cost one node: memory, adding them, heartbeats, and their return when the node restarts.

    python -m benchmarks.idle_agents [--agents 10000] [--seconds 30] [--processes 4]
    python -m benchmarks.idle_agents --restart [--agents 10000] [--processes 8]

The first has light agents, which register an endpoint each, over a connection each, and answer heartbeats. The second
has real pico-agent processes with many listeners each, kills the node, starts it again on the same ports, and looks
at how its sessions come back, and at how long a client's request takes meanwhile.
"""

from __future__ import annotations

import itertools
import math
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks.bed import Bed, bed
from tools.stage.asking import try_get
from tools.stage.nodes import Node
from tools.stage.processes import environment
from tools.stage.report import Options, exit_status
from tools.stage.waiting import StageFailed

SETTLE_S = 12.0
"""After the last agent came: each was asked for a sign of life once more, and what only adding them needed is gone."""
RETURN_S = 120.0
"""The run fails when the agents are not back by then."""
PAUSE_S = 0.02
"""Between two requests of the client that is served meanwhile."""
_CLIENTS = Path(__file__).with_name("idle_clients.py")


def _sessions(node: Node) -> int:
    return int(node.admin.metric("pico_upstream_sessions"))


def _light(test_bed: Bed, agents: int, processes: int, seconds: float) -> None:
    node = test_bed.node("node")
    time.sleep(2.0)
    base_mib, base_cpu_s = node.memory_mib(), node.cpu_s()
    share = agents // processes
    with ExitStack() as stack:
        clients = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, str(_CLIENTS), str(node.ports.upstream), str(number * share), str(share)],
                    env=environment(),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                )
            )
            for number in range(processes)
        ]
        began = time.monotonic()
        for client in clients:
            assert client.stdout is not None
            line = client.stdout.readline()
            if line != b"registered\n":
                raise StageFailed(f"the agents could not register: {line!r}")
        took_s = time.monotonic() - began
        added_ms = 1000 * (node.cpu_s() - base_cpu_s) / agents
        time.sleep(SETTLE_S)
        mib = node.memory_mib()
        cpu_s, began = node.cpu_s(), time.monotonic()
        time.sleep(seconds)
        share_percent = 100 * (node.cpu_s() - cpu_s) / (time.monotonic() - began)
        held = _sessions(node)
        if held != share * processes:
            raise StageFailed(f"the node has {held} sessions, not {share * processes}; it wrote\n{node.output}")
    each_kib = (mib - base_mib) * 1024 / held
    print(f"{held} idle agents on one node, added in {took_s:.1f} s")
    print(f"memory:     {each_kib:8.2f} KiB each ({base_mib:.0f} MiB before, {mib:.0f} MiB with them)")
    print(f"adding:     {added_ms:8.3f} ms of CPU each")
    print(f"heartbeats: {share_percent:8.2f} % of a core")


class _Client(threading.Thread):
    """Sends one request after the other while the agents come back, through one that is back already.

    Args:
        node: that the agents come back to.
        endpoints: that may be asked for.
    """

    def __init__(self, node: Node, endpoints: Sequence[str]) -> None:
        super().__init__(daemon=True)
        self.took_s: list[float] = []
        self.failed = 0
        self._node = node
        self._endpoints = endpoints
        self._ended = threading.Event()

    def run(self) -> None:
        """Look for an endpoint that is there, and stay with it."""
        endpoint = ""
        while not self._ended.wait(PAUSE_S):
            asked = endpoint or random.choice(self._endpoints)
            began = time.monotonic()
            status, _ = try_get(self._node.ports.proxy, "/small", {"x-pico-endpoint": asked})
            if status == 200:
                endpoint = asked
                self.took_s.append(time.monotonic() - began)
            elif endpoint:
                self.failed += 1

    def end(self) -> None:
        """No more."""
        self._ended.set()
        self.join()


def _restart(test_bed: Bed, agents: int, processes: int) -> None:
    node = test_bed.node("node")
    share = agents // processes
    endpoints = [[f"idle-{number}-{place}" for place in range(share)] for number in range(processes)]
    fleet = [test_bed.agent(f"agent-{number}", node, endpoints=endpoints[number]) for number in range(processes)]
    began = time.monotonic()
    _wait(node, share * processes)
    first_s = time.monotonic() - began
    before_s = sum(agent.cpu_s() for agent in fleet)
    test_bed.stage.remove(node)
    time.sleep(5.0)  # long enough for every agent to have failed and to have begun to wait longer
    began = time.monotonic()
    node = test_bed.node("node-again", ports=node.ports)
    ready_s = time.monotonic() - began
    away_s = sum(agent.cpu_s() for agent in fleet) - before_s
    node_s = node.cpu_s()
    client = _Client(node, [endpoint for each in endpoints for endpoint in each])
    client.start()
    steps = _wait(node, share * processes)
    back_s = time.monotonic() - began
    client.end()
    node_s = node.cpu_s() - node_s
    agents_s = sum(agent.cpu_s() for agent in fleet) - before_s - away_s
    for agent in fleet:
        test_bed.stage.remove(agent)
    each = 1000 / (share * processes)
    took_ms = sorted(1000 * took_s for took_s in client.took_s) or [math.nan]
    print(f"{share * processes} sessions of {processes} real agents, first registered after {first_s:.1f} s")
    print(f"away for 5 s:  the agents used {away_s:.1f} s of CPU until the node was back")
    print(f"return:        ready after {ready_s:.1f} s, all back after {back_s:.1f} s of the start")
    print(f"               most in one second: {max(steps)}; load of the machine {os.getloadavg()[0]:.1f}")
    print(f"CPU each:      node {each * node_s:.2f} ms, agents {each * agents_s:.2f} ms")
    print(
        f"a client then: {len(took_ms)} requests, {took_ms[len(took_ms) // 2]:.0f} ms in the middle,"
        f" {took_ms[-1]:.0f} ms at most, {client.failed} failed"
    )


def _wait(node: Node, wanted: int) -> list[int]:
    """Wait for that many sessions; how many came in each second."""
    seen = [0]

    def look() -> bool:
        seen.append(_sessions(node))
        return seen[-1] >= wanted

    node.wait_until(look, f"{wanted} sessions", RETURN_S, pause=lambda _: time.sleep(1.0))
    return [has - had for had, has in itertools.pairwise(seen)]


def main() -> None:
    """The command."""
    parser = Options(__doc__)
    parser.number("--agents", 10_000, "in all")
    parser.number("--processes", 4, "that they are in")
    parser.number("--seconds", 30, "of heartbeats that are measured")
    parser.add_argument("--restart", action="store_true", help="real agents, and a node that is killed")
    arguments = parser.read()
    with bed() as test_bed:
        if arguments.restart:
            _restart(test_bed, arguments.agents, arguments.processes)
        else:
            _light(test_bed, arguments.agents, arguments.processes, arguments.seconds)


if __name__ == "__main__":
    sys.exit(exit_status(main))
