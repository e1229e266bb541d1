"""A file has one idea, and can be read in one sitting."""

from __future__ import annotations

import pytest

from tests.structure.source import ROOT, files


@pytest.mark.parametrize(
    ("folder", "most_lines", "still_over"),
    [
        ("pico_twisted", 400, 0),
        ("twisted", 400, 0),
        ("tools", 400, 0),
        ("benchmarks", 500, 0),
        ("demo", 400, 0),
        ("tests", 500, 1),
    ],
)
def test_no_file_is_long(folder: str, most_lines: int, still_over: int) -> None:
    """A file of the package has at most 400 lines, one of the tests 500; what is longer holds a second idea.

    `still_over` says how many files are longer, for the time being. It only falls.
    """
    lines = {path.relative_to(ROOT).as_posix(): path.read_text().count("\n") for path in files(folder)}
    over = [f"{place}: {count} lines" for place, count in lines.items() if count > most_lines]
    assert len(over) <= still_over, "\n".join([f"more than {most_lines} lines; split it by its ideas:", *over])
