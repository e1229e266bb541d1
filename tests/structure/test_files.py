"""A file has one idea, and can be read in one sitting."""

from __future__ import annotations

import pytest

from tests.structure.source import ROOT, files


@pytest.mark.parametrize(
    ("folder", "most_lines"),
    [
        ("pico_twisted", 400),
        ("twisted", 400),
        ("tools", 400),
        ("benchmarks", 500),
        ("demo", 400),
        ("tests", 500),
    ],
)
def test_no_file_is_long(folder: str, most_lines: int) -> None:
    """A file of the package has at most 400 lines, one of the tests 500; what is longer holds a second idea."""
    lines = {path.relative_to(ROOT).as_posix(): path.read_text().count("\n") for path in files(folder)}
    over = [f"{place}: {count} lines" for place, count in lines.items() if count > most_lines]
    assert not over, "\n".join([f"more than {most_lines} lines; split it by its ideas:", *over])
