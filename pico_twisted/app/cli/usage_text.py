"""How `--help` looks: keys by section, each with its help, kind and default, wrapped to the terminal."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterable, Sequence

import attrs

MIN_WIDTH, MAX_WIDTH = 60, 100
_INDENT = 4
_FIXED_BLANK = "\x1f"  # a blank at which no line is broken


@attrs.frozen(kw_only=True)
class Entry:
    """One flag: `--name VALUE`, what it is for, and what follows in brackets."""

    flag: str
    value: str = ""
    help: str = ""
    note: str = ""


@attrs.frozen(kw_only=True)
class Group:
    """Flags under one heading."""

    title: str
    help: str = ""
    entries: Sequence[Entry] = ()


def terminal_width() -> int:
    """Columns to fill: those of the terminal or of `COLUMNS`, within reason."""
    return shutil.get_terminal_size((80, 24)).columns


def render(paragraphs: Iterable[str], groups: Iterable[Group], examples: Sequence[tuple[str, str]], width: int) -> str:
    """The page behind the synopsis.

    Args:
        paragraphs: what the command is for.
        groups: its flags.
        examples: pairs of a remark and a command line; command lines are never wrapped.
        width: columns to fill.
    """
    width = max(MIN_WIDTH, min(width, MAX_WIDTH))
    lines: list[str] = [""]
    for paragraph in paragraphs:
        lines += [*textwrap.wrap(paragraph, width), ""]
    for group in groups:
        lines += _group(group, width)
    lines.append("Examples:")
    for remark, command in examples:
        lines += [*_wrap(f"# {remark}", 2, width), f"  {command}"]
    return "\n".join(lines) + "\n"


def _group(group: Group, width: int) -> list[str]:
    lines = textwrap.wrap(f"{group.title}: {group.help}" if group.help else f"{group.title}:", width)
    for entry in group.entries:
        lines.append(f"  --{entry.flag} {entry.value}".rstrip())
        note = f" [{entry.note}]".replace(": ", ":" + _FIXED_BLANK) if entry.note else ""
        lines += [line.replace(_FIXED_BLANK, " ") for line in _wrap(entry.help + note, _INDENT + 2, width)]
    return [*lines, ""]


def _wrap(text: str, indent: int, width: int) -> list[str]:
    blank = " " * indent
    return textwrap.wrap(
        text, width, initial_indent=blank, subsequent_indent=blank, break_long_words=False, break_on_hyphens=False
    )
