"""Programs that speak TCP of their own, through `picoctl forward` and two nodes: databases, shells, copies."""

from __future__ import annotations

import argparse
import contextlib
import getpass
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, Protocol

import attrs

from tools.stage.forwarders import PICOCTL, Forwarder, forwarder, reaching
from tools.stage.nodes import Node
from tools.stage.ports import HOST, free_port, is_free
from tools.stage.processes import Process, environment, find_program
from tools.stage.report import Report
from tools.stage.stage import Stage
from tools.stage.waiting import StageFailed, wait_until

OTHER_USER: Final = "postgres"
"""Who runs what refuses to run as root, when we are root. Debian's package postgresql makes it."""
CLIENTS: Final = 20
"""Of pgbench and redis-benchmark, at a time."""
COPIED_BYTES: Final = 1_000_000_000
"""What nc and socat copy."""
_TREE: Final = {"a": 10, "b/c": 300_000, "b/d": 0, "e": 5_000_000}  # files and their sizes, for rsync
_POSTGRES: Final = Path("/usr/lib/postgresql")


class Scene(Protocol):
    """What a part is given: the first node has the agents, the second one the clients."""

    stage: Stage
    nodes: dict[str, Node]


def _as_other_user() -> tuple[list[str], str]:
    """What a command begins with to run as somebody who is not root, and who that is."""
    if os.geteuid():
        return [], getpass.getuser()
    return ["setpriv", f"--reuid={OTHER_USER}", f"--regid={OTHER_USER}", "--clear-groups", "--"], OTHER_USER


@contextlib.contextmanager
def _directory() -> Iterator[Path]:
    """A directory of that somebody."""
    with tempfile.TemporaryDirectory(prefix="pico-programs-") as made:
        directory = Path(made)
        if not os.geteuid():
            shutil.chown(directory, OTHER_USER, OTHER_USER)
        yield directory


def _ran(command: Sequence[str], *, stdin: str = "", seconds: float = 60, cwd: Path | None = None) -> str:
    """What a program wrote on both streams, behind its exit status when that is not 0."""
    done = subprocess.run(
        list(command),
        cwd=cwd or "/",
        env=environment(PGCONNECT_TIMEOUT="30"),
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=seconds,
        check=False,
    )
    return done.stdout if done.returncode == 0 else f"exit status {done.returncode}: {done.stdout}"


def _server(stage: Stage, name: str, command: Callable[[int], list[str]]) -> int:
    """Start a server on a free port; the port, once it listens."""
    port = free_port()

    def start() -> Process:
        nonlocal port
        port = free_port()
        return Process(name, command(port), stage.directory)

    def ready(process: Process) -> None:
        # (not by a connection: some servers log those that say nothing, or take one only)
        process.wait_until(lambda: not is_free(port), f"{name} to listen")

    stage.started(start, ready)
    return port


def _forwarded(here: Scene, endpoint: str, port: int) -> Forwarder:
    """Clients of the second node reach a port by an agent at the first one; what forwards to it."""
    first, second = here.nodes["one node"], here.nodes["two nodes"]
    here.stage.agent(first, {endpoint: {"addr": f"{HOST}:{port}", "protocol": "tcp"}}, name=f"{endpoint}-agent")
    wait_until(lambda: endpoint in _known(second, first), f"{second.name} to know of {endpoint}")
    return forwarder(here.stage, second, [endpoint])


def _known(node: Node, of: Node) -> str:
    """What a node knows of another one."""
    return str(node.admin.try_json(f"/status/cluster/nodes/{of.name}"))


def _no_word(forward: Forwarder, report: Report) -> None:
    """Nothing was refused or cut."""
    said = [line for line in forward.output.splitlines() if " -> " not in line and " answers, and lets us " not in line]
    report.check("no connection was refused or cut", not said, "; ".join(said[:3]))


def postgres(here: Scene, options: argparse.Namespace, report: Report) -> None:
    """psql and pgbench, 20 clients for --seconds, while a third node is killed and comes back."""
    programs = sorted(_POSTGRES.glob("*/bin"))
    if not programs:
        raise StageFailed("postgresql is not installed (on Debian: apt-get install postgresql)")
    become, _ = _as_other_user()
    stage, first = here.stage, here.nodes["one node"]
    third = stage.node("n3", {"cluster": {"join": [f"{HOST}:{first.ports.gossip}"]}})
    with _directory() as directory:
        data = str(directory / "data")
        made = _ran([*become, str(programs[-1] / "initdb"), "-D", data, "-A", "trust", "-U", "pico", "--no-sync"])
        report.check("initdb", "exit status" not in made, made[-500:])
        settings = [f"unix_socket_directories={directory}", "fsync=off", "logging_collector=off"]
        flags = [word for setting in settings for word in ("-c", setting)]
        serve = [*become, str(programs[-1] / "postgres"), "-D", data, "-h", HOST, *flags]
        port = _server(stage, "postgres", lambda port: [*serve, "-p", str(port)])
        forward = _forwarded(here, "db", port)
        reached = ["-h", HOST, "-p", str(forward.port()), "-U", "pico", "postgres"]
        wait_until(lambda: "1 row" in _ran(["psql", *reached, "-c", "select 1"]), "postgres to take connections")
        rows = _ran(["psql", *reached, "-Atc", "select repeat('x', 999) from generate_series(1, 50000)"])
        report.check("psql: 50 MB of rows", len(rows) == 50_000_000, f"{len(rows)} bytes, {rows[:200]}")
        filled = _ran(["pgbench", "-i", "-s", "5", *reached])
        report.check("pgbench -i", "exit status" not in filled, filled[-500:])
        command = ["pgbench", "-c", str(CLIENTS), "-j", "2", "-T", str(options.seconds), *reached]
        with stage_run(stage, "pgbench", command) as bench:
            stage.remove(third)
            _while(bench, 3.0)
            again = stage.node("n3", third.settings, ports=third.ports)
            _while(bench, options.seconds + 30.0)
            said = bench.output
        report.check("pgbench ends with status 0", bench.exit_status == 0, said[-500:])
        report.check("and no transaction failed", "number of failed transactions: 0 " in said, said[-500:])
        for line in said.splitlines():
            if line.startswith(("tps", "latency average", "number of transactions actually")):
                print(f"    {line}")
        apart = forwarder(stage, [here.nodes["two nodes"], again], ["db"])
        stage.remove(again)
        reached[3] = str(apart.port())
        told = [_ran(["psql", *reached, "-Atc", "select 42"]) for _ in range(10)]
        report.check("while a node is away others take its connections", told == ["42\n"] * 10, str(told))
        _no_word(forward, report)


@contextlib.contextmanager
def stage_run(stage: Stage, name: str, command: Sequence[str]) -> Iterator[Process]:
    """A program that runs beside others, and is ended with the block."""
    process = stage.add(Process(name, command, stage.directory))
    yield process
    stage.remove(process)


def _while(process: Process, seconds: float) -> None:
    """Let a program run for so long, or until it ends."""
    with contextlib.suppress(StageFailed):
        wait_until(lambda: not process.running, f"the end of {process.name}", seconds)


def redis(here: Scene, options: argparse.Namespace, report: Report) -> None:
    """redis-cli and redis-benchmark, over a port and a unix socket."""
    server = find_program("redis-server", "redis-server")
    serve = [server, "--bind", HOST, "--save", "", "--appendonly", "no", "--dir", str(here.stage.directory)]
    port = _server(here.stage, "redis", lambda port: [*serve, "--port", str(port)])
    forward = _forwarded(here, "cache", port)
    cli = ["redis-cli", "-p", str(forward.port())]
    report.check("redis-cli", _ran([*cli, "ping"]) == "PONG\n")
    large = "x" * 5_000_000
    said = _ran([*cli, "-x", "set", "large"], stdin=large) + _ran([*cli, "get", "large"])
    report.check("a value of 5 MB there and back", said == f"OK\n{large}\n", said[:100])
    sets = "".join(f"SET key{number} {number}\r\n" for number in range(50_000))
    piped = _ran([*cli, "--pipe"], stdin=sets)
    report.check("redis-cli --pipe", "errors: 0, replies: 50000" in piped, piped)
    path = here.stage.directory / "cache"
    with stage_run(
        here.stage,
        "unix",
        [*PICOCTL, "forward", f"unix:{path}", "cache", *reaching([here.nodes["two nodes"]])],
    ) as over_unix:
        over_unix.wait_until(path.exists, "its socket")
        report.check("redis-cli over a unix socket", _ran(["redis-cli", "-s", str(path), "get", "key7"]) == "7\n")
    for what, flags in (("", []), (" with pipelines", ["-P", "16"]), (" of 100 kB", ["-d", "100000", "-n", "4000"])):
        command = ["redis-benchmark", "-p", str(forward.port()), "-c", str(CLIENTS), "-t", "set,get", "-q"]
        said = _ran([*command, "-n", "40000", *flags], seconds=120).replace("\r", "\n")
        told = [line for line in said.splitlines() if "requests per second" in line]
        report.check(f"redis-benchmark{what}", len(told) == 2 and "rror" not in said, said[-300:])
        print("".join(f"    {line}\n" for line in told), end="")
    _no_word(forward, report)


def ssh(here: Scene, options: argparse.Namespace, report: Report) -> None:
    """ssh by a port and as a ProxyCommand, and rsync."""
    sshd = find_program("sshd", "openssh-server")
    become, user = _as_other_user()
    with _directory() as served:
        mine = here.stage.directory
        for file in (served / "host", mine / "key"):
            made = _ran(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(file)])
            report.check(f"ssh-keygen {file.name}", not made, made)
        (served / "allowed").write_text((mine / "key.pub").read_text())
        if not os.geteuid():
            for file in served.iterdir():
                shutil.chown(file, OTHER_USER, OTHER_USER)
        config = {
            "HostKey": served / "host",
            "AuthorizedKeysFile": served / "allowed",
            "PidFile": "none",
            "StrictModes": "no",
            "UsePAM": "no",
        }
        flags = [word for name, value in config.items() for word in ("-o", f"{name}={value}")]
        serve = [*become, sshd, "-D", "-e", "-f", "/dev/null", *flags]
        port = _server(here.stage, "sshd", lambda port: [*serve, "-o", f"ListenAddress={HOST}:{port}"])
        forward = _forwarded(here, "ssh", port)
        known = f"{HOST} {(served / 'host.pub').read_text()}"
        (mine / "known").write_text(known + known.replace(HOST, "ssh.example"))
        client = ["-F", "none", "-i", str(mine / "key"), "-o", f"UserKnownHostsFile={mine / 'known'}"]
        client += [
            "-o",
            "StrictHostKeyChecking=yes",
            "-o",
            "BatchMode=yes",
            "-o",
            "NoHostAuthenticationForLocalhost=yes",
        ]
        by_port = ["ssh", *client, "-p", str(forward.port()), f"{user}@{HOST}"]
        text = "".join(f"line {number}\n" for number in range(500_000))
        report.check("ssh: whose shell", _ran([*by_port, "id -un"]) == f"{user}\n", _ran([*by_port, "id -un"]))
        report.check("ssh: 6 MB through cat", _ran([*by_port, "cat"], stdin=text) == text)
        report.check("ssh: its exit status", _ran([*by_port, "exit 7"]).startswith("exit status 7"))
        command = " ".join([f"'{PICOCTL[0]}' -c '{PICOCTL[2]}' forward - ssh", *reaching([here.nodes["two nodes"]])])
        proxied = ["ssh", *client, "-o", f"ProxyCommand={command}", f"{user}@ssh.example"]
        report.check("ssh: ProxyCommand with -", _ran([*proxied, "cat"], stdin=text) == text)
        _rsync(" ".join(by_port[:-1]), f"{user}@{HOST}:{served}/copy/", mine / "tree", served / "copy", report)
        _no_word(forward, report)


def _rsync(shell: str, target: str, tree: Path, copy: Path, report: Report) -> None:
    for name, size in _TREE.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(os.urandom(size))
    command = ["rsync", "-a", "--no-o", "--no-g", "--stats", "-e", shell, f"{tree}/", target]
    first = _ran(command)
    same = all((copy / name).read_bytes() == (tree / name).read_bytes() for name in _TREE)
    report.check("rsync: a tree of files", same, first)
    (tree / "a").write_bytes(b"changed")
    again = _ran(command)
    moved = "Number of regular files transferred: 1\n" in again and (copy / "a").read_bytes() == b"changed"
    report.check("rsync: again, what has changed", moved, again)


def copies(here: Scene, options: argparse.Namespace, report: Report) -> None:
    """nc copies 1 GB either way, and socat does."""
    nc, socat = find_program("nc", "netcat-openbsd"), find_program("socat", "socat")
    large, digest = here.stage.directory / "large", hashlib.sha256()
    with large.open("wb") as file:
        for _ in range(COPIED_BYTES // 10_000_000):
            piece = os.urandom(10_000_000)
            digest.update(piece)
            file.write(piece)
    wanted = digest.hexdigest()
    for name, commands in (
        (
            "nc",
            Copying(
                take=f"exec {nc} -l {HOST} PORT < /dev/null",
                give=f"exec {nc} -N {HOST} PORT < {large}",
                fetch=f"{nc} {HOST} PORT < /dev/null",
                offer=f"exec {nc} -N -l {HOST} PORT < {large}",
            ),
        ),
        (
            "socat",
            Copying(
                take=f"exec {socat} -u TCP-LISTEN:PORT,bind={HOST} -",
                give=f"exec {socat} -u FILE:{large} TCP:{HOST}:PORT",
                fetch=f"{socat} -u TCP:{HOST}:PORT -",
                offer=f"exec {socat} -u FILE:{large} TCP-LISTEN:PORT,bind={HOST}",
            ),
        ),
    ):
        said = _there(here, name, commands)
        report.check(f"{name}: 1 GB there", said.startswith(wanted), said)
        said = _back(here, name, commands)
        report.check(f"{name}: 1 GB back", said.startswith(wanted), said)


@attrs.frozen(kw_only=True)
class Copying:
    """How a program copies: lines for a shell, with PORT for the number of a port.

    Attributes:
        take: a server that writes what it gets to stdout.
        give: a client that sends the file.
        fetch: a client that writes what it gets to stdout.
        offer: a server that sends the file.
    """

    take: str
    give: str
    fetch: str
    offer: str


def _there(here: Scene, name: str, commands: Copying) -> str:
    """What sha256sum says of a copy at a server."""
    copied = here.stage.directory / "copied"

    def command(port: int) -> list[str]:
        return ["sh", "-c", f"{commands.take.replace('PORT', str(port))} > {copied}"]

    port = _server(here.stage, f"{name}-takes", command)
    taker = here.stage.processes[-1]
    forward = _forwarded(here, f"{name}-up", port)
    said = _ran(["sh", "-c", commands.give.replace("PORT", str(forward.port()))], seconds=300)
    wait_until(lambda: not taker.running, f"{name} to have it all")
    return _ran(["sha256sum", str(copied)]) + said


def _back(here: Scene, name: str, commands: Copying) -> str:
    """What sha256sum says of a copy of what a server has."""
    port = _server(here.stage, f"{name}-gives", lambda port: ["sh", "-c", commands.offer.replace("PORT", str(port))])
    forward = _forwarded(here, f"{name}-down", port)
    fetch = commands.fetch.replace("PORT", str(forward.port()))
    return _ran(["sh", "-c", f"{fetch} | sha256sum"], seconds=300)


PARTS: Final = {"postgres": postgres, "redis": redis, "ssh": ssh, "copies": copies}
"""The parts by their names."""
PROGRAMS: Final = {"postgres": "pgbench", "redis": "redis-benchmark", "ssh": "rsync", "copies": "socat"}
"""A program that each of them needs."""
