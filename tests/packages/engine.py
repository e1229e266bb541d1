"""podman with its images, containers and networks in a directory of its own, beside whatever else is on the machine."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tools.stage.processes import find_program
from tools.stage.waiting import StageFailed, wait_until

PATIENCE_S: Final = 120.0
_COMMAND_S: Final = 900.0
_SETTINGS: Final = '[network]\nnetwork_backend = "netavark"\n'
STRICT: Final = (
    *("--read-only", "--read-only-tmpfs=false", "--tmpfs=/run/pico"),
    *("--cap-drop=all", "--security-opt=no-new-privileges"),
)
"""As docs/packages.md runs the image, and more strictly."""
_HERE: Final = ("--ulimit=nofile=8192:8192", "--ulimit=nproc=4096:4096", "--health-interval=disable")
"""What asks less of the machine that the tests run on: no more files than it has, and no timers of systemd."""


class Engine:
    """podman.

    Args:
        directory: for all that it keeps.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        podman, runc = find_program("podman", "podman"), find_program("runc", "runc")
        for program, package in (("netavark", "netavark"), ("aardvark-dns", "aardvark-dns")):
            if not Path("/usr/lib/podman", program).exists():
                raise StageFailed(f"{program} is missing: install {package}")
        places = {"root": "images", "runroot": "run", "tmpdir": "tmp", "network-config-dir": "networks"}
        self._command = (
            podman,
            *(f"--{option}={directory / place}" for option, place in places.items()),
            *("--cgroup-manager=cgroupfs", "--events-backend=file", f"--runtime={runc}"),
        )
        (directory / "networks").mkdir(exist_ok=True)
        settings = directory / "containers.conf"
        settings.write_text(_SETTINGS)
        self._environment = {**os.environ, "CONTAINERS_CONF": str(settings)}

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run podman to its end."""
        command = [*self._command, *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_COMMAND_S, env=self._environment
        )

    def must(self, *arguments: str) -> str:
        """Run podman to its end; what it printed. Raises StageFailed."""
        done = self.run(*arguments)
        if done.returncode:
            raise StageFailed(f"podman {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout

    @contextlib.contextmanager
    def running(self, name: str, image: str, *command: str, options: tuple[str, ...] = STRICT) -> Iterator[None]:
        """A container, which is gone afterwards.

        Args:
            name: of the container.
            image: that it is of.
            command: that it runs.
            options: of `podman run`.
        """
        self.must("run", "--detach", "--name", name, *_HERE, *options, image, *command)
        try:
            yield
        except BaseException:
            said = self.run("logs", name)
            print(f"-- {name}\n{said.stdout}{said.stderr}", file=sys.stderr)
            raise
        finally:
            self.run("rm", "--force", "--time", "0", name)

    @contextlib.contextmanager
    def network(self, name: str) -> Iterator[None]:
        """A network in which containers find each other by their names."""
        self.must("network", "create", name)
        try:
            yield
        finally:
            self.run("network", "rm", "--force", name)

    def wait_healthy(self, name: str) -> None:
        """Wait until the image's own health check is content with a container. Raises StageFailed."""

        def healthy() -> bool:
            if self.must("inspect", "--format", "{{.State.Running}}", name).strip() != "true":
                raise StageFailed(f"{name} has ended")
            return self.run("healthcheck", "run", name).returncode == 0

        wait_until(healthy, f"{name} to be healthy", PATIENCE_S)

    def inside(self, name: str, program: str) -> subprocess.CompletedProcess[str]:
        """Run a program of Python in a container."""
        return self.run("exec", name, "/opt/pico/venv/bin/python", "-c", program)

    def close(self) -> None:
        """Let go of the directory, which is mounted on itself for some storages."""
        subprocess.run(["umount", str(self._directory / "images" / "overlay")], capture_output=True, check=False)
