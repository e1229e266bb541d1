"""What is revoked: the same at all nodes, whatever order they hear it in; bounded, and strictly read."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pico_twisted.core.access.revocations import (
    BRIEF_ROUND_S,
    BRIEF_S,
    MAX_BY_BYTES,
    MAX_NAME_BYTES,
    MOST_LEEWAY_S,
    ROUND_S,
    UNDONE_S,
    BadRevocations,
    Meant,
    Revocation,
    Revocations,
    TooManyRevocations,
    end_of,
    read_revocations,
    written,
)
from pico_twisted.core.access.subject import CredentialKind, Subject

NOW = 1_800_000_000.0
CI = Subject(name="ci", kind=CredentialKind.JWT, rules=(), revocable_as=frozenset({"ci", "jti-7"}))

words = st.builds(
    Revocation,
    meant=st.sampled_from(Meant),
    name=st.sampled_from(("a", "b", "ü ", '"\\')),
    revoked=st.booleans(),
    at_ms=st.integers(0, 9),
    until_s=st.sampled_from((0, ROUND_S)),
    by=st.sampled_from(("", "x")),
)


def merged(*lists: Sequence[Revocation], most: int = 100, now_s: float = 0.0) -> Revocations:
    """A node that heard these lists one after the other."""
    made = Revocations(most)
    for heard in lists:
        made.merge(heard, now_s)
    return made


@given(st.lists(words, max_size=8), st.lists(words, max_size=8), st.lists(words, max_size=8), st.integers(1, 6))
def test_merging(a: list[Revocation], b: list[Revocation], c: list[Revocation], most: int) -> None:
    """Nodes that heard the same have the same list, in whatever order and however often, also where not all fits."""
    one = merged(a, b, c, most=most)
    other = merged(list(merged(c, b, most=most)), a, list(merged(a, c, most=most)), b, most=most)
    assert one.written() == other.written() and one.digest == other.digest
    before = one.written()
    assert one.merge(list(other), 0.0) == []
    assert one.written() == before and len(one) <= most
    for word in one:
        asked = Subject(name="", kind=CredentialKind.TOKEN, rules=(), revocable_as=frozenset({word.name}))
        held = one.is_revoked(asked) if word.meant is Meant.NAME else one.is_revoked(None, word.name)
        assert held is word.revoked


@given(st.lists(words, max_size=8))
def test_what_is_written_is_read(said: list[Revocation]) -> None:
    """A list is read as it was written, with comments and empty lines between."""
    assert sorted(read_revocations(b"# a comment\n\n" + written(said)), key=lambda word: word.line) == sorted(
        said, key=lambda word: word.line
    )


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    """Whatever is read is a list, or is refused."""
    try:
        found = read_revocations(data)
    except BadRevocations:
        return
    assert sorted(read_revocations(written(found)), key=lambda word: word.line) == sorted(
        found, key=lambda word: word.line
    )


@pytest.mark.parametrize(
    "line",
    [
        b'["name","a",true,1,0]', b'["name","a",true,1,0,"x",0]', b'["node","a",true,1,0,"x"]',
        b'["name","",true,1,0,"x"]',
        b'["name","a",1,1,0,"x"]', b'["name","a",true,true,0,"x"]', b'["name","a",true,1.5,0,"x"]',
        b'["name","a",true,-1,0,"x"]', b'["name","a",true,1,99999999999999999999,"x"]', b'["name","a\\n",true,1,0,"x"]',
        b'["name","\\ud800",true,1,0,"x"]', b'["name",7,true,1,0,"x"]', b'["name","a",true,NaN,0,"x"]', b"[" * 1000,
        b'["name","' + b"a" * (MAX_NAME_BYTES + 1) + b'",true,1,0,"x"]',
        b'["name","a",true,1,0,"' + b"x" * 1500 + b'"]',
        b'{"name":"a"}', b"\xff\xfe", b'[["name"],"a",true,1,0,"x"]',
    ],
)  # fmt: skip
def test_what_is_no_revocation(line: bytes) -> None:
    """A list with one line that is none is refused whole."""
    with pytest.raises(BadRevocations):
        read_revocations(b'["name","good",true,1,0,"x"]\n' + line)


@pytest.mark.parametrize("name", ["ci", "jti-7"])
def test_a_subject_by_each_of_its_names(name: str) -> None:
    """A subject is refused by any of its names, until that is taken back; an agent of that name is another matter."""
    revocations = Revocations()
    assert not revocations.is_revoked(CI, name)
    revocations.revoke(Meant.NAME, name, now_s=NOW, by="op")
    assert revocations.is_revoked(CI) and not revocations.is_revoked(None, name)
    assert revocations.undo(Meant.NAME, name, now_s=NOW, by="op") is not None
    assert not revocations.is_revoked(CI)
    assert revocations.undo(Meant.NAME, name, now_s=NOW, by="op") is None


def test_an_agent_by_its_id() -> None:
    """An agent is refused by its ID, whoever it is otherwise; nobody is who has no ID."""
    revocations = Revocations()
    revocations.revoke(Meant.AGENT, "agent-1", now_s=NOW, by="op")
    assert revocations.is_revoked(None, "agent-1") and revocations.is_revoked(CI, "agent-1")
    assert not revocations.is_revoked(None, "agent-2") and not revocations.is_revoked(CI) and len(revocations) == 1


def test_the_last_word_counts_whatever_the_clock() -> None:
    """Who speaks at a node whose clock is an hour behind overrules what that node knows, at all nodes."""
    ahead, behind = Revocations(), Revocations()
    said = ahead.revoke(Meant.NAME, "ci", now_s=NOW, by="op")
    behind.merge([said], NOW)
    undone = behind.undo(Meant.NAME, "ci", now_s=NOW - 3600, by="op")
    assert undone is not None
    assert ahead.merge([undone], NOW) == [undone]
    assert not ahead.is_revoked(CI) and ahead.digest == behind.digest
    again = behind.revoke(Meant.NAME, "ci", now_s=NOW - 3600, by="op")
    assert ahead.merge([again, said, undone], NOW) == [again] and ahead.is_revoked(CI)


def test_words_end_together() -> None:
    """A word that ends does so on a full multiple, so that clocks that differ rarely make lists differ. Then it is
    forgotten, and not learnt again from a node that still has it; what was taken back is kept for a month."""
    revocations = Revocations()
    word = revocations.revoke(Meant.NAME, "ci", now_s=NOW, by="op", until_s=NOW + 1)
    assert word.until_s % BRIEF_ROUND_S == 0 and NOW + 1 <= word.until_s <= NOW + 1 + BRIEF_ROUND_S
    longer = Revocations().revoke(Meant.NAME, "ci", now_s=NOW, by="op", until_s=NOW + BRIEF_S)
    assert longer.until_s % ROUND_S == 0 and NOW + BRIEF_S <= longer.until_s <= NOW + BRIEF_S + ROUND_S
    assert not revocations.drop_ended(word.until_s - 1) and revocations.is_revoked(CI)
    assert revocations.drop_ended(word.until_s) and not revocations.is_revoked(CI) and len(revocations) == 0
    assert revocations.digest == Revocations().digest
    assert revocations.merge([word], word.until_s) == []
    revocations.revoke(Meant.NAME, "ci", now_s=NOW, by="op")
    revocations.undo(Meant.NAME, "ci", now_s=NOW, by="op")
    assert not revocations.drop_ended(NOW + UNDONE_S - 1) and revocations.drop_ended(NOW + UNDONE_S + ROUND_S)


def test_a_jti_ends_with_its_jwt() -> None:
    """When that is known: some time after `exp`, since other ports may have another leeway. A `sub` may have others."""

    def shown(name: str, kind: CredentialKind, expires_at: float | None, *names: str) -> Subject:
        return Subject(name=name, kind=kind, rules=(), expires_at=expires_at, revocable_as=frozenset((name, *names)))

    subjects = [
        shown("ci", CredentialKind.TOKEN, None),
        shown("ci", CredentialKind.JWT, NOW, "jti-1"),
        shown("ci", CredentialKind.JWT, None, "jti-2"),
    ]
    assert [end_of(name, subjects) for name in ("jti-1", "jti-2", "ci", "jti-3")] == [NOW + MOST_LEEWAY_S, 0, 0, 0]
    subjects.append(shown("ci", CredentialKind.JWT, NOW + 9, "jti-1"))
    assert end_of("jti-1", subjects) == NOW + 9 + MOST_LEEWAY_S, "the last one of that name"
    for other in (CredentialKind.TOKEN, CredentialKind.CERTIFICATE, CredentialKind.JWT):
        assert end_of("jti-1", [*subjects, shown("jti-1", other, NOW)]) == 0, "who has that name, too, may never end"


def test_a_full_list() -> None:
    """When there is no room an operator is told so, and may still take back; what others say lets the oldest go."""
    revocations = Revocations(2)
    for name in ("a", "b"):
        revocations.revoke(Meant.NAME, name, now_s=NOW, by="op")
    with pytest.raises(TooManyRevocations, match="no more are kept"):
        revocations.revoke(Meant.NAME, "c", now_s=NOW, by="op")
    revocations.undo(Meant.NAME, "b", now_s=NOW + 1, by="op")
    newer = merged([], most=2).revoke(Meant.NAME, "c", now_s=NOW + 2, by="op")
    assert revocations.merge([newer], NOW) == [newer]
    assert {word.name for word in revocations} == {"b", "c"}


@pytest.mark.parametrize("name", ["", "a\n", "\x1b[2J", "x" * (MAX_NAME_BYTES + 1)])
def test_a_name_that_nobody_has(name: str) -> None:
    """Such a name is refused, and nothing is kept."""
    revocations = Revocations()
    with pytest.raises(BadRevocations, match="printable"):
        revocations.revoke(Meant.NAME, name, now_s=NOW, by="op")
    assert len(revocations) == 0


def test_a_list_that_is_too_long() -> None:
    """It is refused before its words are looked at."""
    with pytest.raises(BadRevocations, match="more than 3"):
        read_revocations(b"x\n" * 4, 3)
    with pytest.raises(BadRevocations, match="more than"):
        read_revocations(b"\n" * 10 + b"x\n" * 1_000_000)


def test_the_longest_words() -> None:
    """They are read as they were written; a long name of an operator is shortened, not refused."""
    word = Revocations().revoke(Meant.AGENT, "\\" * MAX_NAME_BYTES, now_s=2**40, by='"' * 500, until_s=2**45)
    assert len(word.by) == MAX_BY_BYTES and read_revocations(written([word])) == [word]
    assert len(Revocations().revoke(Meant.NAME, "a", now_s=NOW, by="ü" * 500).by.encode()) <= MAX_BY_BYTES
