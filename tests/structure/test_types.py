"""Types can be followed: `Any` is rare in the code that drives the core, and each has a reason beside it."""

from __future__ import annotations

import ast
import io
import re
import tokenize

from tests.structure.source import Module, modules

FOLDERS = ("pico_twisted.net.", "pico_twisted.app.")
MOST = 115
"""Occurrences of the word in `net` and `app`, imports included."""

WORD = re.compile(r"\bAny\b")


def watched() -> list[Module]:
    """The modules of `net` and `app`."""
    return [module for name, module in modules().items() if name.startswith(FOLDERS)]


def without_reason(text: str) -> list[int]:
    """The lines that use `Any` with no comment on the line, above it, or above the statement that it is part of."""
    comments: set[int] = set()
    used: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            comments.add(token.start[0])
        elif token.type == tokenize.NAME and token.string == "Any":
            used.add(token.start[0])
    starts: dict[int, int] = {}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            used -= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
        elif isinstance(node, ast.stmt):
            first = min([node.lineno, *(one.lineno for one in getattr(node, "decorator_list", []))])
            # Inner statements come later in the walk, and win.
            starts.update(dict.fromkeys(range(first, (node.end_lineno or first) + 1), first))
    return sorted(line for line in used if not comments & {line, line - 1, starts.get(line, line) - 1})


def test_any_is_rare() -> None:
    """Go-to-definition works at every seam: the word stands in net and app no more often than this."""
    counts = {module.place: len(WORD.findall(module.text)) for module in watched()}
    worst = [f"{count:4} {place}" for place, count in sorted(counts.items(), key=lambda item: -item[1]) if count]
    total = sum(counts.values())
    assert total <= MOST, "\n".join([f"Any stands {total} times in net and app, {MOST} at most:", *worst])


def test_any_has_a_reason() -> None:
    """A comment beside each use of Any says why nothing better can be said: a library without types, for example."""
    found = [f"{module.place}:{line}" for module in watched() for line in without_reason(module.text)]
    assert not found, "\n".join(["uses of Any without a reason beside or above them:", *found])


def test_a_reason_is_seen() -> None:
    """On the line, above it, or above a statement of several lines; not above the one before."""
    assert without_reason("from typing import Any\nx: Any = 1\n") == [2]
    assert without_reason("x: Any = 1  # no types\n") == []
    assert without_reason("# no types\nx: Any = 1\n") == []
    assert without_reason("# no types\ndef f(\n    x: int,\n    y: Any,\n) -> None:\n    z: Any = y\n") == [6]
    assert without_reason("# other\nx: int = 1\ny: Any = 1\n") == [3]
