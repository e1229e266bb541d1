"""Builds a Debian package that brings all of its Python along. Run by `make deb`.

    python -m tools.deb [--out dist] [--revision 1]

Debian's own packages of Twisted, cryptography and others are older than what Pico needs, so the package has a virtual
environment of its own in /usr/lib/pico-twisted, on the interpreter of the system: it is for the release of Debian that
it is built on. Nothing else of the machine is used by it. Built with dpkg-deb alone, as nobody special.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pico_twisted

ROOT: Final = Path(__file__).resolve().parents[1]
DEBIAN: Final = ROOT / "packaging" / "debian"
NAME: Final = "pico-twisted"
HOME: Final = f"/usr/lib/{NAME}"
PYTHON: Final = "/usr/bin/python3"
COMMANDS: Final = ("pico-agent", "pico-node", "picoctl")
UNITS: Final = ("pico.service", "pico.socket", "pico-agent.service", "pico-forward.service")
SHARED: Final = {
    "share/bash-completion/completions": "/usr/share/bash-completion/completions",
    "share/fish/vendor_completions.d": "/usr/share/fish/vendor_completions.d",
    "share/zsh/site-functions": "/usr/share/zsh/vendor-completions",
}
"""What shells look for elsewhere than in the environment, where pip put it: its place there, and in the system."""
SCRIPTS: Final = ("postinst", "prerm", "postrm")
_UNWANTED: Final = ("direct_url.json", "INSTALLER", "REQUESTED", ".gitignore")  # the first has this checkout's path


def build(out: Path, revision: str) -> Path:
    """Build the package.

    Args:
        out: directory that gets it.
        revision: of the package, behind the version of Pico.

    Returns:
        The file.
    """
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="pico-deb-") as scratch:
        stage = Path(scratch, "stage")
        stage.mkdir(mode=0o755)
        _environment(stage)
        _files(stage)
        version = f"{pico_twisted.__version__}-{revision}"
        architecture = _said("dpkg", "--print-architecture")
        _control(stage, version, architecture)
        package = out / f"{NAME}_{version}_{architecture}.deb"
        _run("dpkg-deb", "--root-owner-group", "-Zxz", "--build", str(stage), str(package))
    return package


def _environment(stage: Path) -> None:
    """The virtual environment, as if it had been made where it will be."""
    home = stage / HOME.lstrip("/")
    _run(PYTHON, "-m", "venv", "--without-pip", str(home))
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--python", str(home / "bin/python3"))
    pinned = ("--constraint", str(ROOT / "constraints.txt"))
    _run(*pip, "install", "--no-compile", "--no-warn-script-location", *pinned, f"{ROOT}[http2]")
    for path in [path for path in home.rglob("*") if path.name in _UNWANTED]:
        path.unlink()
    for path in [path for path in home.rglob("*") if path.name in ("__pycache__", "dropin.cache")]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    kept = {"python", "python3", *COMMANDS, "twistd"}
    for path in (home / "bin").iterdir():
        if path.name not in kept and not path.is_symlink():
            path.unlink()
    for path in ((home / "bin" / name) for name in (*COMMANDS, "twistd")):
        path.write_text(re.sub(r"\A#!.*", f"#!{HOME}/bin/python3", path.read_text()))
    config = home / "pyvenv.cfg"
    lines = [line for line in config.read_text().splitlines() if not line.startswith("command")]
    config.write_text("\n".join(lines) + "\n")


def _files(stage: Path) -> None:
    """Commands, units, configuration and documents."""

    def place(name: str) -> Path:
        path = stage / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    for command in COMMANDS:
        place(f"/usr/bin/{command}").symlink_to(f"../lib/{NAME}/bin/{command}")
    for unit in UNITS:
        text = (ROOT / "etc" / "systemd" / unit).read_text()
        place(f"/lib/systemd/system/{unit}").write_text(text.replace("/opt/pico/venv/bin/", f"{HOME}/bin/"))
    for config in ("pico.yaml", "pico-agent.yaml"):
        shutil.copyfile(ROOT / "etc" / config, place(f"/etc/pico/{config}"))
    _shared(stage / HOME.lstrip("/"), place)
    shutil.copyfile(ROOT / "etc/logrotate/pico", place(f"/usr/share/doc/{NAME}/examples/logrotate"))
    shutil.copyfile(DEBIAN / "lintian-overrides", place(f"/usr/share/lintian/overrides/{NAME}"))
    copyright = (DEBIAN / "copyright").read_text() + _licence()
    place(f"/usr/share/doc/{NAME}/copyright").write_text(copyright)
    for source, name in ((ROOT / "CHANGELOG.md", "changelog.gz"), (DEBIAN / "changelog", "changelog.Debian.gz")):
        place(f"/usr/share/doc/{NAME}/{name}").write_bytes(gzip.compress(source.read_bytes(), 9, mtime=0))


def _shared(home: Path, place: Callable[[str], Path]) -> None:
    """Manual pages and completions, of the commands that the package has on the path."""
    for here, there in SHARED.items():
        for path in (home / here).iterdir():
            if "twistd" not in path.name:
                shutil.copyfile(path, place(f"{there}/{path.name}"))
    for path in (home / "share/man").glob("man*/pico*"):
        place(f"/usr/share/man/{path.parent.name}/{path.name}.gz").write_bytes(
            gzip.compress(path.read_bytes(), 9, mtime=0)
        )
    for path in (home / "share").iterdir():
        if path.name != "pico_twisted":
            shutil.rmtree(path)


def _licence() -> str:
    """The text of the licence as a copyright file has it."""
    text = (ROOT / "LICENSE").read_text().split("\n\n", 2)[2]
    return "".join(f" {line or '.'}\n" for line in text.strip().splitlines())


def _control(stage: Path, version: str, architecture: str) -> None:
    directory = stage / "DEBIAN"
    directory.mkdir()
    files = sorted(_regular(stage))
    minor = int(_said(PYTHON, "-c", "import sys; print(sys.version_info.minor)"))
    values = {
        "VERSION": version,
        "ARCHITECTURE": architecture,
        "PYTHON": f"3.{minor}",
        "NEXT_PYTHON": f"3.{minor + 1}",
        "SIZE": str(sum(path.stat().st_size for path in files) // 1024),
        "MAINTAINER": f"{os.environ.get('DEBFULLNAME', 'Pico on Twisted authors')}"
        f" <{os.environ.get('DEBEMAIL', 'root@localhost')}>",
    }
    control = re.sub(r"@([A-Z_]+)@", lambda found: values[found[1]], (DEBIAN / "control.in").read_text())
    (directory / "control").write_text(control)
    sums = (f"{hashlib.md5(path.read_bytes()).hexdigest()}  {path.relative_to(stage)}\n" for path in files)
    (directory / "md5sums").write_text("".join(sums))
    configuration = (f"/{path.relative_to(stage)}\n" for path in files if path.is_relative_to(stage / "etc"))
    (directory / "conffiles").write_text("".join(configuration))
    for script in SCRIPTS:
        shutil.copyfile(DEBIAN / script, directory / script)
    executable = {stage / HOME.lstrip("/") / "bin", directory}
    for path in stage.rglob("*"):
        if not path.is_symlink():
            runs = path.is_dir() or (path.parent in executable and path.name not in ("control", "md5sums", "conffiles"))
            path.chmod(0o755 if runs else 0o644)


def _regular(stage: Path) -> Iterator[Path]:
    for path in stage.rglob("*"):
        if path.is_file() and not path.is_symlink() and not path.is_relative_to(stage / "DEBIAN"):
            yield path


def _run(*command: str) -> None:
    subprocess.run(command, check=True)


def _said(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tools.deb", description="Build the Debian package.")
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="where it goes")
    parser.add_argument("--revision", default="1", help="of the package")
    options = parser.parse_args()
    print(build(options.out, options.revision))


if __name__ == "__main__":
    main()
