"""In which shapes of the stack a table is tried: where a shape can make a difference.

What streams, upgrades, fails or ends passes TLS and the second node, and is tried in all four shapes. A verdict on
bytes is not: the parser that refuses a request is the same behind TLS, and has refused it before a second node is
asked. Such a table is tried whole in the plain shape. In the others a cross-section of it shows that the verdict
arrives: one row or two of each outcome, and the rows that are large, since TLS and a link cut what is large into other
pieces.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import pytest

from tests.system.names import short
from tests.system.stack import SHAPES


def whole_in_plain(
    names: str, rows: Sequence[Any], in_all: Collection[str], name: Callable[[Any], str] | None = None
) -> pytest.MarkDecorator:
    """Parametrize a test with each row of a table in the plain shape, and with some rows in every shape.

    Args:
        names: of the test's arguments, as for `pytest.mark.parametrize`.
        rows: the table; a tuple for several arguments.
        in_all: names of the cross-section's rows.
        name: of a row; the text of its first argument when None.

    Raises:
        ValueError: a name of the cross-section is no row's.
    """
    arguments = [part.strip() for part in names.split(",")]

    def values(row: Any) -> tuple[Any, ...]:
        return row if len(arguments) > 1 else (row,)

    named = [((name(row) if name else short(values(row)[0])), row) for row in rows]
    if unknown := set(in_all) - {label for label, _ in named}:
        raise ValueError(f"no row has such a name: {sorted(unknown)}")
    cases = [
        pytest.param(shape, *values(row), id=f"{shape}-{label}")
        for shape in SHAPES
        for label, row in named
        if shape == "plain" or label in in_all
    ]
    return pytest.mark.parametrize(["running_stack", *arguments], cases, indirect=["running_stack"])


NODES = pytest.mark.parametrize("running_stack", ["plain", "two"], indirect=True)
"""For tests of what a second node could change and TLS cannot."""

ENDS = pytest.mark.parametrize("running_stack", ["plain", "two-tls"], indirect=True)
"""For tests of single ports: without TLS anywhere, and with TLS everywhere."""

NO_TLS = pytest.mark.parametrize("stage", ["plain"], indirect=True)
"""For tests that start what they need themselves, and that TLS between nodes and agents could not change."""
