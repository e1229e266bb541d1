"""Regular expressions mean the same to every Python that they may run on."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from re import _constants, _parser  # type: ignore[attr-defined]  # neither is public, nor in typeshed
from typing import Any

import pytest

from tests.structure.source import modules

_ONE_BYTE = (_constants.LITERAL, _constants.NOT_LITERAL, _constants.IN, _constants.ANY)


def possessive_groups(parsed: Any) -> Iterator[object]:
    """The groups of an expression that are repeated possessively."""
    for kind, argument in parsed:
        if kind is _constants.POSSESSIVE_REPEAT and [one[0] in _ONE_BYTE for one in argument[2]] != [True]:
            yield argument[2]
        for part in argument if isinstance(argument, tuple | list) else [argument]:
            for one in part if isinstance(part, list) else [part]:
                if isinstance(one, _parser.SubPattern):
                    yield from possessive_groups(one)


def expressions(package: str) -> dict[str, re.Pattern[Any]]:
    """The expressions of a package's modules, by module and name."""
    found: dict[str, re.Pattern[Any]] = {}
    for name in modules():
        if name.startswith(package):
            found |= {
                f"{name}.{key}": value
                for key, value in vars(importlib.import_module(name)).items()
                if isinstance(value, re.Pattern)
            }
    return found


@pytest.mark.parametrize("package", ["pico_twisted.core.", "pico_twisted.config.", "pico_twisted.net."])
def test_no_group_is_repeated_possessively(package: str) -> None:
    """Before 3.11.5 Python goes on behind what the last, failed try of such a group has read (cpython 106052). Atomic
    groups do the same in all versions."""
    assert list(possessive_groups(_parser.parse(r"(a(?:bc)*+)|(?:de)?+f++"))), "this test sees none"
    found = {
        name: pattern.pattern
        for name, pattern in expressions(package).items()
        if list(possessive_groups(_parser.parse(pattern.pattern, pattern.flags)))
    }
    assert not found
