"""What operators ask of other nodes, as bytes."""

from __future__ import annotations

import contextlib
import json

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pico_twisted.core.links.operations import (
    MAX_OPERATION_BYTES,
    Act,
    BadOperation,
    Operation,
    Progress,
    decode_operation,
    decode_progress,
)

COUNTS = st.integers(0, 2**40)


@given(act=st.sampled_from(Act), by=st.text())
def test_questions_come_back(act: Act, by: str) -> None:
    """Whatever an operator calls themselves: the question fits, and nothing of it moves a cursor."""
    asked = Operation(act=act, by=by, agent="agent-1" if act is Act.KICK else "")
    data = asked.encoded()
    found = decode_operation(data)
    assert len(data) <= MAX_OPERATION_BYTES and (found.act, found.agent) == (act, asked.agent)
    assert found.by.isprintable() and (found.by == by or not (by.isascii() and by.isprintable()) or len(by) > 256)


@given(numbers=st.lists(COUNTS, min_size=6, max_size=6), intake=st.sampled_from(("open", "drained")))
def test_answers_come_back(numbers: list[int], intake: str) -> None:
    """An answer is the same at the other end."""
    names = [field.name for field in attrs.fields(Progress) if field.name != "intake"]
    told = Progress(intake=intake, **dict(zip(names, numbers, strict=True)))
    assert decode_progress(told.encoded()) == told


@given(st.binary(max_size=3000))
def test_nonsense(data: bytes) -> None:
    """Any bytes are read, or refused in one way."""
    for read in (decode_operation, decode_progress):
        with contextlib.suppress(BadOperation):
            read(data)


@pytest.mark.parametrize(
    "changed",
    [
        {"act": "reload"}, {"act": None}, {"act": []}, {"by": 1}, {"by": "x" * 300}, {"agent": "a b"}, {"agent": ""},
        {"agent": 1}, {"agent": "a" * 65}, {"act": "drain"},
    ],
)  # fmt: skip
def test_questions_that_are_none(changed: dict[str, object]) -> None:
    """What is not exactly a question is refused: an agent's ID belongs to a kick alone."""
    with pytest.raises(BadOperation):
        decode_operation(json.dumps({"act": "kick", "by": "ann", "agent": "agent-1", **changed}).encode())


@pytest.mark.parametrize(
    "changed", [{"intake": 1}, {"requests": -1}, {"requests": True}, {"streams": 1.5}, {"silent": 2**60}]
)
def test_answers_that_are_none(changed: dict[str, object]) -> None:
    """Counts are counts."""
    with pytest.raises(BadOperation):
        decode_progress(json.dumps({**attrs.asdict(Progress(intake="open")), **changed}).encode())
    with pytest.raises(BadOperation):
        decode_progress(b"[" * MAX_OPERATION_BYTES)
