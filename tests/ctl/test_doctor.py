"""What the doctor makes of a machine, of a configuration, and of what a node tells; the network is in tests/system."""

from __future__ import annotations

import os
import pwd
import socket
import threading
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pico_twisted.ctl.doctor import sockets
from pico_twisted.ctl.doctor.configuration import named_files, read_configuration, written_in
from pico_twisted.ctl.doctor.lines import Line, Verdict, at_once
from pico_twisted.ctl.doctor.machine import disk_lines, kernel_lines, rights_lines
from pico_twisted.ctl.doctor.sockets import Unreached, ask_head, connect, resolve
from pico_twisted.ctl.samples import read_samples
from pico_twisted.ctl.versions import newest, older
from tests.ctl.harness import picoctl

NOW = datetime(2026, 11, 1, tzinfo=UTC)
NODE = """\
cluster:
  join: [n2.example.com]
  secret_files: [SECRET]
proxy: {access_log_file: /srv/log/pico/access.log}
"""


def verdicts(lines: Iterable[Line]) -> list[str]:
    """The colours of lines."""
    return [line.verdict.value for line in lines]


def proc(root: Path, **files: str) -> Path:
    """A root with files of `/proc`."""
    for name, text in files.items():
        path = root / "proc" / {"queue": "sys/net/core/somaxconn", "used": "sys/net/netfilter/nf_conntrack_count",
                                "most": "sys/net/netfilter/nf_conntrack_max", "memory": "sys/net/ipv4/tcp_mem",
                                "sockets": "net/sockstat"}[name]  # fmt: skip
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


@pytest.mark.parametrize(
    ("files", "wanted"),
    [
        ({}, ["green"]),
        ({"queue": "4096", "used": "5", "most": "100"}, ["green"]),
        ({"queue": "128"}, ["yellow"]),
        ({"used": "95", "most": "100"}, ["red"]),
        ({"memory": "100 200 300", "sockets": "sockets: used 9\nTCP: inuse 5 orphan 0 tw 0 alloc 6 mem 299"}, ["red"]),
        ({"memory": "100 200 300", "sockets": "TCP: inuse 5 mem 2"}, ["green"]),
        ({"queue": "none", "memory": "x"}, ["green"]),
    ],
)
def test_the_kernel(tmp_path: Path, files: dict[str, str], wanted: list[str]) -> None:
    """A short queue, a full table of connections and full TCP memory are told, each with what to set."""
    lines = list(kernel_lines(proc(tmp_path, **files)))
    assert verdicts(lines) == wanted
    assert all(line.cure for line in lines if line.verdict is not Verdict.GREEN)


def test_disks(tmp_path: Path) -> None:
    """Each disk is told once, and a directory that is not there not at all."""
    (tmp_path / "sub").mkdir()
    lines = list(disk_lines({str(tmp_path), str(tmp_path / "sub"), str(tmp_path / "none")}))
    assert len(lines) == 1 and str(tmp_path) in lines[0].words and "MiB free" in lines[0].words
    assert list(disk_lines({str(tmp_path / "none")})) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_file_rights(tmp_path: Path) -> None:
    """What the daemon's user cannot read is red, for the file or a directory above it; a secret that all can read is
    yellow; a file that is not there is told."""
    for part in reversed(tmp_path.parents):
        if not part.stat().st_mode & 0o001:
            part.chmod(part.stat().st_mode | 0o001)  # of pytest's own directories
    tmp_path.chmod(0o755)
    nobody = "nobody"
    secret = tmp_path / "secret"
    secret.write_text("x")
    secret.chmod(0o600)
    (line,) = rights_lines([(str(secret), True)], nobody)
    assert (line.verdict, str(secret) in line.words) == (Verdict.RED, True)
    os.chown(secret, pwd.getpwnam(nobody).pw_uid, -1)
    assert verdicts(rights_lines([(str(secret), True)], nobody)) == ["green"]
    secret.chmod(0o644)
    assert verdicts(rights_lines([(str(secret), True)], nobody)) == ["yellow"]
    tmp_path.chmod(0o700)
    (line,) = rights_lines([(str(secret), True)], nobody)
    assert line.words.endswith(f"(for {tmp_path})")
    assert verdicts(rights_lines([(str(tmp_path / "none"), False)], "root")) == ["red"]
    assert verdicts(rights_lines([], "no-such-user")) == ["red"]


def test_a_configuration(tmp_path: Path) -> None:
    """Which of the two it is for is seen in it; its files are found, and those that it has written are not read."""
    secret, file = tmp_path / "secret", tmp_path / "pico.yaml"
    secret.write_text("a-secret-of-the-cluster-that-is-long\n")
    file.write_text(NODE.replace("SECRET", str(secret)))
    config, lines = read_configuration(str(file), NOW, expand_env=False)
    assert config is not None and verdicts(lines) == ["green"] and "a node" in lines[0].words
    assert list(named_files(config)) == [(str(secret), True)]
    assert "/srv/log/pico" in written_in(config)
    file.write_text("listeners: [{endpoint: web, addr: 3000}]\n")
    config, lines = read_configuration(str(file), NOW, expand_env=False)
    assert config is not None and "an agent" in lines[0].words
    file.write_text("proxy: {timeout: soon}\nx: 1\n")
    config, lines = read_configuration(str(file), NOW, expand_env=False)
    assert config is None and verdicts(lines) == ["red", "red"]


def test_questions_have_their_time() -> None:
    """Each is asked beside the others, and one that hangs is left behind."""

    def fails() -> str:
        raise Unreached("no")

    over = threading.Event()

    def hangs() -> str:
        over.wait(60)
        return "b"

    found = at_once([lambda: "a", fails, hangs], 0.3)
    over.set()
    assert found[0] == "a" and isinstance(found[1], Unreached) and isinstance(found[2], TimeoutError)


def test_an_answer_that_comes_byte_by_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole head has one time: a server that sends a byte now and then does not hold the doctor up."""
    monkeypatch.setattr(sockets, "PATIENCE_S", 0.3)
    ours, theirs = socket.socketpair()
    ends = threading.Event()

    def drip() -> None:
        while not ends.wait(0.05):
            theirs.sendall(b"H")

    dripping = threading.Thread(target=drip)
    with ours, theirs:
        dripping.start()
        try:
            with pytest.raises(Unreached, match="answers nothing"):
                ask_head(ours, ["GET / HTTP/1.1"])
        finally:
            ends.set()
            dripping.join()


def test_what_is_no_server() -> None:
    """A name without address, a closed port, a port that says nothing of HTTP: in words, and none hangs."""
    with pytest.raises(Unreached, match="no address"):
        resolve("no-such-host.invalid")
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        with pytest.raises(Unreached, match="refused"):
            connect(*bound.getsockname())
    for said in (b"SSH-2.0-x\r\n", b"", b"HTTP/1.1 9999 x\r\n\r\n"):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            theirs.sendall(said)
            theirs.shutdown(socket.SHUT_WR)
            with pytest.raises(Unreached):
                ask_head(ours, ["GET / HTTP/1.1"])


def test_samples() -> None:
    """Samples are found by labels; what is no exposition has none."""
    samples = read_samples('# TYPE a gauge\na{x="1",y="2"} 3\na{x="2"} 4\n')
    assert samples.value("a", {"x": "2"}) == 4 and samples.value("a", {"x": "3"}) is None
    assert samples.value("b") is None and read_samples("<html>{") == read_samples("")


@pytest.mark.parametrize(
    ("version", "other", "before"),
    [("0.9", "0.10", True), ("0.1.0", "0.1", False), ("1", "0.9", False), ("", "1", False), ("x", "1", False)],
)
def test_versions(version: str, other: str, before: bool) -> None:
    """Versions are compared number by number; what is none is not older."""
    assert older(version, other) is before
    assert not (older(version, other) and older(other, version))
    assert newest([version, other]) == (other if before or not version[:1].isdigit() else version)


def test_nothing_answers() -> None:
    """Without a node the line says so and what to do; status 1."""
    done = picoctl("doctor", "--admin", "http://127.0.0.1:1")
    assert done.returncode == 1 and "red     admin port" in done.stdout and "nothing answers" in done.stdout
