"""Texts that several parts read and write: one definition of each, and what it accepts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import pico_twisted
from pico_twisted.core import text

PACKAGE = Path(pico_twisted.__file__).parent


def test_printable_and_escaped_leave_nothing_that_a_terminal_acts_upon() -> None:
    """Characters that move a cursor or hide are replaced, or shown as escapes; all others stay as they are."""
    assert text.printable("nœud 1") == text.escaped("nœud 1") == "nœud 1"
    assert text.printable("a\x1b[31m\r\n\u202eb") == "a?[31m???b"
    assert text.printable("two\nlines", " ") == "two lines"
    assert text.escaped("a\x1b[31m\r\n\u202eb") == r"a\x1b[31m\r\n\u202eb"


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(-3, "0 s"), (40.9, "40 s"), (119, "1 min"), (7199, "119 min"), (7200, "2 h"), (9 * 86400 - 1, "8 d")],
)
def test_spans_have_whole_units(seconds: float, expected: str) -> None:
    """What is said to end in eight days does not end before."""
    assert text.span(seconds) == expected


@pytest.mark.parametrize(
    ("host", "port", "expected"),
    [
        ("n1", 8000, "n1:8000"),
        ("10.0.0.1", 80, "10.0.0.1:80"),
        ("::1", 8002, "[::1]:8002"),
        ("fe80::1%eth0", 1, "[fe80::1%eth0]:1"),
    ],
)
def test_an_ipv6_address_has_brackets_before_its_port(host: str, port: int, expected: str) -> None:
    """Only an IPv6 address is put in brackets."""
    assert text.host_port(host, port) == expected


@pytest.mark.parametrize("value", ["", "-a", ".a", "a" * 129, "a b", "a\n", "é", "a/b"])
def test_what_is_no_endpoint_id(value: str) -> None:
    """An endpoint ID has 1 to 128 characters of A-Z a-z 0-9 . _ -, the first a letter or a digit."""
    assert not text.ENDPOINT_ID_PATTERN.fullmatch(value)
    assert not text.ENDPOINT_ID_BYTES_PATTERN.fullmatch(value.encode())


@pytest.mark.parametrize("value", ["a", "0", "Web.2_x-", "a" * 128])
def test_what_is_an_endpoint_id(value: str) -> None:
    """The text and the bytes of an endpoint ID are read by the same rule."""
    assert text.ENDPOINT_ID_PATTERN.fullmatch(value)
    assert text.ENDPOINT_ID_BYTES_PATTERN.fullmatch(value.encode())


@pytest.mark.parametrize("pattern", [text.NAME_PATTERN.pattern, text.ENDPOINT_ID_PATTERN.pattern])
def test_a_pattern_is_written_once(pattern: str) -> None:
    """Names and endpoint IDs are described in one file, whatever the order of the ranges."""

    def key(body: str) -> str:
        return re.sub(r"\[[^]]*\]", lambda found: "".join(sorted(found[0])), body)

    wanted = key(pattern)
    owners = [path for path in PACKAGE.rglob("*.py") if wanted in key(path.read_text())]
    assert owners == [PACKAGE / "core" / "text.py"]
