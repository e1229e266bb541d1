"""Credentials are shown to nobody who did not ask, and an edited request gets them back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pico_twisted.core.inspect.masks import masked, text_of, unmasked_fields, unmasked_target
from pico_twisted.core.inspect.shown import detail, revealed, row
from pico_twisted.core.secret_names import HIDDEN, hide_query_secrets
from tests.core.inspect.recorded import recorded


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        (b"cookie", b"session=abc; theme=dark", f"session={HIDDEN}; theme={HIDDEN}"),
        (b"cookie", b"odd", HIDDEN),
        (b"set-cookie", b"session=abc; Path=/; HttpOnly", f"session={HIDDEN}; Path=/; HttpOnly"),
        (b"authorization", b"Bearer abc.def", f"Bearer {HIDDEN}"),
        (b"authorization", b"abcdef", HIDDEN),
        (b"proxy-authorization", b"Basic dTpw", f"Basic {HIDDEN}"),
        (b"x-api-key", b"abc", HIDDEN),
        (b"x-auth-token", b"abc", HIDDEN),
        (b"stripe-signature", b"t=1,v1=abc", HIDDEN),
        (b"referer", b"https://a.example/?token=abc&x=1", f"https://a.example/?token={HIDDEN}&x=1"),
        (b"location", b"https://u:p@a.example/x", f"https://{HIDDEN}@a.example/x"),
        (b"location", b"/cb?x=1#access_token=abc&y=2", f"/cb?x=1#access_token={HIDDEN}&y=2"),
        (b"referer", b"https://a.example/?sig=abc&design=1", f"https://a.example/?sig={HIDDEN}&design=1"),
        (b"x-auth-key", b"abc", HIDDEN),
        (b"x-session-id", b"abc", HIDDEN),
        (b"x-author", b"abc", "abc"),
        (b"user-agent", b"curl/8", "curl/8"),
        (b"x-name", "José".encode(), "José"),
        (b"x-name", b"Jos\xe9", "José"),
        (b"authorization", b"", ""),
    ],
)
def test_what_is_shown_of_a_field(name: bytes, value: bytes, shown: str) -> None:
    """The names of cookies and the scheme of an authorization stay; what they protect does not."""
    assert masked(name, value) == shown


def test_nothing_hidden_is_in_what_the_page_gets() -> None:
    """Neither the list nor the details hold a credential; each one comes when it is asked for by its place."""
    call = recorded(
        b"GET /x?access_token=QUERY-SECRET HTTP/1.1",
        b"Cookie: a=COOKIE-SECRET\r\nAuthorization: Basic BASIC-SECRET\r\n",
        answer=b"HTTP/1.1 200 OK\r\nSet-Cookie: a=SET-SECRET\r\n\r\n",
    )
    assert "SECRET" not in str(row(call)) + str(detail(call))
    places = [("target", 0), ("request", 3), ("request", 4), ("response", 0)]
    found = [revealed(call, part, at) for part, at in places]
    assert found == ["/x?access_token=QUERY-SECRET", "a=COOKIE-SECRET", "Basic BASIC-SECRET", "a=SET-SECRET"]
    assert [revealed(call, *place) for place in (("request", 99), ("request", -1), ("nothing", 0))] == [None] * 3


def test_an_edited_request_gets_back_what_was_hidden() -> None:
    """Who edits one field sends the others as they were, the credentials among them, byte for byte."""
    fields = [(b"cookie", b"Cookie", b"a=secret"), (b"x-name", b"X-Name", b"Jos\xe9"), (b"x-token", b"X-Token", b"t")]
    shown = [(text_of(name), masked(lower, value)) for lower, name, value in fields]
    assert unmasked_fields(shown, fields) == [(name, value) for _, name, value in fields]
    edited = [("cookie", "a=mine"), ("X-Token", HIDDEN), ("X-Token", HIDDEN), ("X-New", "é")]
    assert unmasked_fields(edited, fields) == [
        (b"cookie", b"a=mine"),
        (b"X-Token", b"t"),
        (b"X-Token", HIDDEN.encode()),  # there was only one
        (b"X-New", "é".encode()),
    ]


def test_an_edited_target_gets_back_what_was_hidden() -> None:
    """So do parameters, in their order."""
    target = "/x?token=one&page=1&token=two"
    assert unmasked_target(hide_query_secrets(target), target) == target
    assert unmasked_target(f"/y?page=2&token={HIDDEN}", target) == "/y?page=2&token=one"
    assert unmasked_target(f"/y?other={HIDDEN}", target) == f"/y?other={HIDDEN}"


@given(st.text(alphabet="abtoken=&?/%", max_size=40))
def test_a_target_that_is_left_alone_is_the_same(query: str) -> None:
    """Hiding and filling in is no change, whatever the query looks like."""
    target = "/" + query
    assert unmasked_target(hide_query_secrets(target), target) == target
