"""Faults of a machine: names, clocks, disks, descriptors, memory, certificates."""

from __future__ import annotations

import argparse
import contextlib
import mmap
import signal
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.faults.rig import AGENTS, NODES, PORTS, FaultsRig, pause
from tests.faults.scarcity import short_of_descriptors, short_of_memory
from tests.faults.table import FaultsReport
from tests.peers.pipe import Pipe, dial
from tools.stage.certificates import Made, make

# Another /etc/resolv.conf for this process alone: a mount namespace of its own, in which a file is laid over it.
_RESOLVES_AT: Final = (
    "import ctypes; c = ctypes.CDLL(None); c.unshare(0x20000); c.mount(b'none', b'/', None, 0x44000, None); "
    "c.mount({path!r}.encode(), b'/etc/resolv.conf', None, 0x1000, None); "
)
# The wall clock of this process is off by what a file says, from one moment to the next.
_CLOCK_JUMPS: Final = (
    "import mmap, struct, time; file = open({path!r}, 'r+b'); offset = mmap.mmap(file.fileno(), 8); now = time.time; "
    "time.time = lambda: now() + struct.unpack('d', offset[:8])[0]; "
)
_HOUR_S: Final = 3600.0
_SLOW_READERS: Final = 150
_CERTIFICATE_S: Final = 4.0
_DAY_S: Final = 86_400.0


def dns(rig: FaultsRig, options: argparse.Namespace, report: FaultsReport) -> None:
    """The name server answers nothing any more, while one agent has to dial: nodes and its service by name."""
    directory = rig.stage.directory
    server = rig.net["clients"].ip
    hosts, resolv = directory / "hosts", directory / "resolv.conf"
    names = {f"{id}.pico.test": rig.net[id].ip for id in NODES} | {"service.pico.test": "127.0.0.1"}
    hosts.write_text("".join(f"{ip} {name}\n" for name, ip in names.items()))
    resolv.write_text(f"nameserver {server}\noptions timeout:1 attempts:1\n")
    arguments = ("dns", "--port", "53", "--interface", server, "--hosts-file", str(hosts))
    names_server = rig.net["clients"].do(rig.stage.command, "names", *arguments)
    names_server.wait_output("starting on 53")
    rig.start(
        agent={"connect": {"url": [f"http://{id}.pico.test:{PORTS.upstream}" for id in NODES]}},
        preludes=dict.fromkeys(AGENTS, _RESOLVES_AT.format(path=str(resolv))),
        service_host="service.pico.test",
    )

    def fault() -> None:
        names_server.signal(signal.SIGSTOP)
        rig.disconnect("a1")

    seen = rig.suffer(fault, lambda: names_server.signal(signal.SIGCONT), seconds=15.0, after=8.0)
    report.fault("DNS fails", seen, worst_replayable_s=4.0, back_s=5.0, healed_s=2.0)
    rig.wait_whole()
    report.check("DNS fails: all sessions are there again", True)


def clocks(rig: FaultsRig, options: argparse.Namespace, report: FaultsReport) -> None:
    """The wall clocks of a node and of an agent jump an hour forward, and back."""
    offset_file = rig.stage.directory / "offset"
    offset_file.write_bytes(struct.pack("d", 0.0))
    rig.start(preludes=dict.fromkeys(("n1", "a1"), _CLOCK_JUMPS.format(path=str(offset_file))))
    with offset_file.open("r+b") as file, contextlib.closing(mmap.mmap(file.fileno(), 8)) as offset:

        def jump(seconds: float) -> None:
            offset[:8] = struct.pack("d", seconds)

        for name, to in (("clocks jump forward", _HOUR_S), ("clocks jump back", 0.0)):
            seen = rig.suffer(lambda to=to: jump(to), seconds=10.0, after=0.0)  # type: ignore[misc]
            report.fault(name, seen, lost=0, worst_s=4.0, back_s=2.0)
            report.check(f"{name}: all sessions and nodes are there", rig.whole(), str(rig.sessions()))


def disk(rig: FaultsRig, options: argparse.Namespace, report: FaultsReport) -> None:
    """The disk that has the access logs of a node and of an agent is full from some moment on."""
    with _small_disk(rig.stage.directory / "full") as directory:
        rig.start(
            node={"proxy": {"access_log_file": str(directory / "node.log")}},
            agent={"access_log_file": str(directory / "agent.log"), "access_log": "true"},
        )

        def fault() -> None:
            with contextlib.suppress(OSError), (directory / "ballast").open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(4096))

        seen = rig.suffer(fault, (directory / "ballast").unlink, seconds=10.0, after=5.0)
        report.fault("a disk is full", seen, lost=0, worst_s=4.0, back_s=2.0, healed_s=2.0)
        report.check("a disk is full: all sessions and nodes are there", rig.whole(), str(rig.sessions()))
        rig.stage.close()


@contextlib.contextmanager
def _small_disk(directory: Path) -> Iterator[Path]:
    """A file system of its own with room for little."""
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "pico-faults", str(directory)], check=True, timeout=30)
    try:
        yield directory
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=False, timeout=30)


def descriptors(rig: FaultsRig, options: argparse.Namespace, report: FaultsReport) -> None:
    """A node may open only 30 descriptors more, and 100 idle clients take them all; kept connections go on."""
    rig.start()
    address = (rig.net["n1"].ip, PORTS.proxy)
    idle: list[Pipe] = []
    with contextlib.ExitStack() as stack:

        def fault() -> None:
            stack.enter_context(short_of_descriptors(rig.nodes["n1"], 30))
            for _ in range(100):
                with contextlib.suppress(OSError):
                    idle.append(rig.net["clients"].do(dial, address, timeout=2.0))

        def heal() -> None:
            for pipe in idle:
                pipe.close()
            stack.close()

        seen = rig.suffer(fault, heal, seconds=10.0, after=6.0)
    report.fault("no descriptors", seen, worst_replayable_s=4.0, back_s=5.0, healed_s=3.0)
    report.check("no descriptors: the node runs", rig.nodes["n1"].running and rig.whole(), str(rig.sessions()))
    report.check("no descriptors: the node says so", "No descriptors are left" in rig.nodes["n1"].output)


def memory(rig: FaultsRig, options: argparse.Namespace, report: FaultsReport) -> None:
    """A node may use 64 MiB more than at rest, and 150 clients take large bodies and read nothing."""
    rig.start(node={"limits": {"buffered_bytes": "32MiB"}})
    address = (rig.net["n1"].ip, PORTS.proxy)
    head = b"GET /large HTTP/1.1\r\nHost: a.example\r\nx-pico-endpoint: web\r\n\r\n"
    slow: list[Pipe] = []
    with contextlib.ExitStack() as stack:

        def fault() -> None:
            stack.enter_context(short_of_memory(rig.nodes["n1"], 64))
            for _ in range(_SLOW_READERS):
                slow.append(rig.net["clients"].do(dial, address, receive_buffer=4096))
                slow[-1].send(head)

        def heal() -> None:
            for pipe in slow:
                pipe.close()

        seen = rig.suffer(fault, heal, seconds=12.0, after=6.0)
        report.fault("memory near its limit", seen, worst_replayable_s=4.0, healed_s=3.0)
        report.check("memory near its limit: the node runs", rig.nodes["n1"].running)
        report.check("memory near its limit: all sessions are there", rig.whole(), str(rig.sessions()))
        used = rig.nodes["n1"].memory_mib("VmHWM") if rig.nodes["n1"].running else 0.0
        report.line("memory near its limit: the node's peak", used, None, "MiB")


def certificate(rig: FaultsRig, options: argparse.Namespace, report: FaultsReport) -> None:
    """The certificate of the upstream ports expires, an agent has to dial, and the certificate is renewed."""
    directory = rig.stage.directory
    authority = make(directory, "authority", names=(), authority=True)
    names = tuple(rig.net[id].ip for id in NODES)
    pair = _issue(directory, authority, names, _DAY_S)
    urls = [f"https://{rig.net[id].ip}:{PORTS.upstream}" for id in NODES]
    rig.start(
        node={"upstream": {"tls": {"cert": pair.cert_file, "key": pair.key_file}}},
        agent={"connect": {"url": urls, "tls": {"root_cas": authority.cert_file}}},
    )

    def renew(seconds: float) -> None:
        _issue(directory, authority, names, seconds)
        for id in NODES:
            rig.nodes[id].signal(signal.SIGHUP)

    def fault() -> None:
        renew(_CERTIFICATE_S)
        pause(_CERTIFICATE_S + 1.0)
        rig.disconnect("a1")

    # The nodes learn of it at once, and an idle agent 15 s later, when it asks for a sign of life.
    seen = rig.suffer(fault, lambda: renew(_DAY_S), seconds=_CERTIFICATE_S + 22.0, after=8.0)
    report.fault("a certificate expires", seen, worst_replayable_s=4.0, healed_s=2.0)
    lines = [record for record in rig.agents["a1"].records if "expired" in str(record)]
    report.check("a certificate expires: the agent that cannot dial says why", bool(lines))
    rig.wait_whole()
    report.check("a certificate expires: after its renewal all sessions are there", True)


def _issue(directory: Path, authority: Made, names: tuple[str, ...], seconds: float) -> Made:
    return make(directory, "upstream", issuer=authority, names=names, days=(-1.0, seconds / _DAY_S))
