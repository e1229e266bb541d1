"""What many idle agents cost one node: memory, adding them, heartbeats, and their return when the node restarts.

    python benchmarks/idle_agents.py [--agents 10000] [--seconds 30] [--processes 4]
    python benchmarks/idle_agents.py --restart [--agents 10000] [--processes 8]

The first has light agents, which register an endpoint each, over a connection each, and answer heartbeats. The second
has real pico-agent processes with many listeners each, kills the node, starts it again on the same ports, and looks
at how its sessions come back, and at how long a client's request takes meanwhile.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import re
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks.bed import Bed, RunningNode, bed  # noqa: E402
from benchmarks.processes import RunFailed, environment, fetch  # noqa: E402

SETTLE_S = 12.0
"""After the last agent came: each was asked for a sign of life once more, and what only adding them needed is gone."""
RETURN_S = 120.0
"""The run fails when the agents are not back by then."""
PAUSE_S = 0.02
"""Between two requests of the client that is served meanwhile."""
_CLIENTS = Path(__file__).with_name("idle_clients.py")
_SESSIONS = re.compile(rb"^pico_upstream_sessions ([0-9.e+]+)$", re.MULTILINE)


def _sessions(node: RunningNode) -> int:
    status, body = fetch(node.admin, "/metrics")
    found = _SESSIONS.search(body)
    return int(float(found.group(1))) if status == 200 and found is not None else 0


def _light(test_bed: Bed, agents: int, processes: int, seconds: float) -> None:
    node = test_bed.node("node")
    time.sleep(2.0)
    base_mib, base_cpu_s = node.process.memory_mib(), node.process.cpu_s()
    share = agents // processes
    with ExitStack() as stack:
        clients = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, str(_CLIENTS), str(node.upstream), str(number * share), str(share)],
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
                raise RunFailed(f"the agents could not register: {line!r}")
        took_s = time.monotonic() - began
        added_ms = 1000 * (node.process.cpu_s() - base_cpu_s) / agents
        time.sleep(SETTLE_S)
        mib = node.process.memory_mib()
        cpu_s, began = node.process.cpu_s(), time.monotonic()
        time.sleep(seconds)
        share_percent = 100 * (node.process.cpu_s() - cpu_s) / (time.monotonic() - began)
        held = _sessions(node)
        if held != share * processes:
            raise RunFailed(f"the node has {held} sessions, not {share * processes}; it wrote\n{node.process.output}")
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

    def __init__(self, node: RunningNode, endpoints: Sequence[str]) -> None:
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
            status, _ = fetch(self._node.proxy, "/small", {"x-pico-endpoint": asked})
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
    fleet = [test_bed.agent(f"agent-{number}", node, endpoints[number]) for number in range(processes)]
    began = time.monotonic()
    _wait(node, share * processes)
    first_s = time.monotonic() - began
    before_s = sum(agent.cpu_s() for agent in fleet)
    test_bed.kill_one(node.process)
    time.sleep(5.0)  # long enough for every agent to have failed and to have begun to wait longer
    began = time.monotonic()
    node = test_bed.node("node-again", ports=node)
    ready_s = time.monotonic() - began
    away_s = sum(agent.cpu_s() for agent in fleet) - before_s
    node_s = node.process.cpu_s()
    client = _Client(node, [endpoint for each in endpoints for endpoint in each])
    client.start()
    steps = _wait(node, share * processes)
    back_s = time.monotonic() - began
    client.end()
    node_s = node.process.cpu_s() - node_s
    agents_s = sum(agent.cpu_s() for agent in fleet) - before_s - away_s
    for agent in fleet:
        test_bed.kill_one(agent)
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


def _wait(node: RunningNode, wanted: int) -> list[int]:
    """Wait for that many sessions; how many came in each second."""
    steps: list[int] = []
    had = 0
    deadline = time.monotonic() + RETURN_S
    while had < wanted:
        if time.monotonic() > deadline:
            raise RunFailed(f"{had} of {wanted} sessions after {RETURN_S:.0f} s; the node wrote\n{node.process.output}")
        time.sleep(1.0)
        has = _sessions(node)
        steps.append(has - had)
        had = has
    return steps


def main() -> int:
    """Run; the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--agents", type=int, default=10_000, help="[10000]")
    parser.add_argument("--processes", type=int, default=4, help="that they are in [4]")
    parser.add_argument("--seconds", type=float, default=30.0, help="of heartbeats that are measured [30]")
    parser.add_argument("--restart", action="store_true", help="real agents, and a node that is killed")
    arguments = parser.parse_args()
    try:
        with bed(1000) as test_bed:
            if arguments.restart:
                _restart(test_bed, arguments.agents, arguments.processes)
            else:
                _light(test_bed, arguments.agents, arguments.processes, arguments.seconds)
    except RunFailed as error:
        print(f"benchmark failed: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
