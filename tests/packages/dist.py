"""Builds what goes to PyPI, and uses the source distribution as somebody who has nothing else. Run by `make dist`.

    python -m tests.packages.dist

Needs the network, for build and twine from PyPI. The files are left in dist/. The exit status is 1 when anything is
wrong.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import Final

from tests.packages.programs import programs
from tools.stage.archives import unpack
from tools.stage.processes import ROOT

NOT_IN_IT: Final = {".gitignore", ".git-blame-ignore-revs"}
"""Files that git knows and a source distribution has no use for; so it is with those of .github."""
BEGINNINGS: Final = (("make", "demo"), ("make", ".venv/.installed-test"))
"""Commands that have to work in an unpacked source distribution."""
SOME_TESTS: Final = (".venv/bin/python", "-m", "pytest", "-q", "tests/config")


def build(bin_directory: Path, out: Path) -> tuple[Path, Path]:
    """Build both.

    Args:
        bin_directory: where the programs are.
        out: directory that gets them.

    Returns:
        The source distribution and the wheel, which is made from it.
    """
    subprocess.run([str(bin_directory / "python"), "-m", "build", "--outdir", str(out), str(ROOT)], check=True)
    (sdist,), (wheel,) = out.glob("*.tar.gz"), out.glob("*.whl")
    return sdist, wheel


def missing_from(sdist: Path) -> list[str]:
    """Files of the checkout that the source distribution has not."""
    with tarfile.open(sdist) as tar:
        there = {name.partition("/")[2] for name in tar.getnames()}
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    wanted = {name for name in listed.splitlines() if not name.startswith(".github/") and (ROOT / name).exists()}
    return sorted(wanted - there - NOT_IN_IT)


def begins(sdist: Path) -> bool:
    """Whether the demo and tests run in the source distribution."""
    with tempfile.TemporaryDirectory(prefix="pico-sdist-") as scratch:
        with tarfile.open(sdist) as tar:
            unpack(tar, scratch)
        (unpacked,) = Path(scratch).iterdir()
        for command in (*BEGINNINGS, SOME_TESTS):
            done = subprocess.run(command, cwd=unpacked, capture_output=True, text=True, check=False)
            print(f"{' '.join(command)} in the source distribution: {'no' if done.returncode else 'yes'}", flush=True)
            if done.returncode:
                print(done.stdout[-4000:] + done.stderr[-4000:], file=sys.stderr)
                return False
    return True


def main() -> int:
    """Build and look. Returns the exit status."""
    with programs("build", "twine") as found, tempfile.TemporaryDirectory(prefix="pico-dist-") as scratch:
        sdist, wheel = build(found, Path(scratch))
        twine = [str(found / "twine"), "check", "--strict", str(sdist), str(wheel)]
        checked = subprocess.run(twine, capture_output=True, text=True, check=False)
        print(checked.stdout.strip())
        missing = missing_from(sdist)
        print(f"{wheel.name}: {len(zipfile.ZipFile(wheel).namelist())} files; {sdist.name}: misses {missing or 'none'}")
        good = checked.returncode == 0 and not missing and begins(sdist)
        (ROOT / "dist").mkdir(exist_ok=True)
        for made in (sdist, wheel):
            shutil.copy2(made, ROOT / "dist" / made.name)
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
