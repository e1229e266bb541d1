"""Completions in bash, zsh and fish as they are installed, and man pages as man and groff read them."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from tools.stage.nodes import Node
from tools.stage.processes import ROOT, environment
from tools.stage.report import Report

_PATIENCE_S: Final = 20.0
_WORDS: Final = {
    "picoctl dra": "drain",
    "picoctl drain --wi": "--within",
    "picoctl drain n": "n1",
    "picoctl endpoint w": "web",
    "pico-node --proxy.bind": "--proxy.bind-addr",
    "pico-agent --lis": "--listen",
}
"""What is typed before Tab, and what has to come."""


def in_shells(directory: Path, node: Node, report: Report) -> None:
    """Have three shells complete words, one of which a node knows.

    Args:
        directory: for files.
        node: that is asked for IDs.
        report: gets what was seen.
    """
    for name, code in (
        ("picoctl", "from pico_twisted.ctl.main import main; main()"),
        ("pico-node", ""),
        ("pico-agent", ""),
    ):
        program = directory / name
        program.write_text(f"#!/bin/sh\nexec {sys.executable} -c '{code}' \"$@\"\n")
        program.chmod(0o755)
    env = environment(
        PATH=f"{directory}:{os.environ['PATH']}",
        PICO_ADMIN=f"http://127.0.0.1:{node.ports.admin}",
        HOME=str(directory),
        TERM="dumb",
    )
    folder = ROOT / "etc" / "completions"
    for typed, wanted in _WORDS.items():
        command = typed.partition(" ")[0]
        seen = _in_fish(folder / "fish" / f"{command}.fish", typed, env)
        report.check(f"fish: {typed}", wanted in seen.split(), seen)
    for shell, lines in {
        "bash": [f"source {folder}/bash/{command}" for command in ("picoctl", "pico-node", "pico-agent")],
        "zsh": ["autoload -Uz compinit && compinit -u -D", *(f"source {folder}/zsh/_{command}" for command in
                ("picoctl", "pico-node", "pico-agent"))],
    }.items():  # fmt: skip
        for typed, wanted in _WORDS.items():
            seen = _at_terminal(shell, lines, typed, wanted, env, directory)
            report.check(f"{shell}: {typed}", wanted in seen, seen[-200:])


def _in_fish(script: Path, typed: str, env: dict[str, str]) -> str:
    asked = f"source {script}; complete -C '{typed}'"
    done = subprocess.run(
        ["fish", "--no-config", "-c", asked], env=env, capture_output=True, text=True, timeout=_PATIENCE_S, check=False
    )
    return done.stdout + done.stderr


def _at_terminal(shell: str, lines: list[str], typed: str, wanted: str, env: dict[str, str], directory: Path) -> str:
    """What stands on the terminal of a shell once Tab was pressed behind some words."""
    arguments = {"bash": ["bash", "--norc", "--noprofile", "-i"], "zsh": ["zsh", "-f", "-i"]}[shell]
    process, terminal = pty.fork()
    if process == 0:
        os.chdir(directory)
        os.execvpe(arguments[0], arguments, env)
    try:
        os.write(terminal, ("; ".join(lines) + "; echo rea''dy\n").encode())
        _read_until(terminal, "ready")
        os.write(terminal, typed.encode() + b"\t\t")
        return _read_until(terminal, wanted)
    finally:
        os.write(terminal, b"\x15exit\n")
        os.close(terminal)
        os.waitpid(process, 0)


def _read_until(terminal: int, wanted: str) -> str:
    seen, until = b"", time.monotonic() + _PATIENCE_S
    while wanted.encode() not in seen and time.monotonic() < until:
        if select.select([terminal], [], [], 0.2)[0]:
            seen += os.read(terminal, 65536)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen.decode("utf-8", "replace"))


def man_pages(report: Report) -> None:
    """Have man and groff read each page: neither finds fault, and both find its name."""
    for page in sorted((ROOT / "etc" / "man").iterdir()):
        commands = (
            ["groff", "-ww", "-man", "-Tutf8", "-z", str(page)],
            ["man", "--warnings", "-E", "UTF-8", "-l", str(page)],
        )
        said = [
            subprocess.run(command, env=environment(MANWIDTH="80"), capture_output=True, text=True, check=False)
            for command in commands
        ]
        faults = "".join(done.stderr for done in said)
        good = not faults and all(done.returncode == 0 for done in said)
        report.check(page.name, good and page.stem in said[1].stdout, faults[:200])
