"""Writes docs/development/states.md: the states of all parts, from the code that has them.

Run as `python -m tools.states_docs`; with `--check` nothing is written, and the status is 1 when the page is stale.
`make states-docs` does the first, a test of the suite the second.

A machine with a declared table is drawn. Of the other enums whose values are assigned to an attribute, the page lists
each state with the comment beside it and the functions that enter it.
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import attrs

from pico_twisted.core.agent.life import new_life
from pico_twisted.core.http1.messages import TRANSITIONS

ROOT: Final = Path(__file__).resolve().parents[1]
PACKAGE: Final = ROOT / "pico_twisted"
PAGE: Final = ROOT / "docs" / "development" / "states.md"

_HEAD: Final = """\
# States

<!-- Generated from the code by `make states-docs`. Edit the code. -->

Which states the parts have, and what moves them. Two machines are declared as tables and drawn here. The others are
enums: for each state there is the comment beside it in the code, and the functions that set it or hand it on.
"""


@attrs.frozen(kw_only=True)
class StateEnum:
    """An enum whose values are assigned to attributes.

    Attributes:
        file: relative to the package.
        name: of the class.
        purpose: the first sentence of its docstring.
        states: the comment of each, by name.
        entered_by: the functions that assign each, by name.
    """

    file: str
    name: str
    purpose: str
    states: dict[str, str]
    entered_by: dict[str, list[str]]


def page() -> str:
    """Make the text of the page."""
    parts = [
        _HEAD,
        "## Messages of HTTP/1.1 (`core/http1/messages.py`)\n",
        _drawn(_message_arrows()),
        "## The next session of a listener (`core/agent/life.py`)\n",
        _drawn(_life_arrows()),
        "## Enums\n",
        *map(_listed, _enums()),
    ]
    return "\n".join(parts)


def _message_arrows() -> Iterator[tuple[str, str, str]]:
    for state, ways in TRANSITIONS.items():
        for event, target in ways.items():
            yield state.name, event.name, target.name


def _life_arrows() -> Iterator[tuple[str, str, str]]:
    automaton = new_life.__automat_automaton__  # type: ignore[attr-defined]
    for state, event, target, _ in automaton.allTransitions():
        yield state.name, getattr(event, "__name__", str(event)), target.name


def _drawn(arrows: Iterator[tuple[str, str, str]]) -> str:
    events: dict[tuple[str, str], list[str]] = {}
    for state, event, target in arrows:
        events.setdefault((state, target), []).append(event)
    lines = [
        f"    {state} --> {target}: {', '.join(sorted(names))}" for (state, target), names in sorted(events.items())
    ]
    return "\n".join(["```mermaid", "stateDiagram-v2", *lines, "```", ""])


def _listed(found: StateEnum) -> str:
    lines = [
        f"### `{found.name}` in `{found.file}`",
        "",
        found.purpose,
        "",
        "| state | meaning | entered in |",
        "| --- | --- | --- |",
    ]
    for state, comment in found.states.items():
        functions = ", ".join(f"`{name}`" for name in found.entered_by.get(state, []))
        lines.append(f"| `{state}` | {comment} | {functions} |")
    return "\n".join([*lines, ""])


def _enums() -> Iterator[StateEnum]:
    for path in sorted(PACKAGE.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text)
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and any(ast.unparse(base).endswith("Enum") for base in node.bases):
                states = _states(node, text.splitlines())
                entered_by = _entered_by(tree, node.name, states)
                if entered_by:
                    yield StateEnum(
                        file=str(path.relative_to(PACKAGE)),
                        name=node.name,
                        purpose=(ast.get_docstring(node) or "").partition("\n\n")[0].replace("\n", " "),
                        states=states,
                        entered_by=entered_by,
                    )


def _states(node: ast.ClassDef, lines: list[str]) -> dict[str, str]:
    states = {}
    for statement in node.body:
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            name = statement.targets[0].id
            if not name.startswith("_"):
                states[name] = lines[statement.lineno - 1].partition("  # ")[2]
    return states


def _entered_by(tree: ast.Module, enum_name: str, states: dict[str, str]) -> dict[str, list[str]]:
    """The functions of a module that assign or hand on a state, by state; `NAME = Enum.NAME` counts as the state."""
    short = {
        target.id: statement.value.attr
        for statement in tree.body
        if isinstance(statement, ast.Assign | ast.AnnAssign) and isinstance(statement.value, ast.Attribute)
        if ast.unparse(statement.value.value) == enum_name
        for target in ([statement.target] if isinstance(statement, ast.AnnAssign) else statement.targets)
        if isinstance(target, ast.Name)
    }
    entered: dict[str, list[str]] = {}
    for holder in tree.body:
        if not isinstance(holder, ast.ClassDef):
            continue
        for function in holder.body:
            if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            for node in ast.walk(function):
                for value in _handed_on(node):
                    for state in _named(value, enum_name, short, states):
                        names = entered.setdefault(state, [])
                        if f"{holder.name}.{function.name}" not in names:
                            names.append(f"{holder.name}.{function.name}")
    return entered


def _handed_on(node: ast.AST) -> list[ast.expr]:
    """What a statement assigns to an attribute, or a call is given."""
    if isinstance(node, ast.Call):
        return node.args
    if isinstance(node, ast.Assign) and any(isinstance(target, ast.Attribute) for target in node.targets):
        return [node.value]
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Attribute) and node.value is not None:
        return [node.value]
    return []


def _named(value: ast.expr, enum_name: str, short: dict[str, str], states: dict[str, str]) -> Iterator[str]:
    """The states that an assigned expression may give: itself, or either side of a conditional."""
    if isinstance(value, ast.IfExp):
        yield from _named(value.body, enum_name, short, states)
        yield from _named(value.orelse, enum_name, short, states)
    elif isinstance(value, ast.Attribute) and ast.unparse(value.value) == enum_name and value.attr in states:
        yield value.attr
    elif isinstance(value, ast.Name) and value.id in short:
        yield short[value.id]


def main() -> int:
    """Write the page, or with `--check` compare it; the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; the status is 1 when the page is stale")
    text = page()
    if not parser.parse_args().check:
        PAGE.write_text(text, encoding="utf-8")
        return 0
    if PAGE.read_text(encoding="utf-8") != text:
        print(f"{PAGE.relative_to(ROOT)} is stale: run `make states-docs`", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
