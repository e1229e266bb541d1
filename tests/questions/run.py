"""The questions of docs/questions.md, each answered by one command and by one click. Run by `make questions`.

    python -m tests.questions.run [PART]...

For each part a cluster of three nodes is started, and for each question what it asks for is planted. The exit status is
1 when an answer does not name it.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.programs.browser import browser
from tests.questions.asking import Unanswered, ask
from tests.questions.clicks import click, log_in
from tests.questions.page import questions
from tests.questions.rig import Rig
from tools.stage.processes import find_program
from tools.stage.report import Options, Report, exit_status


@contextlib.contextmanager
def rig(directory: Path) -> Iterator[Rig]:
    """The cluster, running."""
    made = Rig(directory)
    with contextlib.closing(made):
        made.start()
        yield made


def commands(here: Rig, options: argparse.Namespace, report: Report) -> None:
    """One command each names what was planted."""
    for question in questions().values():
        _report(report, question.title, lambda question=question: ask(here, question))  # type: ignore[misc]


def clicks(here: Rig, options: argparse.Namespace, report: Report) -> None:
    """One click each on the admin page, in chromium, shows what was planted."""
    find_program("chromium", "chromium")
    with browser(here.directory / "profile") as shown:
        log_in(shown, here)
        for question in questions().values():
            _report(report, question.title, lambda question=question: click(shown, here, question))  # type: ignore[misc]


def _report(report: Report, title: str, asked: Callable[[], object]) -> None:
    try:
        asked()
    except Unanswered as unanswered:
        report.check(title, False, str(unanswered))
    else:
        report.check(title, True)


PARTS = {"commands": commands, "clicks": clicks}


def main() -> int:
    """Run the parts that were asked for; the exit status."""
    return Report().run("questions", PARTS, Options(__doc__, PARTS).read(), rig)


if __name__ == "__main__":
    sys.exit(exit_status(main))
