"""An earlier version, built from this clone's history and installed in a virtual environment of its own."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path

from tests.packaging.test_install import ROOT, Environment, build_wheel
from tools.stage.archives import unpack

COMMIT = "a4dd4d4"
"""The last commit before the code was put into rooms. Its configuration and its command lines are those of today."""

_RUN = "import sys; sys.argv[0] = 'twistd'; from twisted.scripts.twistd import run; run()"


def prelude(cache: Path, commit: str = COMMIT) -> str:
    """Python that makes a process of twistd run that version instead, with the same arguments and process ID.

    Args:
        cache: where the environment is, or is made; it stays for later runs.
        commit: the version: a commit or a tag.

    Raises:
        AssertionError: the commit is not in this clone, or it cannot be built.
    """
    python = _environment(cache / f"{commit}-{_libraries()}", commit)
    return (
        f"import os; os.environ.pop('PYTHONPATH', None); "
        f"os.execv({str(python)!r}, [{str(python)!r}, '-c', {_RUN!r}, *sys.argv[1:]]); "
    )


def _environment(directory: Path, commit: str) -> Path:
    """The environment's Python. Of several processes that ask, one makes it."""
    directory.mkdir(parents=True, exist_ok=True)
    done = directory / "done"
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(directory / "source", ignore_errors=True)
            shutil.rmtree(directory / "environment", ignore_errors=True)
            source = directory / "source"
            source.mkdir()
            check_out(commit, source)
            Environment(directory / "environment").install(str(build_wheel(source)))
            done.touch()
    return directory / "environment" / "bin" / "python"


def check_out(commit: str, directory: Path) -> None:
    """Put a commit's files into a directory.

    Raises:
        AssertionError: the commit is not in this clone.
    """
    archive = subprocess.Popen(
        ["git", "archive", "--format=tar", commit], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert archive.stdout is not None and archive.stderr is not None
    with archive.stdout, archive.stderr:
        try:
            with tarfile.open(fileobj=archive.stdout, mode="r|") as files:
                unpack(files, directory)
        except tarfile.ReadError:
            pass  # there is none, and git says why
        said = archive.stderr.read().decode("utf-8", "replace").strip()
    assert archive.wait() == 0, (
        f"the tests of mixed versions need commit {commit} of this repository's history, which is not here: {said}. "
        "In a shallow clone: git fetch --unshallow"
    )


def _libraries() -> str:
    """Another text for each Python and each set of libraries: the environment links to those of this one."""
    installed = sorted(entry.name for entry in Path(sysconfig.get_path("purelib")).glob("*.dist-info"))
    return hashlib.sha256("\n".join([sys.prefix, sys.version, *installed]).encode()).hexdigest()[:12]
