"""How the configuration classes declare their keys.

A key carries its help text, its kind and its default as the text of a file in the metadata of its attrs field. From
there come the flags, the samples, the reference documentation and the messages: nothing is written twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs

from pico_twisted.config.kinds import Kind, Many

_HELP, _KIND, _SECTION, _ITEM, _LIVE = "help", "kind", "section", "item", "live"


def setting(kind: Kind[Any] | Many[Any], default: str | None, help: str, *, live: bool = False) -> Any:
    """A key that holds a value.

    Args:
        kind: what fits.
        default: the default as a file would say it (a list with commas); None when the key must be given.
        help: what the key is for: full sentences, no line breaks.
        live: a reload takes another value; else it takes a restart.
    """
    metadata = {_HELP: f"{help} Read again on a reload." if live else help, _KIND: kind, _LIVE: live}

    def check(_instance: object, _attribute: object, value: object) -> None:
        kind.check(value)

    if default is None:
        return attrs.field(validator=check, metadata=metadata)
    return attrs.field(default=kind.parse(default), validator=check, metadata=metadata, repr=not kind.secret)


def section(cls: type[Any], help: str) -> Any:
    """A key that holds a mapping of further keys, all with defaults."""
    return attrs.field(factory=cls, metadata={_HELP: help, _SECTION: cls})


def listing(cls: type[Any], help: str) -> Any:
    """A key that holds a list of mappings; empty by default. It has no flag of its own, and a reload takes another."""
    return attrs.field(default=(), converter=tuple, metadata={_HELP: help, _ITEM: cls, _LIVE: True})


@attrs.frozen(kw_only=True)
class Key:
    """One key of a configuration class, seen from its root.

    Attributes:
        path: the names from the root on, such as ``("proxy", "bind_addr")``.
        help: what it is for.
        kind: what fits; None for a section and for a listing.
        section: the class of the mapping that it holds, if it holds one.
        item: the class of the mappings in its list, if it holds such a list.
        live: a reload takes another value.
        default: its default value; `attrs.NOTHING` when it must be given.
    """

    path: tuple[str, ...]
    help: str
    kind: Kind[Any] | Many[Any] | None
    section: type[Any] | None
    item: type[Any] | None
    live: bool
    default: Any

    @property
    def dotted(self) -> str:
        """The path as messages write it."""
        return ".".join(self.path)

    @property
    def flag(self) -> str:
        """The name of the flag, without the two dashes before it."""
        return self.dotted.replace("_", "-")

    @property
    def default_text(self) -> str:
        """The default as a flag would say it."""
        return "" if self.kind is None or self.default is attrs.NOTHING else self.kind.to_text(self.default)

    def section_of(self, config: Any) -> Any:
        """The section that has this key, in a configuration of the class at whose root the path begins."""
        for name in self.path[:-1]:
            config = getattr(config, name)
        return config

    def value(self, config: Any) -> Any:
        """What such a configuration has for this key."""
        return getattr(self.section_of(config), self.path[-1])


def own_keys(cls: type[Any], prefix: tuple[str, ...] = ()) -> Iterator[Key]:
    """The keys that stand directly in one class, in order."""
    for field in attrs.fields(cls):
        yield Key(
            path=(*prefix, field.name),
            help=field.metadata[_HELP],
            kind=field.metadata.get(_KIND),
            section=field.metadata.get(_SECTION),
            item=field.metadata.get(_ITEM),
            live=field.metadata.get(_LIVE, False),
            default=field.default,
        )


def all_keys(cls: type[Any], prefix: tuple[str, ...] = ()) -> Iterator[Key]:
    """The keys of one class and of its sections, each section before its own keys."""
    for found in own_keys(cls, prefix):
        yield found
        if found.section is not None:
            yield from all_keys(found.section, found.path)
