"""Asks a question of the page, and compares what picoctl says with what was planted."""

from __future__ import annotations

import time
from typing import Final

from tests.questions.answers import ANSWERS, Facts
from tests.questions.page import Question
from tests.questions.rig import Rig

PATIENCE_S: Final = 30.0
"""How long a fact may take to be told: gossip and averages need some seconds."""


class Unanswered(Exception):
    """The command of the page did not name what was planted."""


def ask(rig: Rig, question: Question) -> str:
    """Plant what a question asks for, and ask. Returns the answer, which names it.

    Raises:
        Unanswered: it did not in time.
    """
    facts = ANSWERS[question.title](rig)
    command = tuple(facts.words.get(word, word) for word in question.command)
    until = time.monotonic() + PATIENCE_S
    try:
        while True:
            said, missing = _once(rig, command, facts)
            if not missing:
                return said
            if time.monotonic() > until:
                shown = " ".join(question.command)
                raise Unanswered(f"{question.title} picoctl {shown} does not name {missing}; it says\n{said}")
            time.sleep(0.2)
    finally:
        facts.undo()


def _once(rig: Rig, command: tuple[str, ...], facts: Facts) -> tuple[str, list[str]]:
    done = rig.ask(command, at=facts.at)
    said = done.stdout + done.stderr
    return said, facts.missing(said)
