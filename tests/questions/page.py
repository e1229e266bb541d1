"""What docs/questions.md says: each question with the one command that answers it, and where to click."""

from __future__ import annotations

import re
import shlex
from typing import Final

import attrs

from tools.stage.processes import ROOT

PAGE: Final = ROOT / "docs" / "questions.md"
_ROW: Final = re.compile(
    r"^\| (?P<title>[^|`]+\?) \| `(?P<command>picoctl [^|`]+)` \| [^|]+ \| \*\*(?P<click>[^|*]+)\*\* \|$",
    re.MULTILINE,
)


@attrs.frozen(kw_only=True)
class Question:
    """A row of the page.

    Attributes:
        title: the question.
        command: the words behind `picoctl`.
        click: what is clicked on the admin page: `name`, or `heading: name` for what stands below a heading.
    """

    title: str
    command: tuple[str, ...]
    click: str


def questions() -> dict[str, Question]:
    """All of them by their titles, in the order of the page."""
    text = PAGE.read_text(encoding="utf-8")
    found = (
        Question(title=row["title"], command=tuple(shlex.split(row["command"])[1:]), click=row["click"])
        for row in _ROW.finditer(text)
    )
    return {question.title: question for question in found}
