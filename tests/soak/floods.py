"""Floods of HTTP/2 beside honest requests: each ends its own connection, and little is begun."""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Callable
from typing import Final

from pico_twisted.core.http2.flood import RESETS, RESETS_PER_S
from tests.conformance.asking import Port
from tests.peers import http2_frames as wire
from tests.peers.http2_floods import FLOODS, Flood, Work, pour
from tests.soak.rig import PAUSE, Rig, head, rig_of
from tests.system.service import answer
from tools.stage.report import Report
from tools.stage.stage import Stage

PATIENCE_S: Final = 60.0
"""Until a flood has ended its connection. The slowest pauses between its frames."""
CONNECTIONS: Final = 8
"""That flood at a time."""
SLOW_MS: Final = 1000.0
"""No honest request beside a flood takes longer."""
GROWTH_MIB: Final = 24.0
ASKED: Final = 20
STALL_S: Final = 4
STREAMS: Final = 128
"""Of a connection, by default."""
HELD: Final = 120
BIG: Final = bytes(1 << 20)


def floods(stage: Stage, options: argparse.Namespace, report: Report) -> None:
    """Each flood on several connections; then answers and heads that are held by windows of 0."""
    with rig_of(stage, {"proxy": {"idle_timeout": f"{STALL_S}s"}}) as rig:
        port = Port(rig.node.proxy, "web", str(stage.tls.authority.ca) if stage.tls else None)
        rig.service.handler = lambda request: answer(b"small")
        for flood in FLOODS.values():  # once, so that all that is kept for good is there
            pour(port.connect(), flood, port.authority, PATIENCE_S)
        for name, flood in FLOODS.items():
            _flooded(rig, port, name, flood, report)
        _held(rig, port, "large answers", BIG, b"", report)
        _held(rig, port, "heads of 30 KB in 40 bytes each", b"", b"c" * 3800, report)


def _flooded(rig: Rig, port: Port, name: str, flood: Flood, report: Report) -> None:
    rig.service.reset()
    work = Work(0.3)
    rig.service.handler = lambda request: answer(b"small") if request.target == b"/honest" else work(request)
    memory = rig.node.memory_mib()
    outcomes = []
    begin = time.monotonic()

    def attack() -> None:
        outcomes.append(pour(port.connect(), flood, port.authority, PATIENCE_S))

    attackers = [threading.Thread(target=attack) for _ in range(CONNECTIONS)]
    for attacker in attackers:
        attacker.start()
    times = _asked(rig, lambda: any(attacker.is_alive() for attacker in attackers))
    for attacker in attackers:
        attacker.join()
    seconds = time.monotonic() - begin
    most = CONNECTIONS * (RESETS + RESETS_PER_S * seconds + 5) * flood.works
    report.check(f"{name}: {CONNECTIONS} connections closed", all(one.closed for one in outcomes), str(outcomes))
    report.line(f"{name}: requests at the service", work.all, most, "")
    report.line(f"{name}: of these at once", work.most, CONNECTIONS * STREAMS, "")
    report.line(f"{name}: slowest of {len(times)} honest requests", max(times), SLOW_MS)
    PAUSE.wait(1.0)
    report.line(f"{name}: memory above before", rig.node.memory_mib() - memory, GROWTH_MIB, "MiB")


def _held(rig: Rig, port: Port, name: str, body: bytes, cookie: bytes, report: Report) -> None:
    """Streams whose windows stay at 0: what is held for them is bounded, and given up after `idle_timeout`."""
    rig.service.reset()
    rig.service.handler = lambda request: answer(body or b"small")
    memory = rig.node.memory_mib()
    get = wire.block(wire.request(authority=port.authority))
    first = get + (wire.literal(b"cookie", cookie, 0x40) if cookie else b"")
    later = get + wire.indexed(62) * 8 if cookie else get
    with port.converse() as peer:
        peer.send(wire.PREFACE, wire.settings((wire.INITIAL_WINDOW, 0)), wire.settings(ack=True))
        peer.send(wire.headers(1, first), *[wire.headers(2 * number + 1, later) for number in range(1, HELD)])
        for _ in range(HELD // 2):  # all that are not refused, for what their heads hold
            peer.until(lambda one: one.kind == wire.HEADERS, "a response")
        held = rig.node.memory_mib() - memory
        over = {1}
        times = _asked(rig, lambda: False)
        begin = time.monotonic()
        while time.monotonic() - begin < PATIENCE_S and len(over) < HELD // 2:
            over.add(peer.until(lambda one: one.kind == wire.RST_STREAM, "RST_STREAM").stream)
        seconds = time.monotonic() - begin
    report.line(f"{name}: held for {HELD} shut windows", held, GROWTH_MIB, "MiB")
    report.line(f"{name}: given up after", seconds, 4.0 * STALL_S, "s")
    report.line(f"{name}: honest request", max(times), SLOW_MS)
    PAUSE.wait(1.0)
    report.line(f"{name}: memory above before", rig.node.memory_mib() - memory, GROWTH_MIB, "MiB")


def _asked(rig: Rig, go_on: Callable[[], bool]) -> list[float]:
    """Milliseconds that each of some requests took, for as long as something goes on; all are answered."""
    client = rig.connect()
    times: list[float] = []
    while len(times) < ASKED or go_on():
        begin = time.monotonic()
        client.send(head("GET /honest HTTP/1.1"))
        assert client.read_response().status == 200
        times.append((time.monotonic() - begin) * 1000)
        PAUSE.wait(0.01)
    client.close()
    return times
