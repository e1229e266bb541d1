"""Several workers behind the ports of one host."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.workers import Host
from tools.stage.kernel import runs
from tools.stage.ports import free_port
from tools.stage.processes import Twistd
from tools.stage.waiting import wait_until


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """A host that is up."""
    host = Host(tmp_path)
    try:
        host.up()
        yield host
    finally:
        host.close()


def test_both_workers_are_nodes_and_all_end_in_order(host: Host) -> None:
    """Workers join each other under IDs of their own, each knows the other as one of its host; SIGTERM ends all with
    status 0 and leaves no process."""
    wait_until(lambda: host.nodes() == {"host-w0": "active", "host-w1": "active"}, "two active nodes")
    for asked, other in (("host-w0", "host-w1"), ("host-w1", "host-w0")):
        told = host.told_by(asked, f"/status/gossip/nodes/{other}")
        assert isinstance(told, dict) and told["keys"]["host"]["value"] == "host"
    workers = host.workers()
    assert len(workers) == 2
    host.terminate()
    assert host.wait_exit() == 0
    assert not any(os.path.exists(f"/proc/{pid}") for pid in workers)
    assert host.faults() == []


def test_gossip_ports_that_are_left_to_the_host(tmp_path: Path) -> None:
    """Port 0 finds a row of free ones, by which the workers meet."""
    host = Host(tmp_path, gossip=0)
    try:
        host.up()
        host.wait_nodes()
    finally:
        host.close()


def test_the_admin_port_answers_for_the_host_whichever_worker_takes_the_request(host: Host) -> None:
    """Metrics are of both workers, and `forward` always reaches the one that is named."""
    for _ in range(8):
        _, _, body = host.admin.get("/metrics")
        assert b"pico_workers_answering 2" in body
        for node_id in ("host-w0", "host-w1"):
            for more in ("", "&forwarded=1"):
                status, _, body = host.admin.get(f"/status/cluster/nodes/local?forward={node_id}{more}")
                assert (status, json.loads(body)["id"]) == (200, node_id)
    assert host.admin.status("/ready") == host.admin.status("/health") == 200


def test_a_killed_worker_is_back_with_its_id(host: Host) -> None:
    """Another process takes the place of one that dies; the other worker and the parent go on."""
    first, second = host.workers()
    os.kill(second, signal.SIGKILL)
    wait_until(lambda: len(host.workers()) == 2 and second not in host.workers(), "another process")
    assert first in host.workers()
    host.wait_count("Node host-w1 is up", 2)
    wait_until(lambda: host.nodes() == {"host-w0": "active", "host-w1": "active"}, "two active nodes")


def test_workers_end_with_their_parent(host: Host) -> None:
    """A parent that is killed leaves no worker behind that holds the ports."""
    workers = host.workers()
    host.kill()
    host.wait_count('"Stopped"', 2)
    wait_until(lambda: not any(runs(pid) for pid in workers), "the end of the workers")


def test_a_reload_reaches_all(host: Host) -> None:
    """SIGHUP to the parent is SIGHUP to each worker."""
    host.signal(signal.SIGHUP)
    host.wait_count("Configuration reloaded", 2)


def test_a_worker_that_cannot_start_ends_all(tmp_path: Path) -> None:
    """A start that fails ends with status 1 and says why."""
    host = Host(tmp_path, "--cluster.tls.cert=/nothing", "--cluster.tls.key=/nothing", "--cluster.tls.ca=/nothing")
    try:
        assert host.wait_exit() == 1
        assert "/nothing" in host.output
    finally:
        host.close()


def test_a_second_host_on_the_same_ports_is_refused(host: Host, tmp_path: Path) -> None:
    """Ports that are shared among workers are not shared with anybody else."""
    flags = [*host.ports.flags()[:3], f"--cluster.gossip.bind-addr=127.0.0.1:{free_port()}", "--cluster.workers=2"]
    other = Twistd("other", ["pico", *flags], tmp_path)
    try:
        assert other.wait_exit() == 1
        assert "cannot listen on" in other.output
    finally:
        other.close()
