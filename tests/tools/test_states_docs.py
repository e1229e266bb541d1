"""The generated page of states."""

from __future__ import annotations

from tools.states_docs import PAGE, page


def test_the_page_of_states_is_up_to_date() -> None:
    """A reader finds the states and transitions that the code has today."""
    assert PAGE.read_text(encoding="utf-8") == page(), "docs/development/states.md is stale: run make states-docs"


def test_the_machines_are_drawn_and_every_listed_state_is_entered_somewhere() -> None:
    """The declared machines have arrows from their first state to their last; no enum is listed without an entry."""
    text = page()
    for arrow in ("HEAD --> LENGTH: BY_LENGTH", "new --> waiting: start", "stopped --> stopped:"):
        assert arrow in text
    for section in text.split("### ")[1:]:
        assert "`" in section.rpartition("| --- |")[2], section.partition("\n")[0]
