"""The fenced blocks of the documentation: the words behind the backticks say who runs what is in them.

    sh here        `make docs-commands`: on one machine, in the order of the page
    sh stays       the same, for what goes on running: the reader has a terminal for it
    sh anew        the same; what goes on running from before is ended first
    sh install     the same, before anything else and with the network
    sh every       `make systemd`: by root on each of three machines
    sh one         the same, on the first machine; what it makes is copied to the others
    sh examples    `make examples`: the programs of docs/python.md, with files in `python examples`, `json examples`
    yaml node      a file of a node, or a part of one: the tests know its keys; so it is with `yaml agent`
    ... shown: WHY never run, and why

A block of YAML that begins with the name of a file, as in `# pico.yaml`, becomes that file where the page is followed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import attrs

from tools.stage.processes import ROOT

PAGES: Final = tuple(
    sorted(
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md"))
    )
)
"""All pages that may have commands."""
HOW: Final = {
    "sh": ("here", "stays", "anew", "install", "every", "one", "examples", "shown"),
    "console": ("shown",),
    "yaml": ("node", "agent", "shown"),
    "python": ("examples", "shown"),
    "json": ("examples", "shown"),
    "js": ("shown",),
    "text": ("",),
    "mermaid": ("",),
}
"""For each language the words that may follow it. What is neither a command nor a file of ours needs none."""
HERE: Final = ("here", "stays", "anew", "install")
"""What `make docs-commands` runs."""
BOOTED: Final = ("every", "one")
"""What `make systemd` runs."""

_BLOCK: Final = re.compile(r"^```(?P<info>.*)\n(?P<text>(?:.*\n)*?)^```$", re.MULTILINE)
_FILE: Final = re.compile(r"# (?P<name>/?[\w./-]+\.\w+)\n")


@attrs.frozen(kw_only=True)
class Block:
    """A block of a page.

    Attributes:
        page: its file, relative to the checkout.
        line: where it begins.
        language: the first word behind the backticks.
        how: the second one; empty when there is none.
        why: what follows `shown:`.
        text: what is in it.
    """

    page: str
    line: int
    language: str
    how: str
    why: str
    text: str

    @property
    def place(self) -> str:
        """Where it stands, for messages."""
        return f"{self.page}:{self.line}"

    @property
    def file(self) -> str:
        """The name of the file that it is; empty when it is none."""
        named = _FILE.match(self.text) if self.language == "yaml" else None
        return named["name"] if named else ""


def blocks(page: str) -> Iterator[Block]:
    """The blocks of a page, in their order.

    Args:
        page: its file, relative to the checkout.
    """
    text = Path(ROOT, page).read_text(encoding="utf-8")
    for found in _BLOCK.finditer(text):
        info, _, why = found["info"].partition(":")
        words = info.split()
        yield Block(
            page=page,
            line=text.count("\n", 0, found.start()) + 1,
            language=words[0] if words else "",
            how=" ".join(words[1:]),
            why=why.strip(),
            text=found["text"],
        )
