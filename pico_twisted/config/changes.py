"""What a configuration that was read again changes, key by key, and what of it is in force afterwards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, TypeVar

import attrs

from pico_twisted.config.fields import Key, all_keys, own_keys

C = TypeVar("C")

MAX_SHOWN: Final = 60
"""Most characters of a value that are told: enough to recognise it."""


@attrs.frozen(kw_only=True)
class Change:
    """A key with another value than before.

    Attributes:
        path: of the key.
        words: the key and both values, unless they are secret.
        live: it takes no restart.
    """

    path: str
    words: str
    live: bool


def changes(before: Any, after: Any) -> Iterator[Change]:
    """Compare two configurations of one class, but for the lists of mappings in them.

    Args:
        before: what is in force, an instance of a configuration class.
        after: what was read, another one.
    """
    for key in all_keys(type(before)):
        if key.kind is None or key.value(before) == key.value(after):
            continue
        if key.kind.secret:
            words = f"{key.dotted} changed"
        else:
            words = f"{key.dotted} {_shown(key, before)} -> {_shown(key, after)}"
        yield Change(path=key.dotted, words=words, live=key.live and _stays_on(key.path[:-1], before, after))


def in_force(before: C, after: C) -> C:
    """What is in force when `after` was taken as far as it takes no restart; arguments as of `changes`."""
    if not _stays_on((), before, after):
        return before
    values: dict[str, object] = {}
    for key in own_keys(type(before)):
        name = key.path[-1]
        if key.section is not None:
            values[name] = in_force(getattr(before, name), getattr(after, name))
        elif key.live:
            values[name] = getattr(after, name)
    # attrs declares this for its own instances, which no type variable says
    taken: C = attrs.evolve(before, **values)  # type: ignore[misc]
    return taken


def _stays_on(path: Sequence[str], before: Any, after: Any) -> bool:
    """Whether all sections on a path are on, before and after: else a port has another TLS, or lets others in."""
    for name in ("", *path):
        before, after = (getattr(section, name) if name else section for section in (before, after))
        if not all(getattr(section, "enabled", True) for section in (before, after)):
            return False
    return True


def _shown(key: Key, config: Any) -> str:
    assert key.kind is not None
    text = key.kind.to_text(key.value(config))
    return (text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "...") or "nothing"
