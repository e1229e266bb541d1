"""Machines of a network of our own: a network namespace each, on two switches that are joined by one wire.

    n1, n2 ── switch a ──wire── switch b ── n3, n4, n5     (or others: each run names its own)

Each has one address. A thread of this process lives in each namespace: sockets that it opens, and processes and
threads that it starts, are on that machine. The host's own network is not touched, and nothing is left in the end.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import ctypes
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import ParamSpec, TypeVar

from tests.system.cluster import FIVE

_CLONE_NEWNET = 0x40000000
_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
HALVES = (FIVE[:2], FIVE[2:])

Args = ParamSpec("Args")
Value = TypeVar("Value")


def missing() -> str:
    """What this machine lacks; "" when nothing."""
    if os.geteuid() != 0:
        return "root is needed to make network namespaces"
    for tool, package in (("ip", "iproute2"), ("nft", "nftables")):
        if shutil.which(tool, path=_PATH) is None:
            return f"{tool} is missing: install {package}"
    tried = f"pico-{os.getpid()}-try"
    if (made := _run("ip", "netns", "add", tried)).returncode:
        return f"network namespaces cannot be made here: {made.stderr.strip()}"
    _run("ip", "netns", "del", tried)
    return ""


def _run(*command: str, text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env=os.environ | {"PATH": _PATH}, input=text, capture_output=True, text=True, check=False, timeout=60
    )


def _must(*command: str, text: str = "") -> None:
    done = _run(*command, text=text)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")


def _hex_address(text: str) -> tuple[str, int]:
    """An IPv4 address as /proc/net/tcp has it."""
    ip, port = text.split(":")
    return socket.inet_ntoa(bytes.fromhex(ip)[::-1]), int(port, 16)


def _flows(port: int) -> list[tuple[int, str]]:
    found = []
    for line in Path("/proc/thread-self/net/tcp").read_text().splitlines()[1:]:
        _, own, other, state = line.split()[:4]
        ip, remote = _hex_address(other)
        if state == "01" and remote == port:
            found.append((_hex_address(own)[1], ip))
    return found


def _dials() -> int:
    names, values = (
        line.split() for line in Path("/proc/thread-self/net/snmp").read_text().splitlines() if line.startswith("Tcp:")
    )
    return int(values[names.index("ActiveOpens")])


def _enter(namespace: str) -> None:
    """Take the calling thread there, and all that it starts from now on."""
    libc = ctypes.CDLL(None, use_errno=True)
    with Path(f"/run/netns/{namespace}").open("rb") as file:
        if libc.setns(file.fileno(), _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"cannot enter {namespace}")


class Machine:
    """One namespace, and a thread that lives in it.

    Args:
        namespace: its name.
        ip: its address; "" for the switches.
    """

    def __init__(self, namespace: str, ip: str = "") -> None:
        self.namespace = namespace
        self.ip = ip
        _must("ip", "netns", "add", namespace)
        # one thread for the machine's whole life: processes die with the thread that started them
        self._thread = concurrent.futures.ThreadPoolExecutor(1, initializer=_enter, initargs=(namespace,))
        self.ip_command("link", "set", "lo", "up")

    def do(self, call: Callable[Args, Value], *args: Args.args, **kwargs: Args.kwargs) -> Value:
        """Call something on this machine."""
        return self._thread.submit(call, *args, **kwargs).result()

    def ip_command(self, *arguments: str) -> None:
        """Run `ip` here."""
        self.do(_must, "ip", *arguments)

    def drop(self, rule: str) -> None:
        """Drop incoming packets that match an nftables expression, beside what is dropped already."""
        self._on_input(f"{rule} drop")

    def reset(self, rule: str) -> None:
        """Answer incoming packets of TCP that match with a reset, and show nobody here the packets: so only the other
        side learns that its connection has ended. What is a reset itself is dropped."""
        self._on_input(f"{rule} reject with tcp reset")

    def _on_input(self, statement: str) -> None:
        table = "add table inet pico\n"
        chain = "add chain inet pico input { type filter hook input priority 0; policy accept; }\n"
        self.do(_must, "nft", "-f", "-", text=f"{table}{chain}add rule inet pico input iifname eth0 {statement}\n")

    def flows(self, port: int) -> list[tuple[int, str]]:
        """The established connections of this machine to a port of others: own port, address of the other."""
        return self.do(_flows, port)

    def dials(self) -> int:
        """How many connections were begun on this machine so far, over loopback too."""
        return self.do(_dials)

    def drop_nothing(self) -> None:
        """Let everything in again."""
        self.do(_must, "nft", "flush", "ruleset")

    def close(self) -> None:
        """The end of the namespace."""
        self._thread.shutdown()
        _run("ip", "netns", "del", self.namespace)


class Network:
    """The machines and what joins them.

    Args:
        halves: the names of the machines on the one and on the other switch.
    """

    def __init__(self, halves: Sequence[Sequence[str]] = HALVES) -> None:
        self._halves = halves
        self.machines: dict[str, Machine] = {}
        self._made: list[Machine] = []
        try:
            self._make()
        except BaseException:
            self.close()
            raise

    def _machine(self, name: str, ip: str = "") -> Machine:
        machine = Machine(f"pico-{os.getpid()}-{name}", ip)
        self._made.append(machine)
        return machine

    def _make(self) -> None:
        self._switches = switches = self._machine("switches")
        for bridge in ("a", "b"):
            switches.ip_command("link", "add", f"switch-{bridge}", "type", "bridge")
            switches.ip_command("link", "set", f"switch-{bridge}", "up")
        switches.ip_command("link", "add", "wire-a", "type", "veth", "peer", "name", "wire-b")
        for bridge in ("a", "b"):
            switches.ip_command("link", "set", f"wire-{bridge}", "master", f"switch-{bridge}", "up")
        for number, id in enumerate([id for half in self._halves for id in half], 1):
            machine = self.machines[id] = self._machine(id, f"10.77.0.{number}")
            bridge = "a" if id in self._halves[0] else "b"
            switches.ip_command(
                "link", "add", f"port-{id}", "type", "veth", "peer", "name", "eth0", "netns", machine.namespace
            )
            switches.ip_command("link", "set", f"port-{id}", "master", f"switch-{bridge}", "up")
            machine.ip_command("address", "add", f"{machine.ip}/24", "dev", "eth0")
            machine.ip_command("link", "set", "eth0", "up")

    def __getitem__(self, id: str) -> Machine:
        return self.machines[id]

    # -- what happens to it

    def lose(self, percent: int) -> None:
        """From now on every link loses so many of the packets in each direction, at random."""
        for machine in self.machines.values():
            machine.drop(f"numgen random mod 100 < {percent}")

    def cut_wire(self, *, cut: bool) -> None:
        """Break the wire between the switches, or mend it."""
        self._switches.ip_command("link", "set", "wire-a", "down" if cut else "up")

    def drop_between_halves(self) -> None:
        """Have each half drop what comes from the other."""
        for half, others in (self._halves, self._halves[::-1]):
            for id in half:
                self[id].drop(f"ip saddr {{ {', '.join(self[other].ip for other in others)} }}")

    def heal(self) -> None:
        """Lose and drop nothing."""
        for machine in self.machines.values():
            machine.drop_nothing()

    def unplug(self, id: str) -> None:
        """Take a machine off the network; nobody gets a reset."""
        self._switches.ip_command("link", "set", f"port-{id}", "down")

    def close(self) -> None:
        """Remove all of it."""
        for machine in reversed(self._made):
            machine.close()


@contextlib.contextmanager
def network(halves: Sequence[Sequence[str]] = HALVES) -> Iterator[Network]:
    """The machines, for a `with` statement."""
    made = Network(halves)
    try:
        yield made
    finally:
        made.close()
