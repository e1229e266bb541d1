"""Edits of header fields."""

from __future__ import annotations

import pytest

from pico_twisted.core.header_edits import HeaderEdits, read_field, read_field_name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a b",
        "é",
        "Host",
        "content-length",
        "Transfer-Encoding",
        "Connection",
        "Upgrade",
        "TE",
        "X-Forwarded-For",
        "x_forwarded_for",
        "X-Real-IP",
        "Forwarded",
        "x-request-id",
        "X-Pico-Endpoint",
        "x_pico_error",
        "CDN-Loop",
        "Via",
        "Expect",
        "Client-IP",
    ],
)
def test_names_that_hops_decide(name: str) -> None:
    """Nobody edits what frames, routes, belongs to one connection, or tells of the client: however it is spelled."""
    with pytest.raises(ValueError, match="not the name"):
        read_field_name(name)
    with pytest.raises(ValueError, match="not "):
        read_field(f"{name}: value")


@pytest.mark.parametrize("text", ["X-A", "X-A: b\r\nX-C: d", "X-A: b\nc", "X-A: \0", "X-A: \x7f", "X-A: " + "b" * 4001])
def test_values_that_break_a_head(text: str) -> None:
    """A value is one line."""
    with pytest.raises(ValueError, match="not a line"):
        read_field(text)


def test_edits() -> None:
    """What is set takes the place of all of its name, what is added does not, and other fields keep their order."""
    edits = HeaderEdits.of(set_to=[read_field("X-A:new ")], add=[read_field("x-b: é"), "X-E: "], remove=["X-C"])
    fields = [(name.lower(), name, b"old") for name in (b"X-A", b"X-B", b"x-c", b"X-D", b"x-a")]
    assert [(name, value) for _, name, value in edits.edited(fields)] == [
        (b"X-B", b"old"),
        (b"X-D", b"old"),
        (b"X-A", b"new"),
        (b"x-b", "é".encode()),
        (b"X-E", b""),
    ]
    assert edits.unnamed(frozenset((b"x-a", b"x-d"))) == {b"x-d"}
    assert edits and not HeaderEdits.of()
