"""Builds the image of packaging/Containerfile, and looks at what runs in it. Run by `make image`.

    python -m tests.packages.image

Needs root, podman, debootstrap and curl. The base is a Debian that is made here, as of the booted machines, since
registries of images may not be reached; what pip installs is brought along as wheels. Images and containers are kept
in a directory of their own that is gone afterwards. The exit status is 1 when a promise is not kept.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from tests.booted.machines import checkout, run, system, wheels
from tests.system.service import Service, answer
from tools.stage.ports import free_row
from tools.stage.processes import find_program
from tools.stage.waiting import StageFailed, wait_until

BASE: Final = "localhost/pico-base"
IMAGE: Final = "localhost/pico"
USER: Final = "65532"
BUILD_S: Final = 900.0
PATIENCE_S: Final = 120.0
_OUTSIDE: Final = ("--network", "host", "--security-opt", "seccomp=unconfined", "--cgroups", "disabled")
"""What needs less of the machine that the tests run on: no bridge, and no control groups of its own."""
_STRICT: Final = (
    "--read-only",
    "--read-only-tmpfs=false",
    "--tmpfs",
    "/run/pico:mode=1777",
    "--cap-drop",
    "all",
)


class Engine:
    """podman, with images and containers in a directory of its own.

    Args:
        directory: for them.
    """

    def __init__(self, directory: Path) -> None:
        podman = find_program("podman", "podman")
        places = (f"--root={directory / 'images'}", f"--runroot={directory / 'run'}", f"--tmpdir={directory / 'tmp'}")
        self.command = (podman, *places, "--cgroup-manager=cgroupfs", "--events-backend=file")

    def must(self, *arguments: str) -> str:
        """Run podman to its end; what it printed. Raises StageFailed."""
        done = self.run(*arguments)
        if done.returncode:
            raise StageFailed(f"podman {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run podman to its end."""
        command = [*self.command, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=BUILD_S)

    def build(self, directory: Path) -> None:
        """Make the base and the image."""
        archive = directory / "base.tar"
        excluded = ("./var/cache/apt", "./var/lib/apt/lists")
        run("tar", "-C", str(system()), "-cf", str(archive), *(f"--exclude={name}" for name in excluded), ".")
        self.must("import", str(archive), BASE)
        archive.unlink()
        source = checkout(directory)
        arguments = {"BASE": BASE, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/wheels"}
        self.must(
            "build",
            *("--isolation", "chroot", "--network", "host", "--format", "docker", "--pull=never"),
            f"--volume={wheels(directory / 'wheels')}:/wheels:ro",
            *(f"--build-arg={name}={value}" for name, value in arguments.items()),
            *("--file", str(source / "packaging" / "Containerfile"), "--tag", IMAGE, str(source)),
        )

    @contextlib.contextmanager
    def running(self, name: str, *command: str, options: tuple[str, ...] = ()) -> Iterator[None]:
        """A container of the image, as strict as the page says."""
        self.must("run", "--detach", "--name", name, *_OUTSIDE, *_STRICT, *options, IMAGE, *command)
        try:
            yield
        except BaseException:
            print(self.run("logs", name).stdout + self.run("logs", name).stderr, file=sys.stderr)
            raise
        finally:
            self.run("rm", "--force", "--time", "0", name)

    def inside(self, name: str, program: str) -> subprocess.CompletedProcess[str]:
        """Run a program of Python in a container."""
        return self.run("exec", name, "/opt/pico/venv/bin/python", "-c", program)


def _healthy(engine: Engine, name: str) -> Callable[[], bool]:
    return lambda: engine.run("healthcheck", "run", name).returncode == 0


def _check(promise: str, kept: object, shown: object = "") -> bool:
    print(f"{promise}: {'yes' if kept else 'NO'}", flush=True)
    if not kept:
        print(shown, file=sys.stderr)
    return bool(kept)


def look(engine: Engine) -> bool:
    """Run a node and an agent of the image, and look at them. Returns whether all promises are kept."""
    port = free_row(4)
    ports = {"proxy": port, "admin": port + 1, "upstream": port + 2, "cluster.gossip": port + 3}
    flags = [f"--{section}.bind-addr=127.0.0.1:{number}" for section, number in ports.items()]
    service = Service()
    service.handler = lambda request: answer(b"served")
    kept = []
    (config,) = json.loads(engine.must("image", "inspect", IMAGE))
    kept.append(_check("the image is nobody's user's", config["User"].startswith(USER), config["User"]))
    kept.append(_check("it says when it is healthy", config.get("Healthcheck") or config["HealthCheck"], config))
    with engine.running("node", "pico-node", *flags):
        wait_until(_healthy(engine, "node"), "the node to be healthy", PATIENCE_S)
        connect = [f"--connect.url=http://127.0.0.1:{port + 2}", f"--listen=web={service.address}"]
        with engine.running("agent", "pico-agent", *connect):
            wait_until(_healthy(engine, "agent"), "the agent to be healthy", PATIENCE_S)
            curl = ["curl", "-q", "-sS", "--noproxy", "*", "-H", "x-pico-endpoint: web", f"http://127.0.0.1:{port}/"]
            body = subprocess.run(curl, capture_output=True, check=False).stdout
            kept.append(_check("a request gets through node and agent", body == b"served", body))
            who = engine.inside("agent", "import os; print(os.getuid(), open('/proc/1/comm').read())").stdout.split()
            kept.append(_check("the agent is process 1, of that user", who[:1] == [USER], who))
            written = engine.inside("agent", "open('/opt/pico/x', 'w')")
            kept.append(_check("nothing can be written to the image", "Read-only" in written.stderr, written.stderr))
            kept.append(_check("SIGTERM to the agent stops it in order", _stops(engine, "agent")))
        kept.append(_check("SIGTERM to the node stops it in order", _stops(engine, "node")))
    with engine.running("faulty", "pico-node", "--log.level=nonsense"):
        status = engine.must("wait", "faulty").strip()
        kept.append(_check("a fault ends the container with status 1", status == "1", status))
    service.close()
    return all(kept)


def _stops(engine: Engine, name: str) -> bool:
    begun = time.monotonic()
    engine.must("kill", "--signal", "TERM", name)
    status = engine.must("wait", name).strip()
    print(f"  {name} ended with {status} after {time.monotonic() - begun:.1f} s")
    return status == "0"


def main() -> int:
    """Build and look. Returns the exit status."""
    with tempfile.TemporaryDirectory(prefix="pico-image-", dir="/var/tmp") as scratch:
        engine = Engine(Path(scratch))
        try:
            engine.build(Path(scratch))
            print(engine.must("images"))
            return int(not look(engine))
        finally:
            subprocess.run(["umount", str(Path(scratch, "images", "overlay"))], capture_output=True, check=False)


if __name__ == "__main__":
    sys.exit(main())
