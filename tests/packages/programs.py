"""Programs from PyPI that look at packages, in an environment that is gone afterwards."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tools.stage.waiting import StageFailed


@contextlib.contextmanager
def programs(*requirements: str) -> Iterator[Path]:
    """Install distributions, for a while.

    Args:
        requirements: what pip is asked for.

    Yields:
        The directory with their commands and a `python` that has their modules.

    Raises:
        StageFailed: they cannot be had.
    """
    with tempfile.TemporaryDirectory(prefix="pico-programs-") as scratch:
        subprocess.run([sys.executable, "-m", "venv", scratch], check=True)
        found = Path(scratch, "bin")
        pip = [str(found / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements]
        done = subprocess.run(pip, capture_output=True, text=True, check=False)
        if done.returncode:
            raise StageFailed(f"no {', '.join(requirements)}:\n{done.stderr}")
        yield found
