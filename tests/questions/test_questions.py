"""Operators find what they ask for: some of the questions of docs/questions.md. `make questions` asks all of them."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import pytest

from tests.questions.answers import ANSWERS
from tests.questions.asking import ask
from tests.questions.page import PAGE, questions
from tests.questions.rig import Rig

SOME = (
    "Who serves shop?",
    "Who dropped this request?",
    "What changed at 3:02?",
    "Which node is draining or cordoned?",
    "Who is near a limit?",
    "Did the last reload work?",
    "Who is revoked, and by whom?",
)


def test_each_question_of_the_page_is_asked() -> None:
    """The page has no question that is not tried, and each has one command."""
    assert list(questions()) == list(ANSWERS)
    rows = re.findall(r"^\| [A-Z].*\?.*$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(rows) == len(ANSWERS)


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """The cluster, running."""
    made = Rig(tmp_path_factory.mktemp("questions"))
    with contextlib.closing(made):
        made.start()
        yield made
        assert made.stage.new_faults() == []


@pytest.mark.processes
@pytest.mark.parametrize("title", SOME)
def test_one_command_answers(rig: Rig, title: str) -> None:
    """The command of the page names what was planted."""
    ask(rig, questions()[title])
