"""Programs that others wrote, behind Pico as docs/python.md says: run with `make examples`.

Each gets a fresh virtual environment with this project's wheel and the program from PyPI, so that takes the network and
minutes. The node is a real one. A program is looked at through the proxy port, and none may listen on a port of TCP.
`python -m tests.python_programs.run TITLE...` runs some of them.
"""

from __future__ import annotations

import os
import pwd
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.python_programs import looks
from tests.python_programs.page import MOST_LINES, Program, own_lines, programs
from tools.stage import kernel
from tools.stage.nodes import Node
from tools.stage.processes import ROOT, Process, environment
from tools.stage.report import Options, exit_status
from tools.stage.stage import Stage, open_stage
from tools.stage.waiting import StageFailed

INSTALL_S: Final = 900
"""Most seconds of an installation."""
OWN_PORTS: Final = {"Tahoe-LAFS": 1}
"""Ports of TCP that a program opens in any case, for something else."""


class Rig:
    """A node, and a program in an environment of its own.

    Args:
        stage: runs both.
        node: the node.
        wheel: of this project.
        program: what the page says.
    """

    def __init__(self, stage: Stage, node: Node, wheel: Path, program: Program) -> None:
        self.stage = stage
        self.node = node
        self.program = program
        self.directory = stage.directory / program.title.partition(" ")[0]
        self.venv = stage.directory / f"venv-{self.directory.name}"
        self.directory.mkdir()
        pip = [sys.executable, "-m", "pip", "--python", str(self.venv / "bin" / "python"), "install", "--quiet"]
        self._call([sys.executable, "-m", "venv", "--without-pip", str(self.venv)])
        if program.install:
            self._call([*pip, *program.install])
        self._call([*pip, str(wheel)])

    @property
    def variables(self) -> dict[str, str]:
        """The environment of its commands: that of the page, and its own programs first."""
        path = f"{self.venv / 'bin'}{os.pathsep}{os.environ['PATH']}"
        url = f"http://127.0.0.1:{self.node.ports.proxy}"
        return {"PATH": path, "PICO_URL": self.node.upstream_url, "PICO_PROXY_URL": url, "PYTHONPATH": ""}

    def _call(self, command: Sequence[str]) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        done = subprocess.run(
            command, cwd=self.directory, env=kept, capture_output=True, text=True, timeout=INSTALL_S, check=False
        )
        assert done.returncode == 0, f"{shlex.join(command)}\n{done.stdout}{done.stderr}"

    def once(self) -> None:
        """What the page says has to be done once, and the files."""
        for line in self.program.once:
            done = subprocess.run(
                self._words(line),
                cwd=self.directory,
                env=environment(**self.variables),
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        for name, text in self.program.files:
            (self.directory / name).write_text(text, encoding="utf-8")
        (self.directory / "passwd").write_text(f"{pwd.getpwuid(os.getuid()).pw_name}:{looks.PASSWORD}\n")

    def run(self) -> list[Process]:
        """Start what the page says stays."""
        return [
            self.stage.add(Process(f"{self.directory.name}-{at}", self._words(line), self.directory, self.variables))
            for at, line in enumerate(self.program.run)
        ]

    def _words(self, line: str) -> list[str]:
        command, *arguments = shlex.split(line.replace("$PWD", str(self.directory)))
        url = ("--connect.url", self.node.upstream_url) if command == "pico-agent" else ()
        root = ("--allow-root",) if command == "jupyter" and not os.getuid() else ()
        found = self.venv / "bin" / command
        return [str(found) if found.exists() else command, *arguments, *url, *root]


def listening(pid: int) -> list[str]:
    """The ports of TCP of a process and of those that it has started."""
    return kernel.listening(pid) + [port for child in kernel.children(pid) for port in listening(child)]


def run_program(stage: Stage, node: Node, wheel: Path, program: Program) -> None:
    """Install a program, run it, look at it."""
    look = looks.LOOKS[program.title]
    assert own_lines(program) <= MOST_LINES, f"{own_lines(program)} lines of a user's own"
    began = time.monotonic()
    rig = Rig(stage, node, wheel, program)
    installed = time.monotonic()
    rig.once()
    processes = rig.run()
    try:
        for endpoint in look.endpoints:
            for process in processes:
                process.wait_until(lambda name=endpoint: node.admin.endpoints().get(name), f"{endpoint} to be there")  # type: ignore[misc]
        look.look(node, rig.directory, rig.venv)
        ports = [port for process in processes for port in listening(process.pid)]
        assert len(ports) <= OWN_PORTS.get(program.title, 0), f"it listens on {ports}"
    finally:
        print(f"installed in {installed - began:.0f} s, looked at after {time.monotonic() - installed:.0f} s")
        for process in reversed(processes):
            process.terminate()
        for process in processes:
            process.wait_exit()
            stage.remove(process)


def build_wheel(directory: Path) -> Path:
    """This checkout's wheel."""
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(directory), str(ROOT)]
    subprocess.run(command, check=True, timeout=INSTALL_S, cwd=directory)
    (wheel,) = directory.glob("*.whl")
    return wheel


def run(titles: Sequence[str]) -> int:
    """Run these programs, one after the other; 1 when one of them was not as it should be."""
    failed = []
    with tempfile.TemporaryDirectory(prefix="pico-python-") as name, open_stage(Path(name)) as stage:
        wheel = build_wheel(stage.directory)
        node = stage.node()
        for title in titles:
            print(f"{title}: ", end="", flush=True)
            try:
                run_program(stage, node, wheel, programs()[title])
            except (AssertionError, OSError, StageFailed, subprocess.SubprocessError) as error:
                failed.append(title)
                print(f"FAILED: {error}\n{stage.tail(20)}")
    print(f"{len(titles) - len(failed)} of {len(titles)} programs are as they should be")
    return 1 if failed else 0


if __name__ == "__main__":
    found = Options(__doc__, programs()).read()
    sys.exit(exit_status(lambda: run(found.parts)))
