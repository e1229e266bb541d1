"""Many clients that read nothing of what they asked for: others are served meanwhile, and the memory comes back."""

from __future__ import annotations

import argparse
import contextlib
import time

from tests.soak.rig import BLOCK, PAUSE, Rig, head, rig_of
from tests.system import wire
from tests.system.service import Connection, answer
from tools.stage.report import Report
from tools.stage.stage import Stage

BODY_BLOCKS = 160  # 10 MiB
ASKED = 100
LIMIT_MIB = 256
"""`limits.buffered_bytes`, of node and agent alike."""
SERVICE_BYTES = 1 << 16
"""What the kernel holds for the service, on each connection. By default it holds 2.6 MB of loopback's, which fill the
memory that TCP has on this machine, and then it drops segments of everybody. A service has a machine of its own."""
AROUND_MIB = 100.0
"""MiB that a process may use beside what its buffers hold."""
MAX_HONEST_MS = 5000.0
BACK_S = 20.0


def readers(stage: Stage, options: argparse.Namespace, report: Report) -> None:
    """Clients with a body of 10 MiB each that read nothing, and one that asks for small ones."""
    with rig_of(stage) as rig:
        rig.service.script = large_or_small
        processes = {"node": rig.node, "agent": rig.agent}
        before = {name: process.memory_mib() for name, process in processes.items()}
        with contextlib.ExitStack() as clients:
            for _ in range(options.readers):
                client = rig.connect(receive_buffer=4096)
                clients.callback(client.close)
                client.send(head("GET /large HTTP/1.1"))
            report.times(f"small requests beside {options.readers} such clients", asked(rig), MAX_HONEST_MS)
            for name, process in processes.items():
                peak = process.memory_mib("VmHWM")
                report.line(f"{name}: peak above the start", peak - before[name], LIMIT_MIB + AROUND_MIB, "MiB")
        PAUSE.wait(BACK_S)
        for name, process in processes.items():
            kept = process.memory_mib() - before[name]
            report.line(f"{name}: still above the start {BACK_S:g} s later", kept, AROUND_MIB, "MiB")


def large_or_small(connection: Connection) -> None:
    """Serve a connection."""
    connection.pipe.limit_send_buffer(SERVICE_BYTES)
    while True:
        if connection.read_request().target == b"/large":
            connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (BODY_BLOCKS * len(BLOCK)))
            for _ in range(BODY_BLOCKS):
                connection.send(BLOCK, timeout=3600)
        else:
            connection.send(answer(b"small"))


def asked(rig: Rig) -> list[float]:
    """Seconds that each of some requests took, all of which are answered."""
    client: wire.Stream = rig.connect()
    times = []
    for _ in range(ASKED):
        begin = time.monotonic()
        client.send(head("GET /small HTTP/1.1"))
        assert client.read_response().body == b"small"
        times.append(time.monotonic() - begin)
        PAUSE.wait(0.05)
    client.close()
    return times
