"""A host with several workers from its start to its end: joining, readiness, what it tells, and what it leaves."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import signal
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from pico_twisted.app.process.own_address import own_ip
from tests.system.cluster import Cluster
from tests.system.service import answer
from tests.system.test_systemd import Listener
from tests.system.workers import ENDPOINT, WORKERS, Host, clients_of, saying_who_asked
from tools.stage.kernel import children, runs
from tools.stage.ports import Ports, free_row, unused_address
from tools.stage.processes import Process, Twistd
from tools.stage.stage import Stage
from tools.stage.waiting import wait_until

pytestmark = pytest.mark.parametrize("stage", ["plain"], indirect=True)
JOINING = "--cluster.join={}"


# Joining


def test_workers_that_meet_only_each_other_have_not_joined(stage: Stage, tmp_path: Path) -> None:
    """With `cluster.join` a host waits for another one, says that it joins, and fails as a node alone does."""
    seed = unused_address()
    host = Host(tmp_path, JOINING.format(seed), "--cluster.join-timeout=4s")
    stage.processes.append(host)
    wait_until(lambda: set(host.nodes()) == set(WORKERS), "the workers to meet")
    status, _, body = host.admin.get("/ready")
    assert (status, json.loads(body)["error"]) == (503, "joining")
    assert host.wait_exit() == 1
    assert f"could not join within 4s (cluster.join): {seed}: no answer over UDP; TCP: nothing listens" in host.output
    assert "ended before all were ready" in host.output


def test_workers_join_a_node(cluster: Cluster, stage: Stage, tmp_path: Path) -> None:
    """A host is ready once it has met a node of another host. A worker that is started again needs only its sibling."""
    cluster.start("n1")
    host = Host(tmp_path, JOINING.format(cluster.gossip_address("n1")))
    stage.processes.append(host)
    host.up()
    host.wait_nodes("n1")
    cluster["n1"].kill()
    os.kill(host.workers()[0], signal.SIGKILL)
    host.wait_count("Node host-w0 is up", 2)


def test_workers_whose_only_seeds_are_their_own_ports(stage: Stage, tmp_path: Path) -> None:
    """The same `cluster.join` on all hosts does no harm on the first one."""
    port = free_row(2)
    joins = [JOINING.format(f"{name}:{number}") for name, number in (("localhost", port), ("127.0.0.1", port + 1))]
    host = Host(tmp_path, *joins, gossip=port)
    stage.processes.append(host)
    host.up()
    host.wait_nodes()


def test_workers_of_a_host_advertise_what_a_node_alone_would(stage: Stage, tmp_path: Path) -> None:
    """That workers meet over loopback must not have them tell other hosts an address of loopback."""
    port = free_row(2)
    flags = [f"--{name}.bind-addr=:0" for name in ("proxy", "upstream", "admin")]
    flags += [f"--cluster.gossip.bind-addr=:{port}", "--cluster.workers=2", "--cluster.node-id=host"]
    host = Twistd("host", ["pico", *flags], tmp_path)
    stage.processes.append(host)
    host.wait_output("is up with 2 workers")
    records = {record["message"]: record for record in host.records}
    own = own_ip()
    for number, node_id in enumerate(WORKERS):
        record = records[f"Node {node_id} is up"]
        assert (urlsplit(record["proxy"]).hostname, record["gossip"]) == (own, f"{own}:{port + number}")
    assert urlsplit(records["Node host is up with 2 workers"]["proxy"]).hostname == own


# Readiness


def test_the_host_is_ready_while_any_worker_is(stage: Stage, tmp_path: Path) -> None:
    """A worker that drains alone does not take the host out of its load balancer; new connections go to the other.
    When all drain the host is not ready, whoever is asked."""
    let_go = threading.Event()
    service = saying_who_asked()
    quick = service.handler

    def handler(request: object) -> bytes:
        if b"slow" in getattr(request, "target", b""):
            let_go.wait(60)
            return answer(b"slow")
        return quick(request)  # type: ignore[arg-type]

    service.handler = handler
    host = Host(tmp_path)
    stage.processes.append(host)
    try:
        host.serve(stage, service)
        slow = [clients_of(host, 1, path="/slow") for _ in range(12)]
        wait_until(lambda: len(service.requests) >= 12, "the slow requests")
        clients = clients_of(host, 3, kept=1)
        clients.wait_more(10)
        os.kill(host.workers()[1], signal.SIGTERM)
        wait_until(lambda: host.nodes().get("host-w1") == "draining", "the worker to drain")
        drains = time.monotonic()
        for _ in range(20):
            assert host.admin.status("/ready") == 200
        clients.wait_more(30)
        assert {one.body for one in clients.outcomes if not one.problem and one.dialled >= drains} == {b"host-w0"}
        host.terminate()
        wait_until(lambda: host.admin.status("/ready") == 503, "the host not to be ready")
        for _ in range(8):
            assert host.admin.status("/ready") == 503
        clients.stop()
        assert [one for one in clients.failures if not one.problem.startswith("no connection")] == []
        let_go.set()
        for one in slow:
            one.stop()
            assert one.bodies() and all(failed.problem.startswith("no connection") for failed in one.failures)
        assert host.wait_exit() == 0
    finally:
        let_go.set()
        service.close()


# What systemd and people are told


def test_systemd_sees_one_service(stage: Stage, tmp_path: Path) -> None:
    """READY once, when all workers are; signs of life; a reload; how many workers serve; and the end."""
    with contextlib.closing(Listener(tmp_path)) as systemd:
        host = Host(tmp_path, env=systemd.env)
        stage.processes.append(host)
        systemd.wait("READY=1")
        assert all(f"Node {node_id} is up" in host.output for node_id in WORKERS)
        systemd.wait("STATUS=2 of 2 workers ready")
        systemd.wait("WATCHDOG=1", systemd.beats() + 3)
        host.signal(signal.SIGHUP)
        systemd.wait("READY=1", 2)
        host.wait_count("Configuration reloaded", 2)
        os.kill(host.workers()[0], signal.SIGKILL)
        host.wait_count("Node host-w0 is up", 2)
        told = [line for line in systemd.told if not line.startswith(("STATUS=", "WATCHDOG=", "MONOTONIC_"))]
        assert told == ["READY=1", "RELOADING=1", "READY=1"]
        host.terminate()
        assert host.wait_exit() == 0
        assert systemd.told.count("STOPPING=1") == 1 and systemd.told.count("READY=1") == 2
        assert any(line.startswith("STATUS=draining") for line in systemd.told)


def test_the_block_on_a_terminal(stage: Stage, tmp_path: Path) -> None:
    """A person sees one block for the host, and no lines of workers."""
    ours, its = pty.openpty()
    shown = bytearray()

    def text() -> str:
        while select.select([ours], [], [], 0)[0]:
            shown.extend(os.read(ours, 65536))
        return shown.decode("utf-8", "replace")

    try:
        host = Host(tmp_path, terminal=its)
        stage.processes.append(host)
        wait_until(lambda: "Ctrl-C" in text(), "the block")
        assert "Pico node host is up with 2 workers" in text()
        assert f"http://127.0.0.1:{host.ports.upstream}" in text()
        assert "host-w0 is up" not in text() and text().count("Ctrl-C") == 1
        host.terminate()
        assert host.wait_exit() == 0
    finally:
        os.close(ours)
        os.close(its)


def test_each_line_says_whose_it_is(stage: Stage, tmp_path: Path) -> None:
    """Lines of workers have their number; those of the parent have none. All are whole."""
    host = Host(tmp_path, "--log.level=debug", "--upstream.bind-addr=:0")
    stage.processes.append(host)
    host.up()
    host.wait_nodes()
    host.terminate()
    assert host.wait_exit() == 0
    records = host.records
    assert not any("raw" in record for record in records)
    said = {record["message"]: record.get("worker") for record in records}
    assert (said["Node host-w0 is up"], said["Node host-w1 is up"]) == (0, 1)
    assert said["Node host is up with 2 workers"] is None
    for warning in ("Agents are not authenticated: keep the upstream port off the Internet",):
        assert [record["message"] for record in records].count(warning) == 1


def test_one_worker_for_each_core(stage: Stage, tmp_path: Path) -> None:
    """`auto` counts the cores that the process may use, and each worker gets one of them."""
    cores = sorted(os.sched_getaffinity(0))[:2]
    node = on_cores(cores, stage, tmp_path, workers="auto")
    if len(cores) < 2:
        node.wait_output("is up")
        return
    node.wait_output("is up with 2 workers")
    assert [os.sched_getaffinity(pid) for pid in children(node.pid)] == [{core} for core in cores]
    assert {os.sched_getscheduler(pid) for pid in children(node.pid)} == {os.SCHED_BATCH}


def test_workers_that_are_not_as_many_as_cores(stage: Stage, tmp_path: Path) -> None:
    """They are where the kernel puts them."""
    cores = sorted(os.sched_getaffinity(0))[:1]
    node = on_cores(cores, stage, tmp_path, workers="2")
    node.wait_output("is up with 2 workers")
    assert [os.sched_getaffinity(pid) for pid in children(node.pid)] == [set(cores)] * 2
    assert {os.sched_getscheduler(pid) for pid in children(node.pid)} == {os.SCHED_OTHER}


def on_cores(cores: list[int], stage: Stage, directory: Path, *, workers: str) -> Process:
    """A host that may use these cores only."""
    flags = [
        *Ports.pick().flags()[:3],
        f"--cluster.gossip.bind-addr=127.0.0.1:{free_row(2)}",
        f"--cluster.workers={workers}",
    ]
    prelude = f"import os; os.sched_setaffinity(0, {cores}); "
    node = Twistd("node", ["pico", *flags], directory, prelude=prelude)
    stage.processes.append(node)
    return node


def test_a_log_file_of_twistd_gets_all_lines(stage: Stage, tmp_path: Path) -> None:
    """Also without a terminal, workers log where their parent does."""
    ports = Ports.pick()
    flags = [*ports.flags()[:3], f"--cluster.gossip.bind-addr=127.0.0.1:{free_row(2)}", "--cluster.workers=2"]
    log_path = tmp_path / "node.log"
    node = Twistd("node", [f"--logfile={log_path}", "pico", *flags, "--cluster.node-id=host"], tmp_path)
    stage.processes.append(node)
    wait_until(lambda: log_path.exists() and "is up with 2 workers" in log_path.read_text(), "the host to be up")
    assert all(f"Node {node_id} is up" in log_path.read_text() for node_id in WORKERS)
    node.terminate()
    assert node.wait_exit() == 0
    records = [json.loads(line) for line in log_path.read_text().splitlines()]
    assert [record["message"] for record in records].count("Stopped") == 3
    assert node.output == ""


# The end


def test_a_stop_under_load(stage: Stage, tmp_path: Path) -> None:
    """SIGTERM to the host: every connection that was made is served."""
    service = saying_who_asked()
    host = Host(tmp_path)
    stage.processes.append(host)
    try:
        agent = host.serve(stage, service)
        assert host.admin.endpoints() == {ENDPOINT: 2}
        clients = [clients_of(host, 8), clients_of(host, 8, kept=1, pause_s=0)]
        for some in clients:
            some.wait_more(50)
        host.terminate()
        assert host.wait_exit() == 0
        for some in clients:
            some.stop()
            assert [one for one in some.failures if not one.problem.startswith("no connection")] == []
        assert agent.running
    finally:
        service.close()


@pytest.mark.parametrize("all_of_them", [False, True], ids=["parent", "all"])
def test_nothing_is_left_of_a_host_that_was_killed(stage: Stage, tmp_path: Path, all_of_them: bool) -> None:
    """The workers of a killed parent end and remove its directory; when they were killed too, the next start does."""
    host = Host(tmp_path)
    stage.processes.append(host)
    host.up()
    workers = host.workers()
    assert len(list(host.scratch.iterdir())) == 1
    host.kill()
    if all_of_them:
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not any(map(runs, workers)), "the end of the workers")
        next_one = Host(tmp_path, env={"TMPDIR": str(host.scratch)})
        stage.processes.append(next_one)
        next_one.up()
        assert len(list(host.scratch.iterdir())) == 1
        next_one.terminate()
        assert next_one.wait_exit() == 0
    wait_until(lambda: not any(map(runs, workers)), "the end of the workers")
    assert list(host.scratch.iterdir()) == []
