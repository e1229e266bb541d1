"""Asks a question of the page, and compares what picoctl says with what was planted."""

from __future__ import annotations

import time
from typing import Final

from tests.questions.answers import ANSWERS, Facts
from tests.questions.page import Question
from tests.questions.rig import Rig

PATIENCE_S: Final = 30.0
"""How long a fact may take to be told: gossip and averages need some seconds."""
ENDLESS: Final = ("tail",)
"""Commands that go on until Ctrl-C."""


class Unanswered(Exception):
    """The command of the page did not name what was planted."""


def ask(rig: Rig, question: Question) -> str:
    """Plant what a question asks for, and ask. Returns the answer, which names it.

    Raises:
        Unanswered: it did not in time.
    """
    facts = ANSWERS[question.title](rig)
    command = tuple(facts.words.get(word, word) for word in question.command)
    try:
        said = _follow(rig, command, facts) if command[0] in ENDLESS else _repeat(rig, command, facts)
    finally:
        facts.undo()
    if missing := facts.missing(said):
        shown = " ".join(question.command)
        raise Unanswered(f"{question.title} picoctl {shown} does not name {missing}; it says\n{said}")
    return said


def _repeat(rig: Rig, command: tuple[str, ...], facts: Facts) -> str:
    """Ask again and again until the answer has the facts, or it is late."""
    until = time.monotonic() + PATIENCE_S
    while True:
        facts.during()
        done = rig.ask(command, at=facts.at)
        said = done.stdout + done.stderr
        if not facts.missing(said) or time.monotonic() > until:
            return said
        time.sleep(0.2)


def _follow(rig: Rig, command: tuple[str, ...], facts: Facts) -> str:
    """Run a command that goes on, until it has said the facts, or it is late."""
    process = rig.follow(command, at=facts.at)
    until = time.monotonic() + PATIENCE_S
    try:
        while facts.missing(process.output) and time.monotonic() < until:
            facts.during()
            time.sleep(0.5)
        return process.output
    finally:
        rig.stage.remove(process)
