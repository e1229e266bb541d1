"""Asks a question of the admin page: an operator in a browser logs in, sees the overview, and clicks once."""

from __future__ import annotations

import json
import time
from typing import Final

from tests.programs.browser import Browser
from tests.questions.answers import ANSWERS, Facts
from tests.questions.asking import PATIENCE_S, Unanswered
from tests.questions.page import Question
from tests.questions.rig import Rig
from tools.stage.waiting import WaitedInVain, wait_until

OVERVIEW: Final = "Overview"
"""What the page shows first: to see it takes no click."""
_SHOWN_S: Final = 5.0
_CLICK: Final = """(() => {
  const [below, name] = NAME.includes(": ") ? NAME.split(": ") : ["", NAME];
  const parts = [...document.querySelectorAll("main section")];
  const part = below ? parts.find(one => one.querySelector("h2").textContent === below) : document;
  const found = [...part.querySelectorAll("main a, nav a, thead button")].find(one => one.textContent.trim() === name);
  if (found) found.click();
  return Boolean(found);
})()"""


def log_in(shown: Browser, rig: Rig, at: str = "n1") -> None:
    """Log in as an operator does. Raises Unanswered: the page did not come."""
    url = rig.admin_url(at)
    token = json.dumps(rig.token_file("operator").read_text().strip())
    asked = shown.open(f"{url}/", "Log in")
    shown.run(f"document.getElementById('token').value = {token}; document.forms[0].requestSubmit()")
    if not (asked and shown.comes("Worth a look")):
        raise Unanswered(f"an operator who logs in sees no overview, but {shown.text[:500]}")


def click(shown: Browser, rig: Rig, question: Question) -> None:
    """Plant what a question asks for, and click once.

    Raises:
        Unanswered: the page did not show it in time.
    """
    facts = ANSWERS[question.title](rig)
    until = time.monotonic() + PATIENCE_S
    try:
        while missing := _once(shown, rig, question.click, facts):
            if time.monotonic() > until:
                what = f"a click on {question.click} does not show {missing}"
                raise Unanswered(f"{question.title} {what}; the page says\n{shown.text}")
    finally:
        facts.undo()


def _once(shown: Browser, rig: Rig, name: str, facts: Facts) -> list[str]:
    facts.during()
    shown.open(f"{rig.admin_url(facts.at)}/?{time.monotonic_ns()}", "Worth a look")
    if name != OVERVIEW:
        try:
            wait_until(lambda: shown.run(_CLICK.replace("NAME", json.dumps(name))), name, _SHOWN_S)
        except WaitedInVain:
            return [f"anything to click on that is called {name}"]
    try:
        wait_until(lambda: not facts.hidden(shown.text), "the facts", _SHOWN_S)
    except WaitedInVain:
        return facts.hidden(shown.text)
    return []
