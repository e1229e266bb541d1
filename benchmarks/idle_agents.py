"""What many idle agents cost one node: memory, adding them, heartbeats, and their return when the node restarts.

    python benchmarks/idle_agents.py [--agents 10000] [--seconds 30] [--processes 4]
    python benchmarks/idle_agents.py --restart [--agents 10000] [--processes 8]

The first has light agents, which register an endpoint each, over a connection each, and answer heartbeats. The second
has real pico-agent processes with many listeners each, kills the node, starts it again on the same ports, and looks
at how its sessions come back.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks.bed import Bed, RunningNode, bed  # noqa: E402
from benchmarks.processes import RunFailed, environment, fetch  # noqa: E402

SETTLE_S = 12.0
"""After the last agent came: each was asked for a sign of life once more, and what only adding them needed is gone."""
RETURN_S = 120.0
"""The run fails when the agents are not back by then."""
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


def _restart(test_bed: Bed, agents: int, processes: int) -> None:
    node = test_bed.node("node")
    share = agents // processes
    fleet = [
        test_bed.agent(f"agent-{number}", node, [f"idle-{number}-{place}" for place in range(share)])
        for number in range(processes)
    ]
    _wait(node, share * processes)
    test_bed.kill_one(node.process)
    time.sleep(5.0)  # long enough for every agent to have failed and to have begun to wait longer
    began = time.monotonic()
    node = test_bed.node("node-again", ports=node)
    ready_s = time.monotonic() - began
    steps = _wait(node, share * processes)
    cpu_s = node.process.cpu_s()
    for agent in fleet:
        test_bed.kill_one(agent)
    print(f"{share * processes} sessions of {processes} real agents; the node was away for 5 s")
    print(f"ready after {ready_s:.1f} s, all back after {time.monotonic() - began:.1f} s of the start")
    print(f"most in one second: {max(steps)}; the node used {1000 * cpu_s / (share * processes):.2f} ms of CPU each")


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
