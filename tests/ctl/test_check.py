"""`picoctl check`: the same verdict as the daemons' own --check, without starting anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.ctl.harness import picoctl
from tools.stage.processes import ROOT

NODE = "proxy: {timeout: 5s}\ncluster: {node_id: n1}\n"
AGENT = "agent_id: a1\nlisteners:\n- {endpoint: my-endpoint, addr: 3000}\n"


def write(directory: Path, text: str) -> str:
    path = directory / "some.yaml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize(("text", "flags"), [(NODE, ()), ("", ()), (AGENT, ("--agent",))])
def test_valid(tmp_path: Path, text: str, flags: tuple[str, ...]) -> None:
    """A valid file is status 0 and says so."""
    done = picoctl("check", write(tmp_path, text), *flags)
    assert (done.returncode, done.stdout, done.stderr) == (0, "configuration is valid\n", "")


def test_the_samples() -> None:
    """The samples in etc/ are valid."""
    assert picoctl("check", str(ROOT / "etc" / "pico.yaml")).returncode == 0
    assert picoctl("check", "--agent", str(ROOT / "etc" / "pico-agent.yaml")).returncode == 0


def test_faults(tmp_path: Path) -> None:
    """Every fault is one line on stderr with its place, what was found and what was expected; status 1."""
    path = write(tmp_path, "proxy: {timeout: soon}\nunknown: 1\nlog: {level: loud}\nlisteners: []\n")
    done = picoctl("check", path)
    assert (done.returncode, done.stdout) == (1, "")
    lines = done.stderr.splitlines()
    assert len(lines) == 4
    for key, number in (("proxy.timeout", 1), ("unknown", 2), ("log.level", 3), ("listeners", 4)):
        (line,) = [line for line in lines if line.startswith(f"picoctl: {key} ({path}:{number}): ")]
        assert "found" in line and "expected" in line


@pytest.mark.parametrize("name", ["missing.yaml", "", ".", "\x1b[2J"])
def test_unreadable(tmp_path: Path, name: str) -> None:
    """A file that cannot be read is one line, and status 1."""
    done = picoctl("check", name, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1 and "\x1b" not in done.stderr
    assert done.stderr.startswith("picoctl: file: found ")


@pytest.mark.parametrize(
    ("text", "flags", "words"),
    [
        (AGENT, (), "{file} is a file of pico-agent (it has agent_id, listeners): picoctl check --agent {file}"),
        ("connect: {url: 7}\n", (), "{file} is a file of pico-agent (it has connect): picoctl check --agent {file}"),
        (NODE, ("--agent",), "{file} is a file of pico (it has cluster, proxy): picoctl check {file}"),
    ],
)
def test_the_other_daemons_file(tmp_path: Path, text: str, flags: tuple[str, ...], words: str) -> None:
    """A file that is for the other daemon is told as such, with the command that checks it."""
    path = write(tmp_path, text)
    done = picoctl("check", *flags, path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"picoctl: {words.format(file=path)}\n"


def test_environment(tmp_path: Path) -> None:
    """Variables are replaced when asked for, and only then."""
    path = write(tmp_path, "cluster: {node_id: '${PICO_TEST_NAME:n 1}'}\nproxy: {timeout: '${PICO_TEST_TIMEOUT}'}\n")
    assert "cluster.node_id" in picoctl("check", path).stderr
    done = picoctl("check", "--expand-env", path)
    assert done.returncode == 1
    assert "PICO_TEST_TIMEOUT" in done.stderr and "cluster.node_id" in done.stderr
    done = picoctl("check", "--expand-env", path, PICO_TEST_NAME="n1", PICO_TEST_TIMEOUT="5s")
    assert (done.returncode, done.stdout) == (0, "configuration is valid\n")


def test_secrets_are_not_shown(tmp_path: Path) -> None:
    """A secret with a fault is told without its value."""
    done = picoctl("check", "--agent", write(tmp_path, AGENT + "connect: {token: 'sesame open'}\n"))
    assert done.returncode == 1
    assert "connect.token" in done.stderr and "sesame" not in done.stderr
