"""Words choose requests; those that mean nothing get an answer that helps."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pico_twisted.core.inspect.filters import Filter, FilterError
from pico_twisted.core.inspect.recording import Recording
from tests.core.inspect.recorded import recorded


@pytest.fixture
def hook() -> Recording:
    """A call of a webhook that failed."""
    return recorded(
        b"POST /hooks/stripe?token=s3cret&id=7 HTTP/1.1",
        b"Content-Type: application/json\r\nAuthorization: Bearer abcdef\r\nContent-Length: 16\r\n",
        b'{"type": "Paid"}',
        answer=b"HTTP/1.1 503 Busy\r\nX-Flavour: Vanilla\r\n\r\n",
        answer_body=b"come back later",
        took_s=0.25,
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        "status:503",
        "status:5xx",
        "status:500-599",
        "status:4xx-5xx",
        "method:post",
        "METHOD:POST",
        "path:/hooks",
        "min:100ms",
        "min:0.25s",
        "min:250",
        "endpoint:Shop",
        "stripe",
        "paid",
        "vanilla",
        '"come back"',
        '"type": ',
        "status:5xx method:POST path:/hooks min:100ms later",
    ],
)
def test_chooses(hook: Recording, text: str) -> None:
    """Each word holds of this call."""
    assert Filter(text).matches(hook)


@pytest.mark.parametrize(
    "text",
    ["status:200", "status:400-499", "method:GET", "path:/hook/", "min:251ms", "endpoint:blog", "nowhere", "later GET"],
)
def test_leaves_out(hook: Recording, text: str) -> None:
    """One word does not hold of it."""
    assert not Filter(text).matches(hook)


def test_does_not_tell_what_is_hidden(hook: Recording) -> None:
    """A search finds no credential: of those the list says nothing."""
    assert not Filter("s3cret").matches(hook) and not Filter("abcdef").matches(hook)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("status:abc", "takes 404, 4xx or 400-499, not abc"),
        ("status:500-", "not 500-"),
        ("status:599-500", "not 599-500"),
        ("min:soon", "takes a time such as 100ms or 2s"),
        ("path:hooks", "such as /hooks"),
        ("colour:red", "no filter is called colour: (status:, method:, path:, min:, endpoint:)"),
        ("http://x", 'text with a colon is written "http://x"'),
        ('"open', "a quotation mark is missing"),
        ("x" * 1001, "at most 1000 characters"),
        ("x " * 21, "at most 20 words"),
    ],
)
def test_says_what_is_wrong(text: str, words: str) -> None:
    """An error names the word and what would be right."""
    with pytest.raises(FilterError) as caught:
        Filter(text)
    assert words in str(caught.value)


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    """Whatever somebody types, it is a filter or an error with words."""
    call = recorded()
    try:
        Filter(text).matches(call)
    except FilterError as error:
        assert str(error)
