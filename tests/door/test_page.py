"""docs/python.md is as the code is: its programs can be run, and what it shows of our own names is true."""

from __future__ import annotations

import ast
import inspect
import re

import pytest

from pico_twisted import Tunnel
from pico_twisted.aio import expose
from pico_twisted.door.strings import CLIENT_OPTIONS, SERVER_OPTIONS
from tests.python_programs.looks import LOOKS
from tests.python_programs.page import MOST_LINES, PAGE, own_lines, programs

TEXT = PAGE.read_text(encoding="utf-8")


def test_each_program_is_looked_at() -> None:
    """`make examples` runs what the page has, and nothing else."""
    assert set(programs()) == set(LOOKS)
    for program in programs().values():
        assert own_lines(program) <= MOST_LINES, program.title
        assert program.install or program.title == "twistd web"


@pytest.mark.parametrize("code", re.findall(r"```python[^\n]*\n(.*?)```", TEXT, re.DOTALL))
def test_what_is_shown_is_python(code: str) -> None:
    """Each block can be read by Python."""
    ast.parse(code)


def test_the_page_names_what_there_is() -> None:
    """Arguments, options and variables, each as it is in the code."""
    for shown, function in (("Tunnel(endpoint, target, *, ", Tunnel), ("expose(endpoint, target, *, ", expose)):
        names = TEXT.partition(shown)[2].partition(")")[0].split(", ")
        assert names == list(inspect.signature(function).parameters)[2:]
    for option in SERVER_OPTIONS:
        assert f":{option}=" in TEXT
    assert (
        f"They take {' and '.join([', '.join(f'`{one}`' for one in CLIENT_OPTIONS[:-1]), f'`{CLIENT_OPTIONS[-1]}`'])}."
        in TEXT
    )
    for variable in ("PICO_URL", "PICO_PROXY_URL", "PICO_TOKEN_FILE"):
        assert variable in TEXT
