"""Names of tests."""

from __future__ import annotations


def short(value: object) -> str:
    """A table's value as part of a test's name."""
    if isinstance(value, str):
        return value
    if callable(value):
        return "-"
    if isinstance(value, bytes):
        text = value.decode("latin-1").translate({13: None, 10: "|"})
        return "".join(letter if letter.isprintable() else "?" for letter in text)[:40] or "empty"
    return str(value)
