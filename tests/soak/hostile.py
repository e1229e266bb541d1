"""A thousand hostile peers at a time beside honest requests: how much slower those are, and what it costs in memory."""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

from pico_twisted.core.access.credentials_file import hash_of
from tests.doubles.jwt import public_pem
from tests.soak.attackers import CONNECTIONS
from tests.soak.rig import PAUSE, Rig, head, rig_of
from tests.system import wire
from tests.system.service import answer
from tools.stage.processes import environment
from tools.stage.report import Report
from tools.stage.stage import Stage

GROWTH_MIB = 100.0
TWICE = 2.0
NOISE_MS = 5.0
"""Milliseconds by which the slowest hundredth may differ between two runs of the same thing."""
ASKED = 600
PAUSE_S = 0.01
RAMP_S = 5.0

FORMS = ("silent", "heads", "bodies", "chunks", "handshakes", "unknown", "names", "bad", "packets")
JWT_FORMS = ("jwts", "agents")
TLS_FORMS = ("silent", "hellos", "handshakes")
TOKEN = "a-token-of-at-least-32-characters-for-honest-requests"


def hostile(stage: Stage, options: argparse.Namespace, report: Report) -> None:
    """Every form of attack after the other: against a node that lets everybody in, and one that authenticates."""
    with rig_of(stage) as rig:
        for form in TLS_FORMS if stage.tls else FORMS:
            _attack(rig, form, options.hostile, report)
    auth = _auth(stage)
    node = {"upstream": {"auth": auth}, "proxy": {"auth": auth}}
    with rig_of(stage, node, {"connect": {"token": TOKEN}}) as rig:
        for form in JWT_FORMS:
            _attack(rig, form, options.hostile, report)


def _attack(rig: Rig, form: str, count: int, report: Report) -> None:
    rig.service.handler = lambda request: answer(b"small")
    _asked(rig)
    before = _p99(_asked(rig))
    memory = rig.node.memory_mib()
    with _attackers(rig, form, count):
        PAUSE.wait(RAMP_S)
        beside = _p99(_asked(rig))
        grown = rig.node.memory_mib() - memory
    PAUSE.wait(1.0)
    after = _p99(_asked(rig))
    most = max(TWICE * before, before + NOISE_MS)
    report.line(f"{form}: p99 before", before)
    report.line(f"{form}: p99 beside {count}", beside, most)
    report.line(f"{form}: p99 a second later", after, most)
    report.line(f"{form}: memory above before", grown, GROWTH_MIB, "MiB")
    report.check(f"{form}: node and agent still run", rig.node.running and rig.agent.running)


def _auth(stage: Stage) -> dict[str, Any]:
    """Who may use the ports: the bearer of TOKEN, and whoever has a JWT that is signed with a key that nobody has."""
    keys, tokens = stage.directory / "signer.pub", stage.directory / "tokens"
    keys.write_bytes(public_pem())
    tokens.write_text(f"honest sha256:{hash_of(TOKEN.encode()).hex()} listen:* connect:*\n")
    return {"tokens_file": str(tokens), "jwt": {"keys": [str(keys)]}}


@contextlib.contextmanager
def _attackers(rig: Rig, form: str, count: int) -> Iterator[None]:
    node = rig.node
    ports = {"handshakes": node.ports.upstream, "agents": node.ports.upstream, "packets": node.ports.gossip}
    port = str(ports.get(form, node.ports.proxy))
    command = [sys.executable, "-m", "tests.soak.attackers", form, "127.0.0.1", port, str(count)]
    process = subprocess.Popen(command, env=environment(), stderr=subprocess.DEVNULL)
    try:
        yield
        if process.poll() is not None:
            raise RuntimeError(f"the attackers have ended: {form}")
    finally:
        process.kill()
        process.wait()


def _asked(rig: Rig) -> list[float]:
    """Milliseconds that each of some requests took, on a kept connection and on new ones in turn; all are answered."""
    kept: wire.Stream = rig.connect()
    times = []
    for number in range(ASKED):
        begin = time.monotonic()
        client = kept if number % 4 else rig.connect()
        client.send(head("GET /small HTTP/1.1", f"x-pico-authorization: Bearer {TOKEN}"))
        assert client.read_response().body == b"small"
        times.append((time.monotonic() - begin) * 1000)
        if client is not kept:
            client.close()
        PAUSE.wait(PAUSE_S)
    kept.close()
    return times


def _p99(times: list[float]) -> float:
    return sorted(times)[-len(times) // 100 - 1]


assert {*FORMS, *TLS_FORMS, *JWT_FORMS} <= {*CONNECTIONS, "packets"}
