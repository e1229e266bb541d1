"""Machines that boot systemd: Debian in containers of systemd-nspawn, on a network of their own.

Needs root, debootstrap, systemd-container and iproute2, and Debian's packages. One system is made once and kept in the
directory `PICO_SYSTEMD_ROOT` (/var/tmp/pico-systemd-root); each machine is an overlay over it that is gone afterwards.
The network is a namespace with a bridge and nothing else, so what pip installs is brought along as wheels.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from tools.stage.kernel import children
from tools.stage.processes import ROOT, find_program
from tools.stage.waiting import StageFailed, wait_until

DEBIAN: Final = "bookworm"
PACKAGES: Final = "systemd,systemd-sysv,dbus,python3,python3-venv,openssl,curl,iproute2,procps"
NETWORK: Final = "pico-booted"
"""Name of the namespace, and the beginning of its bridge's."""
OUTSIDE: Final = "10.0.0.100"
"""Address of what is none of the machines: the bridge itself."""
BOOT_S: Final = 120.0
CHECKOUT: Final = "/srv/pico"
"""Where the machines have the checkout."""
_WHEELS: Final = "/srv/wheels"
_PIP: Final = f"[global]\nno-index = true\nfind-links = {_WHEELS}\ndisable-pip-version-check = true\n"
_ENVIRONMENT: Final = (
    "HOME=/root",
    "TERM=dumb",
    "LANG=C.UTF-8",
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
)


def run(*command: str) -> None:
    """Run a command of this machine. Raises StageFailed."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise StageFailed(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}")


def system() -> Path:
    """The system that all machines share, made if it is not there."""
    root = Path(os.environ.get("PICO_SYSTEMD_ROOT", "/var/tmp/pico-systemd-root"))
    if not (root / "usr/lib/systemd/systemd").exists():
        print(f"making a system of Debian {DEBIAN} in {root}", flush=True)
        run(find_program("debootstrap", "debootstrap"), "--variant=minbase", f"--include={PACKAGES}", DEBIAN, str(root))
    return root


def wheels(directory: Path) -> Path:
    """What pip needs to install the checkout, its build included."""
    constraints = ROOT / "constraints.txt"
    pinned = ["--constraint", str(constraints)] if constraints.exists() else []
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--wheel-dir", str(directory), *pinned]
    run(*pip, f"{directory.parent / 'checkout'}[http2]", "setuptools>=77", "wheel")
    for own in directory.glob("pico_twisted-*"):
        own.unlink()
    return directory


def checkout(directory: Path) -> Path:
    """The files of this checkout that git knows."""
    target = directory / "checkout"
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    return target


class Machine:
    """One machine that runs.

    Args:
        name: its host name.
        ip: its address on the network of all.
        directory: its root.
        log: where its console goes.
    """

    def __init__(self, name: str, ip: str, directory: Path, log: Path) -> None:
        self.name = name
        self._directory = directory
        nspawn = find_program("systemd-nspawn", "systemd-container")
        inside = ["nsenter", f"--net=/run/netns/{NETWORK}", nspawn, "--quiet", "--keep-unit", "--register=no"]
        options = [f"--directory={directory}", f"--machine={name}", f"--network-bridge={NETWORK[:11]}", "--boot"]
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [*inside, *options], stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        wait_until(self._booted, f"{name} to boot; its console is {log}", BOOT_S)
        done = self.run(f"ip link set host0 up; ip addr add {ip}/24 dev host0; ip route add default dev host0")
        if done.returncode:
            raise StageFailed(f"{name} has no network:\n{done.stdout}")

    def _booted(self) -> bool:
        if self._process.poll() is not None:
            raise StageFailed(f"{self.name} ended with {self._process.returncode} while it booted")
        started = children(self._process.pid)
        if not started:
            return False
        return self.run("systemctl is-active multi-user.target", pid=started[0]).returncode == 0

    def run(self, script: str, *, pid: int | None = None) -> subprocess.CompletedProcess[str]:
        """Run commands as root in the checkout, until one fails. Their output tells each before it runs."""
        leader = pid or children(self._process.pid)[0]
        enter = ["nsenter", f"--target={leader}", "--mount", "--uts", "--ipc", "--net", "--pid"]
        shell = ["env", "-i", *_ENVIRONMENT, "bash", "-euo", "pipefail", "-c", f"cd {CHECKOUT}\n{script}"]
        return subprocess.run(
            [*enter, *shell],
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )

    def path(self, name: str) -> Path:
        """A file of the machine, as this one has it."""
        return self._directory / name.lstrip("/")

    def close(self) -> None:
        """Switch it off."""
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextlib.contextmanager
def machines(names: Sequence[str]) -> Iterator[list[Machine]]:
    """Machines n1 to nN with the addresses 10.0.0.1 to 10.0.0.N, and the checkout on each."""
    with tempfile.TemporaryDirectory(prefix="pico-booted-", dir="/var/tmp") as scratch, contextlib.ExitStack() as ends:
        directory = Path(scratch)
        base = system()
        checkout(directory)
        wheels(directory / "wheels")
        run("ip", "netns", "add", NETWORK)
        ends.callback(run, "ip", "netns", "delete", NETWORK)
        bridge = NETWORK[:11]
        run("ip", "-n", NETWORK, "link", "add", bridge, "type", "bridge")
        run("ip", "-n", NETWORK, "link", "set", bridge, "up")
        run("ip", "-n", NETWORK, "addr", "add", f"{OUTSIDE}/24", "dev", bridge)
        found = []
        for number, name in enumerate(names, 1):
            parts = {part: directory / name / part for part in ("upper", "work", "root")}
            for part in parts.values():
                part.mkdir(parents=True)
            layers = f"lowerdir={base},upperdir={parts['upper']},workdir={parts['work']}"
            run("mount", "-t", "overlay", "overlay", "-o", layers, str(parts["root"]))
            ends.callback(run, "umount", "--lazy", str(parts["root"]))
            shutil.copytree(directory / "checkout", parts["root"] / CHECKOUT.lstrip("/"))
            shutil.copytree(directory / "wheels", parts["root"] / _WHEELS.lstrip("/"))
            (parts["root"] / "etc/pip.conf").write_text(_PIP)
            (parts["root"] / "etc/hosts").write_text(f"127.0.0.1 localhost\n::1 localhost\n127.0.1.1 {name}\n")
            (parts["root"] / "etc/hostname").write_text(f"{name}\n")
            machine = Machine(name, f"10.0.0.{number}", parts["root"], directory / f"{name}.log")
            ends.callback(machine.close)
            found.append(machine)
        yield found
