"""What a request over HTTP/2 costs a node, beside one over HTTP/1.1, in one run.

    .venv/bin/python -m benchmarks.http2
    .venv/bin/python -m benchmarks.http2 --rounds 5 --requests 40000

The same node and agent are asked in turn: by wrk over HTTP/1.1, and by h2load with 32 requests at once on each of a few
connections. What counts is the CPU of the node for each request, which a busy machine disturbs little; the median of
the rounds is compared. The exit status is 1 if a request over HTTP/2 costs more.
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import sys
from collections.abc import Sequence

from benchmarks.bed import ENDPOINT, Target, bed
from benchmarks.load import WARM_UP_S, small_requests
from tools.stage.processes import environment, find_program
from tools.stage.waiting import StageFailed

STREAMS = 32
"""Requests at once on a connection, as many as the promise is about."""


def over_http2(target: Target, connections: int, requests: int) -> float:
    """CPU microseconds of the node for each request of h2load.

    Raises:
        StageFailed: not all of them were answered with a 2xx.
    """
    node = target.hops["node"]
    url = f"http://127.0.0.1:{target.port}/small"
    command = [find_program("h2load", "nghttp2-client"), f"-c{connections}", f"-m{STREAMS}", f"-n{requests}"]
    before = node.cpu_s()
    run = subprocess.run(
        [*command, "-H", f"x-pico-endpoint: {ENDPOINT}", url],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    used_s = node.cpu_s() - before
    found = re.search(r"status codes: (\d+) 2xx", run.stdout)
    if found is None or int(found[1]) != requests:
        raise StageFailed(f"h2load was not answered {requests} times:\n{run.stdout}")
    return used_s * 1e6 / requests


def main() -> int:
    """Print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0, help="of wrk in each round")
    parser.add_argument("--requests", type=int, default=20_000, help="of h2load in each round")
    parser.add_argument("--connections", type=int, default=2, help="of h2load; wrk has as many as that has streams")
    options = parser.parse_args()
    http1: list[float] = []
    http2: list[float] = []
    with bed() as started:
        target = started.pico("pico")
        at_once = options.connections * STREAMS
        small_requests(target, connections=at_once, threads=1, seconds=WARM_UP_S)
        over_http2(target, options.connections, options.requests // 4)
        for number in range(options.rounds):
            loaded = small_requests(target, connections=at_once, threads=1, seconds=options.seconds)
            http1.append(loaded.cpu_us("node"))
            http2.append(over_http2(target, options.connections, options.requests))
            print(f"round {number + 1}: HTTP/1.1 {http1[-1]:.1f} us, HTTP/2 {http2[-1]:.1f} us a request", flush=True)
    return _report(http1, http2)


def _report(http1: Sequence[float], http2: Sequence[float]) -> int:
    one, two = statistics.median(http1), statistics.median(http2)
    print(f"CPU of the node for a request, median: HTTP/1.1 {one:.1f} us, HTTP/2 {two:.1f} us ({two / one:.2f})")
    return int(two > one)


if __name__ == "__main__":
    sys.exit(main())
