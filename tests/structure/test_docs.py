"""What the pages say about files is true: the tables of the architecture, and the tests that the threat model names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "pico_twisted"
DOCS = ROOT / "docs"


def rows(text: str) -> Iterator[str]:
    """The first cells of the rows of tables."""
    for line in text.splitlines():
        if line.startswith("| `"):
            yield line.split("|")[1]


def files_of(cell: str) -> Iterator[str]:
    """The files that a cell names: one without a folder is in that of the one before."""
    folder = ""
    for name in re.findall(r"`([\w/]+\.py)`", cell):
        if "/" in name:
            folder = name.rpartition("/")[0] + "/"
        yield name if "/" in name else folder + name


def section(text: str, begin: str, end: str) -> str:
    """What stands between two lines."""
    return text[text.index(begin) : text.index(end)]


@pytest.mark.parametrize(
    ("folder", "begin", "end"),
    [
        ("core", "\n### core\n", "\n### net\n"),
        ("net", "\n### net\n", "\n## The path of"),
        ("door", "in `door`", "in `expose`"),
        ("expose", "in `expose`", "cluster.workers"),
    ],
)
def test_each_file_is_told_of_once(folder: str, begin: str, end: str) -> None:
    """Whoever looks for what does something finds each file of these folders in one row of its table, and no other."""
    text = section((DOCS / "architecture.md").read_text(encoding="utf-8"), begin, end)
    told = [name for cell in rows(text) for name in files_of(cell)]
    there = {
        str(path.relative_to(PACKAGE / folder))
        for path in (PACKAGE / folder).rglob("*.py")
        if path.name != "__init__.py"
    }
    assert sorted(told) == sorted(there)


def test_the_map_has_all_pages() -> None:
    """Each page of the documentation can be found from docs/index.md."""
    linked = set(re.findall(r"\]\(([\w/-]+\.md)", (DOCS / "index.md").read_text(encoding="utf-8")))
    pages = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")} - {"index.md"}
    assert pages - linked == set()


def test_the_tests_that_the_threat_model_names_exist() -> None:
    """Who doubts a line of it can run what shows it."""
    text = (DOCS / "security.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:core|net|system|integration|soak|config|app|door|ctl|expose)/[\w/]+)`", text))
    assert len(named) > 30
    missing = [name for name in sorted(named) if not (ROOT / "tests" / f"{name}.py").is_file()]
    assert missing == []
