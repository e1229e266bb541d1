"""`picoctl check`: the same verdict as the daemons' own --check, without starting anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.ctl.harness import picoctl
from tools.stage.certificates import make
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


def tls(directory: Path, days: tuple[int, int]) -> str:
    """A node's file with a certificate that is valid for so long, from when until when."""
    made = make(directory, "own", days=days)
    return write(directory, f"proxy: {{tls: {{cert: {made.cert_file}, key: {made.key_file}}}}}\n")


def test_certificates_are_opened(tmp_path: Path) -> None:
    """An expired one is a fault, at its line of the file; one that soon expires is a warning, and the file is valid."""
    path = tls(tmp_path, (-9, -2))
    done = picoctl("check", path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f'picoctl: proxy.tls.cert ({path}:1): found "{tmp_path}/own.pem", which expired on')
    done = picoctl("check", tls(tmp_path, (-9, 5)))
    assert (done.returncode, done.stdout) == (0, "configuration is valid\n")
    assert done.stderr.startswith(f'picoctl: warning: proxy.tls.cert: "{tmp_path}/own.pem" expires on ')


def test_as_another_user(tmp_path: Path) -> None:
    """Root checks what the daemon's user may read: a secret of root's alone is a fault then, and says whose it is."""
    for parent in (tmp_path, *tmp_path.parents[:3]):
        parent.chmod(0o755)
    (tmp_path / "secret").write_text("s" * 20)
    (tmp_path / "secret").chmod(0o600)
    path = write(tmp_path, f"cluster: {{secret_files: [{tmp_path}/secret]}}\n")
    assert picoctl("check", path).returncode == 0
    done = picoctl("check", "--as", "nobody", path, own_process=True)
    assert done.returncode == 1
    assert "this process runs as nobody, the file is root's, mode 600" in done.stderr
    done = picoctl("check", "--as", "who-is-that", path)
    assert done.returncode == 2 and "there is no user 'who-is-that'" in done.stderr
