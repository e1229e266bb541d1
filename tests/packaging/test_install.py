"""All commands are found however the project is installed: from its wheel, editable, and from a bare checkout.

Each way gets a fresh virtual environment. The dependencies in it are those of the environment that runs the tests,
linked, and Twisted is a copy, because a wheel's plugin lands in its directory. Nothing is downloaded.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from collections.abc import Callable
from email.parser import Parser
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import pico_twisted
from tools.stage.archives import unpack
from tools.stage.asking import get
from tools.stage.ports import free_port
from tools.stage.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
SOURCES = (
    "CHANGELOG.md",
    "LICENSE",
    "MANIFEST.in",
    "README.md",
    "etc",
    "pico_twisted",
    "pyproject.toml",
    "setup.cfg",
    "setup.py",
    "twisted",
)
SHARED = (
    "pico.yaml",
    "pico-agent.yaml",
    "systemd/pico.service",
    "systemd/pico-agent.service",
    "systemd/pico-forward.service",
    "logrotate/pico",
    "prometheus/prometheus.yml",
    "prometheus/pico.rules.yml",
    "grafana/cluster.json",
    "grafana/node.json",
    "grafana/agents.json",
)
"""What an operator finds in share/pico_twisted of the environment: the files of etc/."""
MOST_LINES = 77_500
"""The lines of Python that the wheel may have: what is added has to be worth what is read with it."""
OFFLINE = ("--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "--quiet")

Twistd = Callable[..., "subprocess.CompletedProcess[str]"]


class Environment:
    """A fresh virtual environment."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        venv.create(directory, with_pip=False, symlinks=True)
        self.python = directory / "bin" / "python"
        self.site = next(directory.glob("lib/python*/site-packages"))
        self.empty = directory / "empty"
        self.empty.mkdir()
        for kind in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
            for entry in Path(kind).iterdir():
                self._take(entry)

    def _take(self, entry: Path) -> None:
        target = self.site / entry.name
        if "pico_twisted" in entry.name or entry.suffix == ".pth" or target.exists():
            return
        if entry.name == "twisted":
            shutil.copytree(entry, target, ignore=shutil.ignore_patterns("dropin.cache", "pico_*.py", "test"))
        else:
            target.symlink_to(entry)

    def install(self, *arguments: str) -> None:
        pip = [sys.executable, "-m", "pip", "--python", str(self.python), "install", *OFFLINE]
        run([*pip, *arguments], cwd=self.empty)

    def shared(self, name: str) -> Path:
        """A file that is for the operator of an installation."""
        return self.directory / "share" / "pico_twisted" / name

    def command(self, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """One of our own commands."""
        return run([str(self.directory / "bin" / name), *arguments], cwd=self.empty)

    def picoctl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The console script, as it was installed."""
        return self.command("picoctl", *arguments)

    def twistd(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        program = "from twisted.scripts.twistd import run; run()"
        return run([str(self.python), "-c", program, *arguments], cwd=self.empty, **variables)


def run(command: list[str], *, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command without this environment's Python settings; it must end with status 0."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run(
        command, cwd=cwd, env={**clean, **variables}, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """The project as a clone has it: nothing built, nothing cached."""
    directory = tmp_path / "source"
    directory.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            ignore = shutil.ignore_patterns("__pycache__", "dropin.cache", "*.egg-info")
            shutil.copytree(ROOT / name, directory / name, ignore=ignore)
        else:
            shutil.copy(ROOT / name, directory / name)
    return directory


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    """A fresh environment in which Pico is not installed."""
    return Environment(tmp_path / "environment")


def build_wheel(source: Path) -> Path:
    """The project's wheel."""
    run([sys.executable, "-m", "pip", "wheel", *OFFLINE, "--wheel-dir", "dist", "."], cwd=source)
    (wheel,) = (source / "dist").glob("*.whl")
    return wheel


def assert_both_commands_work(environment: Environment, **variables: str) -> None:
    """twistd lists both, and both read their options; what they start with can be imported."""
    listed = environment.twistd("--help", **variables).stdout
    assert re.search(r"^ +pico +A Pico node", listed, re.MULTILINE)
    assert re.search(r"^ +pico-agent +A Pico agent", listed, re.MULTILINE)
    assert environment.twistd("-n", "pico", "--check", **variables).stdout == "configuration is valid\n"
    checked = environment.twistd("-n", "pico-agent", "--listen", "my-endpoint=3000", "--check", **variables)
    assert checked.stdout == "configuration is valid\n"
    program = "import pico_twisted.app.node, pico_twisted.app.agent"
    run([str(environment.python), "-c", program], cwd=environment.empty, **variables)


def assert_the_door_is_open(environment: Environment, **variables: str) -> None:
    """Twisted finds `pico:` in endpoint strings, programs find `Tunnel` and `expose`; pytest finds the fixture if the
    package is installed."""
    program = (
        "from twisted.internet import endpoints, task\n"
        "from twisted.internet.interfaces import IStreamServerEndpoint\n"
        "found = endpoints.serverFromString(task.Clock(), 'pico:demo')\n"
        "print(IStreamServerEndpoint.providedBy(found), found.config.listeners[0].endpoint)\n"
        "print(endpoints.clientFromString(task.Clock(), 'pico:db').name)\n"
        "from pico_twisted import Tunnel\n"
        "from pico_twisted.aio import expose\n"
    )
    done = run([str(environment.python), "-c", program], cwd=environment.empty, **variables)
    assert done.stdout == "True demo\ndb\n"
    if not variables:
        fixtures = run([str(environment.python), "-m", "pytest", "--fixtures", "-q", "."], cwd=environment.empty)
        assert "pico_url -- " in fixtures.stdout


def assert_own_commands_work(environment: Environment) -> None:
    """picoctl is on the path, and its subcommands find what they import; so are the daemons, since pipx shows only a
    package's own commands."""
    assert environment.command("pico-node", "--check").stdout == "configuration is valid\n"
    checked = environment.command("pico-agent", "--listen", "my-endpoint=3000", "--check")
    assert checked.stdout == "configuration is valid\n"
    assert environment.picoctl("--version").stdout == f"picoctl {pico_twisted.__version__}\n"
    (environment.empty / "pico.yaml").write_text("proxy: {timeout: 5s}\n", encoding="utf-8")
    assert environment.picoctl("check", "pico.yaml").stdout == "configuration is valid\n"


def assert_a_port_is_shared(environment: Environment) -> None:
    """`picoctl http` serves a port of this machine from any directory, with nothing activated and nothing around it,
    and leaves no file where it ran."""
    port = free_port()
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    site = subprocess.Popen(
        [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"],
        cwd=ROOT / "docs",
        stderr=subprocess.DEVNULL,
    )
    command = [str(environment.directory / "bin" / "picoctl"), "http", str(port), "--local", "--quiet"]
    elsewhere = environment.directory / "elsewhere"
    elsewhere.mkdir()
    env = {**clean, "PATH": "/usr/bin:/bin", "XDG_CONFIG_HOME": str(environment.directory / "config")}
    shared = subprocess.Popen(command, cwd=elsewhere, env=env, stdout=subprocess.PIPE, text=True)
    try:
        assert shared.stdout is not None
        url = urlsplit(shared.stdout.readline().strip())
        assert (url.hostname or "").endswith(".localhost")
        assert url.port
        wait_until(lambda: get(url.port or 0, "/index.md", {"host": url.netloc}).status == 200, "the page")
        shared.terminate()
        assert shared.wait(30) == 0
    finally:
        for process in (shared, site):
            process.kill()
            process.wait()
    assert not any(elsewhere.iterdir())


def test_without_an_installation_there_are_no_commands(environment: Environment) -> None:
    """The fresh environment is what it says: otherwise the other tests would prove nothing."""
    assert "pico" not in environment.twistd("--help").stdout


def test_from_the_wheel(source: Path, environment: Environment) -> None:
    """`pip install .`, and what is in the wheel: the package, no more of it than is allowed, and the files of etc/."""
    wheel = build_wheel(source)
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        lines = sum(archive.read(name).count(b"\n") for name in names if name.endswith(".py"))
        (metadata_name,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        metadata = Parser().parsestr(archive.read(metadata_name).decode())
    packaged = {str(path.relative_to(source)) for path in (source / "pico_twisted").rglob("*.py")}
    assert packaged <= names
    plugins = {"twisted/plugins/pico_dropin.py", "twisted/plugins/pico_endpoints.py"}
    assert {"pico_twisted/py.typed", "pico_twisted/__init__.pyi", *plugins} <= names
    assert not {"twisted/__init__.py", "twisted/plugins/__init__.py"} & names
    data = f"pico_twisted-{pico_twisted.__version__}.data"
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == {"pico_twisted", "twisted", data}
    print(f"{lines} lines of Python in the wheel")
    assert lines <= MOST_LINES
    assert any(name.endswith("LICENSE") for name in names)
    assert (metadata["Name"], metadata["Requires-Python"]) == ("pico_twisted", ">=3.11")
    assert "MIT" in (metadata["License"] or metadata["License-Expression"])
    assert {"test", "dev"} <= set(metadata.get_all("Provides-Extra", []))
    links = re.findall(r"\]\(([^)]*)\)", str(metadata.get_payload()))
    assert all(link.startswith("https://") for link in links), "a link that leads nowhere on PyPI"

    environment.install(str(wheel))
    assert_both_commands_work(environment)
    assert_own_commands_work(environment)
    assert_the_door_is_open(environment)
    assert_a_port_is_shared(environment)
    for name in SHARED:
        assert environment.shared(name).read_bytes() == (ROOT / "etc" / name).read_bytes()
    for daemon in ([], ["--agent"]):
        sample = environment.shared("pico-agent.yaml" if daemon else "pico.yaml")
        assert environment.picoctl("check", *daemon, str(sample)).stdout == "configuration is valid\n"


def test_from_the_sdist(tmp_path: Path) -> None:
    """The source distribution has all that the tests, the demo and the benchmarks need: every file of them is in it,
    pytest finds tests there, and the wheel that is built from it has the files of etc/."""
    clone = tmp_path / "clone"
    listed = run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).exists():
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, clone / name)
    run([sys.executable, "-c", "from setuptools.build_meta import build_sdist; build_sdist('dist')"], cwd=clone)
    (archive,) = (clone / "dist").glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        unpack(tar, tmp_path)
    (unpacked,) = tmp_path.glob("pico_twisted-*")
    for folder in ("benchmarks", "demo", "etc", "packaging", "tests", "tools"):
        of_clone, of_sdist = (
            {path.relative_to(top) for path in (top / folder).rglob("*") if path.is_file()} for top in (clone, unpacked)
        )
        assert of_clone == of_sdist
    collect = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", "tests/structure"]
    found = run(collect, cwd=unpacked, PYTHONPATH=str(unpacked)).stdout.splitlines()[-1]
    assert re.match(r"[0-9]{3,} tests collected", found), found
    with zipfile.ZipFile(build_wheel(unpacked)) as wheel:
        assert all(any(one.endswith(f"share/pico_twisted/{name}") for one in wheel.namelist()) for name in SHARED)


def test_editable(source: Path, environment: Environment) -> None:
    """`pip install -e .`, where the plugin is easily lost."""
    environment.install("--editable", str(source))
    assert_both_commands_work(environment)
    assert_own_commands_work(environment)
    assert_the_door_is_open(environment)


def test_a_bare_checkout(source: Path, environment: Environment) -> None:
    """Nothing installed, the project on `PYTHONPATH`."""
    assert_both_commands_work(environment, PYTHONPATH=str(source))
    assert_the_door_is_open(environment, PYTHONPATH=str(source))
