"""`picoctl cluster init`: the files of a new cluster, which only their owner may read, and which pass the check."""

from __future__ import annotations

import stat
import tarfile
from pathlib import Path

import pytest
from cryptography import x509

from pico_twisted.core.access.credentials_file import hash_of, read_tokens
from tests.ctl.harness import Done, picoctl
from tools.stage.archives import unpack

NODES = "10.0.0.1,n2.example.com,2001:db8::3"


def init(out: Path, *options: str) -> Done:
    """Make a cluster."""
    return picoctl("cluster", "init", "--nodes", NODES, "--out", str(out), *options)


def unpacked(archive: Path, into: Path) -> Path:
    """A directory with what is in an archive."""
    with tarfile.open(archive) as tar:
        assert {entry.mode for entry in tar.getmembers()} == {0o600}
        unpack(tar, into)
    return into


def test_what_is_made_passes_the_check(tmp_path: Path) -> None:
    """An archive for each node, whatever its address is, and one for agents: each is a configuration that is valid."""
    out, there = tmp_path / "out", tmp_path / "there"
    done = init(out, "--directory", str(there), "--public-url", "https://*.tunnel.example.com", "--name", "blue")
    assert done.returncode == 0, done.stderr
    assert {path.name for path in out.iterdir()} == {
        *("n1.tar.gz", "n2.tar.gz", "n3.tar.gz", "agent.tar.gz"),
        *("operator.token", "prometheus.token", "ca.pem", "ca-key.pem", "README"),
    }
    secrets = set()
    for number, host in enumerate(NODES.split(","), 1):
        config = unpacked(out / f"n{number}.tar.gz", there) / "pico.yaml"
        checked = picoctl("check", str(config))
        assert (checked.returncode, checked.stderr) == (0, ""), checked.stderr
        text = config.read_text()
        assert f"node_id: n{number}\n" in text and host in text and "https://*.tunnel.example.com" in text
        secrets.add((there / "cluster-secret").read_text())
        named = x509.load_pem_x509_certificate((there / "node.pem").read_bytes())
        names = named.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert host in [str(name.value) for name in names]
    assert len(secrets) == 1
    unpacked(out / "agent.tar.gz", there)
    checked = picoctl("check", "--agent", str(there / "pico-agent.yaml"))
    assert (checked.returncode, checked.stderr) == (0, ""), checked.stderr


def test_tokens_are_told_once(tmp_path: Path) -> None:
    """The nodes have hashes; each token is in one file alone, and is for what its name says."""
    out = tmp_path / "out"
    init(out)
    node = unpacked(out / "n1.tar.gz", tmp_path / "node")
    known, faults = read_tokens((node / "tokens").read_text())
    assert not faults
    agent = unpacked(out / "agent.tar.gz", tmp_path / "agent")
    for file, rules in (
        (out / "operator.token", ["admin:operate"]),
        (out / "prometheus.token", ["admin:read"]),
        (agent / "agent.token", ["listen:*"]),
    ):
        assert list(map(str, known[hash_of(file.read_text().strip().encode())].rules)) == rules


def test_nobody_else_reads_it(tmp_path: Path) -> None:
    """The directory and each file are for their owner alone, whatever the umask."""
    out = tmp_path / "out"
    init(out)
    assert stat.S_IMODE(out.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in out.iterdir()} == {0o600}


def test_nothing_is_written_over(tmp_path: Path) -> None:
    """A directory that is there already stays as it is: it may hold the key of a cluster that runs."""
    out = tmp_path / "out"
    init(out)
    before = {path: path.read_bytes() for path in out.iterdir()}
    done = init(out)
    assert (done.returncode, done.stderr) == (1, f"picoctl: {out} is there already, and is not written over\n")
    assert {path: path.read_bytes() for path in out.iterdir()} == before


@pytest.mark.parametrize(
    "options",
    [
        ("--nodes", "10.0.0.1,10.0.0.1"),
        ("--nodes", "10.0.0.1,"),
        ("--nodes", "10.0.0.1:8003"),
        ("--nodes", "a b"),
        ("--nodes", "10.0.0.1", "--public-url", "tunnel.example.com"),
        ("--nodes", "10.0.0.1", "--name", "a\nb"),
        ("--nodes", "10.0.0.1", "--directory", 'a"b'),
        ("--nodes", ",".join(f"n{number}" for number in range(101))),
    ],
)
def test_what_makes_no_sense_makes_nothing(tmp_path: Path, options: tuple[str, ...]) -> None:
    """It is told in words, with status 2, before anything is written."""
    done = picoctl("cluster", "init", *options, "--out", "out", cwd=tmp_path)
    assert done.returncode == 2 and done.stderr
    assert not list(tmp_path.iterdir())
