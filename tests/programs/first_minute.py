"""The first minute: from a fresh virtual environment to a page in a browser, with one command and no file.

What is measured begins with the command and ends when the browser shows the page. The environment is made before, with
the wheel and its dependencies from the package index, as `pip install` does it; the browser is open before, as people's
are. Nothing has run in that environment yet.
"""

from __future__ import annotations

import os
import subprocess
import time
import venv
from pathlib import Path
from typing import Final

from tests.programs.browser import browser
from tests.system.service import Service, answer
from tools.stage.processes import ROOT, environment
from tools.stage.report import Report

WORDS: Final = "hello from port"
"""What the page of the developer's service says."""
INSTALL_S: Final = 900
END_S: Final = 30.0


def first_minute(directory: Path, report: Report) -> None:
    """Make the environment, run the command, look at the page, and close the terminal.

    Args:
        directory: for the environment and the browser's profile.
        report: gets what came of it, and the seconds.
    """
    home = directory / "fresh"
    home.mkdir()
    venv.create(home / "venv", with_pip=True)
    pip = [str(home / "venv" / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, str(ROOT)], cwd=home, check=True, timeout=INSTALL_S)
    service = Service()
    service.handler = lambda request: answer(
        f"<p>{WORDS} {service.port}</p>".encode(), headers=[("Content-Type", "text/html")]
    )
    started = home / "started-here"
    started.mkdir()
    env = {name: value for name, value in environment().items() if not name.startswith(("PYTHON", "PICO_", "VIRTUAL"))}
    env |= {"HOME": str(home), "XDG_CONFIG_HOME": str(home / "config")}
    try:
        with browser(directory / "profile-first") as shown:
            began = time.monotonic()
            command = [str(home / "venv" / "bin" / "picoctl"), "http", str(service.port), "--local", "--quiet"]
            tunnel = subprocess.Popen(command, cwd=started, env=env, stdout=subprocess.PIPE, text=True)
            assert tunnel.stdout is not None
            url = tunnel.stdout.readline().strip()
            told_s = time.monotonic() - began
            seen = shown.open(url + "/", f"{WORDS} {service.port}")
            took_s = time.monotonic() - began
            report.check(
                f"{url} is seen {took_s:.1f} s after the command, which told it after {told_s:.1f} s", seen, shown.text
            )
            tunnel.terminate()
            status = tunnel.wait(END_S)
            report.check("it ends in order", status == 0, str(status))
            report.check("no file is where it ran", not os.listdir(started), str(os.listdir(started)))
    finally:
        service.close()
