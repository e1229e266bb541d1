"""What `picoctl cluster init` writes is a cluster: three nodes that find and trust each other, and their agent."""

from __future__ import annotations

import contextlib
import json
import random
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.ctl.harness import picoctl
from tests.system.service import Connection, Service, answer
from tools.stage.archives import unpack
from tools.stage.processes import Twistd
from tools.stage.stage import Stage, open_stage
from tools.stage.waiting import wait_until


def serve(connection: Connection) -> None:
    """A script: the same answer to each request."""
    while True:
        connection.request_head()
        connection.send(answer(b"served"))


def unpacked(archive: Path) -> Path:
    """A directory with what is in an archive."""
    directory = archive.with_name(archive.name.removesuffix(".tar.gz"))
    with tarfile.open(archive) as tar:
        unpack(tar, directory)
    return directory


def start(stage: Stage, kind: str, directory: Path, config: str) -> Twistd:
    """Start a daemon in its directory, with the file as it was written."""
    return stage.add(Twistd(directory.name, [kind, "--config", config], directory))


@pytest.mark.slow
def test_a_cluster_of_three(tmp_path: Path) -> None:
    """The nodes form a cluster over TLS, with nothing but their files; an agent with its file serves through each of
    them; the operator's token and authority are what their admin ports ask for, and strangers are refused."""
    network = f"127.{random.randint(1, 254)}.{random.randint(1, 254)}"
    hosts = [f"{network}.{number}" for number in (1, 2, 3)]
    out = tmp_path / "made"
    made = picoctl("cluster", "init", "--nodes", ",".join(hosts), "--out", str(out), "--directory", ".")
    assert made.returncode == 0, made.stderr
    with open_stage(tmp_path) as stage, contextlib.closing(Service(serve)) as service:
        nodes = [start(stage, "pico", unpacked(out / f"n{number}.tar.gz"), "pico.yaml") for number in (1, 2, 3)]
        operator = ("--ca", str(out / "ca.pem"), "--token-file", str(out / "operator.token"))

        def active() -> bool:
            shown = [
                picoctl("status", "nodes", "--json", "--admin", f"https://{host}:8001", *operator) for host in hosts
            ]
            return all(
                done.returncode == 0
                and {row["id"] for row in json.loads(done.stdout) if row["status"] == "active"} == {"n1", "n2", "n3"}
                for done in shown
            )

        wait_until(active, "three nodes that know each other")
        agent = unpacked(out / "agent.tar.gz")
        config = agent / "pico-agent.yaml"
        config.write_text(config.read_text().replace("localhost:3000", f"127.0.0.1:{service.port}"))
        start(stage, "pico-agent", agent, "pico-agent.yaml")
        for host in hosts:
            command = [
                "curl",
                "-q",
                "-sS",
                "--noproxy",
                "*",
                "-H",
                "x-pico-endpoint: my-endpoint",
                f"http://{host}:8000/",
            ]

            def served(command: list[str] = command) -> bool:
                return subprocess.run(command, capture_output=True, check=False).stdout == b"served"

            wait_until(served, f"an answer by {host}")
        stranger = picoctl("status", "--admin", f"https://{hosts[0]}:8001", "--ca", str(out / "ca.pem"))
        assert stranger.returncode == 3 and "401" in stranger.stderr
        reader = ("--ca", str(out / "ca.pem"), "--token-file", str(out / "prometheus.token"))
        assert picoctl("status", "--admin", f"https://{hosts[0]}:8001", *reader).returncode == 0
        assert picoctl("revoke", "agent", "--admin", f"https://{hosts[0]}:8001", *reader).returncode != 0
        assert all(node.running for node in nodes)
