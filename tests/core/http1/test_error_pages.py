"""Errors as people and programs read them."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pico_twisted.core.http1.error_pages import PAGE_POLICY, ErrorFacts, agent_message, page_for, wants_html

FACTS = ErrorFacts(
    status=502, code="no-upstreams", message="no available upstreams", endpoint="shop", request_id="9a2f", node="n1"
)
EVIL = '<script>alert("1")</script>\'$status&'


@pytest.mark.parametrize(
    ("accept", "html"),
    [
        (b"text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8", True),
        (b"TEXT/HTML", True),
        (b"application/json;q=0.5, text/html", True),
        (b"text/html;q=0.5, application/json", False),
        (b"text/html;q=0", False),
        (b"text/html;level=1;q=0.3,application/json ; q=0.2", True),
        (b"application/json, text/html", False),
        (b"*/*", False),
        (b"", False),
        (b",;q=,text/htmlx", False),
    ],
)
def test_who_wants_html(accept: bytes, html: bool) -> None:
    """A browser gets HTML; a program gets JSON, also when it does not care or says nothing (RFC 9110 12.5.1)."""
    assert wants_html(accept) is html


@given(st.binary(max_size=60))
def test_any_accept(accept: bytes) -> None:
    """Whatever stands in Accept, it is read."""
    wants_html(accept)


def test_json() -> None:
    """A program is told what was looked for, why it failed, and where to ask, on a line of its own."""
    body = FACTS.as_json()
    assert body.endswith(b"}\n") and body.count(b"\n") == 1
    assert json.loads(body) == {
        "error": "no available upstreams",
        "code": "no-upstreams",
        "endpoint": "shop",
        "request_id": "9a2f",
        "node": "n1",
        "hint": "If this is yours: start its agent.",
    }


def test_a_page() -> None:
    """A page says the same in at most 2 KB, without scripts, links or anything from elsewhere."""
    page = FACTS.as_html()
    for words in (b"502 Bad Gateway", "No agent serves “shop” now.".encode(), b"If this is yours: start its agent."):
        assert words in page
    for fact in (b"<dd>shop", b"<dd>no-upstreams", b"<dd>9a2f", b"<dd>n1"):
        assert fact in page
    assert not re.search(rb"<script|<link|<img|href|src=|url\(|//|@import", page)
    long = ErrorFacts(
        status=431, code="c" * 64, message="m" * 100, endpoint="e" * 128, request_id="r" * 128, node="n" * 64
    )
    assert len(long.as_html()) <= 2048 and len(page) <= 2048
    assert b"sha256-" in PAGE_POLICY and b"unsafe" not in PAGE_POLICY


@pytest.mark.parametrize(
    "page", [None, "<p title='$message' id=\"$code\">$status $reason $endpoint $request_id $node $hint $x $"]
)
def test_nothing_is_injected(page: str | None) -> None:
    """What comes from a client or an agent stays text, in our page and in the operator's."""
    facts = ErrorFacts(status=502, code=EVIL, message=EVIL, endpoint=EVIL, request_id=EVIL, node=EVIL)
    made = facts.as_html(page).decode()
    assert "<script" not in made and 'alert("' not in made and "'$status" not in made
    assert "&lt;script&gt;alert(&quot;1&quot;)" in made
    assert json.loads(facts.as_json())["error"] == EVIL


def test_pages_of_the_operator() -> None:
    """A status has its own page, else the default one, else ours; what is not a known name in it stays."""
    pages = {"502": "$status $endpoint: $price $$ {$node}", "default": "d"}
    assert (page_for(pages, 502), page_for(pages, 503), page_for({}, 502)) == (pages["502"], "d", None)
    assert FACTS.as_html(pages["502"]) == b"502 shop: $price $ {n1}"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"error": "cannot connect"}', "cannot connect"),
        (b'{"error": "a\\u001b[2Jb"}', "a?[2Jb"),
        (b'{"error": 5}', "service failed"),
        (b"[]", "service failed"),
        (b"<html>", "service failed"),
        (b"", "service failed"),
        (b"[" * 4096, "service failed"),
        (b"\xff", "service failed"),
    ],
)
def test_the_words_of_an_agent(body: bytes, message: str) -> None:
    """An agent's own words are told if they are words, and nothing else that it sends."""
    assert agent_message(body, "service-failed") == message
