"""What a reload changed in an agent's listeners, in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pico_twisted.config import ListenerConfig
from pico_twisted.config.changes import changes

MAX_NAMED: Final = 10
"""Listeners that a verdict names; of more it says how many they are."""


def difference(before: ListenerConfig, after: ListenerConfig) -> str:
    """A changed listener, and what changed."""
    return f"{after.endpoint} ({', '.join(change.words for change in changes(before, after))})"


def told(verb: str, texts: Sequence[str]) -> str:
    """Listeners that were all added, changed or removed."""
    more = len(texts) - MAX_NAMED
    named = ", ".join(texts[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")
    return f"{'listener' if len(texts) == 1 else 'listeners'} {verb}: {named}"
