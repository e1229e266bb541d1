"""What bytes of a TCP connection cost through `picoctl forward`, node and agent, beside socat and chisel.

    python -m benchmarks.forwarding [--megabytes 1000] [--repeat 3] [--chisel /path/to/chisel] [--json]

Each target is a way from a local port to the same service. socat is one process that copies between two connections.
chisel, if its program is given, is three: a client that forwards a local port, a server, and a client with a reverse
port beside the service. It always encrypts, so it is to be compared with Pico over TLS. A round is an upload and a
download of so many bytes, each by one connection, and then small messages that are sent back, one after the other. CPU
is that of each process during the transfer.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import socket
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

from tools.stage import kernel
from tools.stage.certificates import Tls
from tools.stage.forwarders import forwarder
from tools.stage.ports import HOST, free_port, is_free
from tools.stage.processes import Process, find_program
from tools.stage.report import Options, exit_status, progress
from tools.stage.stage import Stage, open_stage
from tools.stage.waiting import StageFailed, wait_until

ENDPOINT: Final = "bench"
PIECE: Final = bytes(256 * 1024)
MESSAGES: Final = 2000
"""Small messages of a round."""
PATIENCE_S: Final = 300.0
_UP, _DOWN, _ECHO = b"u", b"d", b"e"
_WANTED: Final = struct.Struct(">cQ")


class Service:
    """Takes bytes, gives them or sends them back, as the first bytes of a connection say."""

    def __init__(self) -> None:
        self._listening = socket.create_server((HOST, 0))
        self.port: int = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take no more."""
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            what, size = _WANTED.unpack(sock.recv(_WANTED.size, socket.MSG_WAITALL))
            if what == _UP:
                sock.sendall(str(_drain(sock, size)).encode())  # (chisel ends both halves when one ends)
            elif what == _DOWN:
                _send(sock, size)
            elif what == _ECHO:
                while data := sock.recv(4096):
                    sock.sendall(data)


def _send(sock: socket.socket, size: int) -> None:
    while size > 0:
        sock.sendall(PIECE[:size])
        size -= len(PIECE)


def _drain(sock: socket.socket, size: int) -> int:
    """Read so many bytes, or to the end; how many came."""
    count, room = 0, bytearray(len(PIECE))
    while count < size and (found := sock.recv_into(room)):
        count += found
    return count


class Forking(Process):
    """A program that makes a process for each connection, which ends with it."""

    def cpu_s(self) -> float:
        """CPU seconds of the program and of all that it made, once they have ended."""
        wait_until(lambda: not kernel.children(self.pid), f"the end of what {self.name} made")
        used = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[11:15]
        return sum(map(int, used)) / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Target:
    """A way to the service.

    Attributes:
        name: for the table.
        port: where it begins.
        hops: its processes.
    """

    name: str
    port: int
    hops: dict[str, Process]


@dataclass(frozen=True)
class Measured:
    """A round of a target.

    Attributes:
        up_s, down_s: seconds of the transfers.
        up_cpu_s, down_cpu_s: CPU seconds of each process.
        echo_s: the median of the small messages.
    """

    up_s: float
    down_s: float
    up_cpu_s: dict[str, float]
    down_cpu_s: dict[str, float]
    echo_s: float


def _connect(target: Target) -> socket.socket:
    sock = socket.create_connection((HOST, target.port), timeout=PATIENCE_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def _timed(target: Target, transfer: Callable[[socket.socket], None]) -> tuple[float, dict[str, float]]:
    """The seconds of a transfer, and the CPU seconds of each process."""
    before = {name: hop.cpu_s() for name, hop in target.hops.items()}
    with _connect(target) as sock:
        began = time.perf_counter()
        transfer(sock)
        took = time.perf_counter() - began
    return took, {name: hop.cpu_s() - before[name] for name, hop in target.hops.items()}


def measure(target: Target, size: int) -> Measured:
    """One round.

    Raises:
        StageFailed: not all bytes arrived.
    """

    def up(sock: socket.socket) -> None:
        sock.sendall(_WANTED.pack(_UP, size))
        _send(sock, size)
        if (told := sock.recv(100)) != str(size).encode():
            raise StageFailed(f"{target.name}: {told!r} of {size} bytes arrived")

    def down(sock: socket.socket) -> None:
        sock.sendall(_WANTED.pack(_DOWN, size))
        if (count := _drain(sock, size)) != size:
            raise StageFailed(f"{target.name}: {count} of {size} bytes came")

    up_s, up_cpu_s = _timed(target, up)
    down_s, down_cpu_s = _timed(target, down)
    times = []
    with _connect(target) as sock:
        sock.sendall(_WANTED.pack(_ECHO, 0))
        for _ in range(MESSAGES):
            began = time.perf_counter()
            sock.sendall(b"x")
            if sock.recv(1) != b"x":
                raise StageFailed(f"{target.name}: no echo")
            times.append(time.perf_counter() - began)
    return Measured(up_s, down_s, up_cpu_s, down_cpu_s, median(times))


def _listens(
    stage: Stage, name: str, command: Callable[[int], Sequence[str]], kind: type[Process] = Process
) -> tuple[Process, int]:
    """Start a program that listens on a free port."""
    port = 0

    def start() -> Process:
        nonlocal port
        port = free_port()
        return kind(name, command(port), stage.directory)

    process = stage.started(start, lambda made: made.wait_until(lambda: not is_free(port, socket.SOCK_STREAM), name))
    return process, port


def through_socat(stage: Stage, service: Service) -> Target:
    """One process that copies."""
    program = find_program("socat", "socat")

    def command(port: int) -> list[str]:
        listen = f"TCP-LISTEN:{port},bind={HOST},fork,reuseaddr,nodelay"
        return [program, "-b", "262144", listen, f"TCP:{HOST}:{service.port},nodelay"]

    process, port = _listens(stage, "socat", command, Forking)
    return Target("socat", port, {"socat": process})


def through_pico(stage: Stage, service: Service, name: str) -> Target:
    """picoctl forward, a node and an agent."""
    word = name.replace(", ", "-")
    node = stage.node(word)
    listener = {"addr": f"{HOST}:{service.port}", "protocol": "tcp"}
    agent = stage.agent(node, {ENDPOINT: listener}, name=f"{word}-agent")
    forward = forwarder(stage, node, [ENDPOINT])
    return Target(name, forward.port(), {"forward": forward, "node": node, "agent": agent})


def through_chisel(stage: Stage, service: Service, program: str) -> Target:
    """A client, a server, and a client beside the service."""
    middle = free_port()
    server, port = _listens(
        stage, "chisel-server", lambda port: [program, "server", "--host", HOST, "--port", str(port), "--reverse"]
    )
    url = f"http://{HOST}:{port}"
    reverse = f"R:{HOST}:{middle}:{HOST}:{service.port}"
    agent = stage.add(Process("chisel-agent", [program, "client", url, reverse], stage.directory))
    wait_until(lambda: not is_free(middle, socket.SOCK_STREAM), "chisel's reverse port")
    client, local = _listens(
        stage, "chisel-client", lambda port: [program, "client", url, f"{HOST}:{port}:{HOST}:{middle}"]
    )
    return Target("chisel", local, {"client": client, "server": server, "agent": agent})


def table(rounds: dict[str, list[Measured]], size: int) -> list[dict[str, object]]:
    """The rows: one for each target, and below it one for each of its processes."""
    giga = size / 1e9
    rows: list[dict[str, object]] = []
    for name, measured in rounds.items():
        rows.append(
            {
                "name": name,
                "up MB/s": median(size / 1e6 / one.up_s for one in measured),
                "down MB/s": median(size / 1e6 / one.down_s for one in measured),
                "echo us": median(one.echo_s * 1e6 for one in measured),
            }
        )
        rows += [
            {
                "name": f"  {hop}",
                "up CPU s/GB": median(one.up_cpu_s[hop] / giga for one in measured),
                "down CPU s/GB": median(one.down_cpu_s[hop] / giga for one in measured),
            }
            for hop in measured[0].up_cpu_s
        ]
    return rows


def show(rows: Sequence[dict[str, object]]) -> str:
    """The rows as text."""
    columns = ["up MB/s", "down MB/s", "echo us", "up CPU s/GB", "down CPU s/GB"]
    lines = [f"{'':<20}" + "".join(f"{column:>15}" for column in columns)]
    for row in rows:
        cells = (row.get(column) for column in columns)
        lines.append(f"{row['name']:<20}" + "".join(f"{'' if cell is None else f'{cell:.2f}':>15}" for cell in cells))
    return "\n".join(line.rstrip() for line in lines)


def run(arguments: argparse.Namespace, directory: Path) -> list[dict[str, object]]:
    """Measure all targets, round for round; the rows of the table."""
    size: int = arguments.megabytes * 1_000_000
    (directory / "tls").mkdir()
    service = Service()
    with open_stage(directory) as stage, open_stage(directory / "tls", Tls.make(directory)) as secure:
        progress("starting")
        targets = [
            through_socat(stage, service),
            through_pico(stage, service, "pico"),
            through_pico(secure, service, "pico, TLS"),
        ]
        if arguments.chisel:
            targets.append(through_chisel(stage, service, os.path.abspath(arguments.chisel)))
        rounds: dict[str, list[Measured]] = {target.name: [] for target in targets}
        for target in targets:
            measure(target, min(size, 50_000_000))
        for number in range(arguments.repeat):
            for target in targets:
                progress(f"round {number + 1}: {target.name}")
                rounds[target.name].append(measure(target, size))
        progress("")
    service.close()
    return table(rounds, size)


def main() -> None:
    """The command."""
    parser = Options(__doc__)
    parser.number("--megabytes", 1000, "of a transfer")
    parser.number("--repeat", 3, "rounds; figures are medians")
    parser.add_argument("--chisel", metavar="FILE", help="the program of chisel, to be measured beside")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.read()
    setting = {"Python": platform.python_version(), "CPUs": len(os.sched_getaffinity(0)), "rounds": arguments.repeat}
    with tempfile.TemporaryDirectory(prefix="pico-tcp-") as made:
        rows = run(arguments, Path(made))
    if arguments.json:
        print(json.dumps({"setting": setting, "rows": rows}, indent=2))
    else:
        print(", ".join(f"{name} {value}" for name, value in setting.items()), show(rows), sep="\n\n")


if __name__ == "__main__":
    sys.exit(exit_status(main))
