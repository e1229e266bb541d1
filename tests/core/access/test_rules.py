"""Rules as they are written, and what they allow."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pico_twisted.core.access.rules import Action, BadRule, Limits, Pattern, Rule, rate_text, read_rate
from pico_twisted.core.access.subject import CredentialKind, Reason, Refused, Subject


@pytest.mark.parametrize(
    "text",
    [
        "listen:web",
        "connect:acme-*",
        "listen:*",
        "admin:read",
        "admin:operate",
        "listen:acme-*;sessions=50;in_flight=500;rate=200/s",
        "connect:a;rate=30/min",
        "connect:a;rate=7/h",
    ],
)
def test_a_rule_is_written_as_it_was_read(text: str) -> None:
    """Each form that is documented."""
    assert str(Rule.read(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "", "listen", "listen:", "listen:a*b", "listen:**", "listen:-a", "Listen:a", "serve:a", "admin", "admin:write",
        "admin:read;rate=1/s", "listen:a;", "listen:a;sessions", "listen:a;sessions=0", "listen:a;sessions=-1",
        "listen:a;sessions=1;sessions=2", "listen:a;rate=5", "listen:a;rate=0/s", "listen:a;size=5",
        "listen:a;sessions=" + "9" * 100, "listen:a\x00", "listen:ä", "listen:" + "a" * 129, "listen:a" * 60,
    ],
)  # fmt: skip
def test_what_is_no_rule_is_refused(text: str) -> None:
    """With a sentence that says what one is."""
    with pytest.raises(BadRule, match=r"\w"):
        Rule.read(text)


@given(st.text(max_size=40))
def test_any_text_is_a_rule_or_is_refused(text: str) -> None:
    """Nothing else comes of it."""
    try:
        rule = Rule.read(text)
    except BadRule:
        return
    assert Rule.read(str(rule)) == rule


def test_a_pattern_is_an_id_or_a_beginning() -> None:
    """Compared in lower case; a beginning also matches itself."""
    acme = Pattern.read("ACME-*")
    assert [acme.matches(name) for name in ("acme-", "acme-web", "acme", "other-acme-web")] == [
        True,
        True,
        False,
        False,
    ]
    assert Pattern.read("web").matches("web") and not Pattern.read("web").matches("web2")
    assert Pattern.read("*").matches("anything")


def test_a_subject_may_do_what_a_rule_allows_and_nothing_else() -> None:
    """The first rule that fits counts, with its limits; who may operate may look."""
    rules = tuple(map(Rule.read, ["listen:acme-web;sessions=2", "listen:acme-*", "admin:operate"]))
    subject = Subject(name="acme", kind=CredentialKind.TOKEN, rules=rules)
    found = subject.rule_for(Action.LISTEN, "acme-web")
    assert found is not None and found.limits == Limits(sessions=2)
    assert subject.rule_for(Action.LISTEN, "acme-api") is rules[1]
    assert subject.rule_for(Action.LISTEN, "other-web") is None
    assert subject.rule_for(Action.LISTEN) is None
    assert subject.rule_for(Action.CONNECT, "acme-web") is None
    assert subject.rule_for(Action.ADMIN_READ) is rules[2] and subject.rule_for(Action.ADMIN_OPERATE) is rules[2]
    reader = Subject(name="eye", kind=CredentialKind.TOKEN, rules=(Rule.read("admin:read"),))
    assert reader.rule_for(Action.ADMIN_OPERATE) is None


@pytest.mark.parametrize("text", ["200/s", "30/min", "1/h"])
def test_a_rate_is_a_number_a_second(text: str) -> None:
    """In the unit that it was written in."""
    assert rate_text(read_rate(text)) == text


def test_who_is_unknown_is_told_to_authenticate_and_who_may_not_is_told_so() -> None:
    """401, 403, and 503 when asking later helps."""
    statuses = {reason: Refused(reason=reason, message="no").status for reason in Reason}
    assert statuses[Reason.NOT_ALLOWED] == 403
    assert statuses[Reason.KEYS_AWAY] == statuses[Reason.BUSY] == 503
    assert statuses[Reason.EXPIRED] == statuses[Reason.MISSING] == 401
