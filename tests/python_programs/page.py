"""What docs/python.md says of each program: what to install, what to do once, files, and what to run."""

from __future__ import annotations

import re
import shlex
from typing import Final

import attrs

from tools.stage.processes import ROOT

PAGE: Final = ROOT / "docs" / "python.md"
MOST_LINES: Final = 9
"""Lines that a program needs from its user because of Pico and at all, in files and commands that are run: under ten.
Imports and those of Buildbot's own configuration count, too."""

_BLOCK = re.compile(r"(?P<before>[^\n]*)\n\n```[^\n]*\n(?P<text>.*?)```\n", re.DOTALL)
_FILE = re.compile(r"`(?P<name>[^`]+)`:")


@attrs.frozen(kw_only=True)
class Program:
    """What the page says of one program.

    Attributes:
        title: its heading.
        install: requirements of pip.
        once: commands before it runs for the first time.
        files: their names and texts.
        run: the commands that stay.
    """

    title: str
    install: tuple[str, ...]
    once: tuple[str, ...]
    files: tuple[tuple[str, str], ...]
    run: tuple[str, ...]


def programs() -> dict[str, Program]:
    """Those that can be run as the page has them, by their titles."""
    text = PAGE.read_text(encoding="utf-8")
    section = text.partition("\n## Programs\n")[2].partition("\n## ")[0]
    found = (_program(part) for part in section.split("\n### ")[1:])
    return {program.title: program for program in found if program.run}


def _program(part: str) -> Program:
    title = part.partition("\n")[0]
    install: list[str] = []
    once: list[str] = []
    run: list[str] = []
    files: list[tuple[str, str]] = []
    for block in _BLOCK.finditer(part):
        lines = block["text"].splitlines()
        named = _FILE.fullmatch(block["before"])
        if named is not None:
            files.append((named["name"], block["text"]))
        elif block["before"] == "Once:":
            once += lines
        elif block["before"] == "Run:":
            run += lines
        else:
            for line in lines:
                command = shlex.split(line)
                assert command[:2] == ["pip", "install"], line
                install += command[2:]
    return Program(title=title, install=tuple(install), once=tuple(once), files=tuple(files), run=tuple(run))


def own_lines(program: Program) -> int:
    """The lines that a user writes for it: of files, but for those that are empty, and imports."""
    lines = [line for _, text in program.files for line in text.splitlines()]
    return sum(bool(line.strip()) and not line.startswith(("import ", "from ")) for line in lines)
