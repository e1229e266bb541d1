"""Edits of the header fields that an operator asks for: some are removed, and some are put behind the others."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

import attrs

from pico_twisted.core.field_names import BETWEEN_HOPS, is_ours, plain_name

_NAME: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,100}")
_VALUE: Final = re.compile(r".{0,4000}")
_NOT_TO_EDIT: Final = frozenset((b"cdn-loop", b"expect", b"via"))
"""What hops act on, besides what `field_names` knows."""

Field = tuple[bytes, bytes, bytes]
"""(lower-case name, name, value)."""


def read_field_name(text: str) -> str:
    """Check the name of a field that may be edited: none that frames, routes, or that a hop decides.

    Raises:
        ValueError: it is no such name.
    """
    plain = plain_name(text.lower().encode("ascii", "replace"))
    if not _NAME.fullmatch(text) or is_ours(plain) or plain.startswith(BETWEEN_HOPS) or plain in _NOT_TO_EDIT:
        raise ValueError("not the name of a field that may be edited")
    return text


def read_field(text: str) -> str:
    """Check `Name: value`, one whole line of a head.

    Raises:
        ValueError: it is none, or its name may not be edited.
    """
    name, colon, value = text.partition(":")
    value = value.strip(" \t")
    read_field_name(name)
    if not colon or not _VALUE.fullmatch(value) or not value.isprintable():
        raise ValueError("not a line of a head")
    return f"{name}: {value}"


@attrs.frozen
class HeaderEdits:
    """What is done to the fields of each head.

    Attributes:
        removed: fields that are taken away, by lower-case name.
        put: fields that are put behind the others then.
    """

    removed: frozenset[bytes]
    put: tuple[Field, ...]

    @classmethod
    def of(cls, *, set_to: Iterable[str] = (), add: Iterable[str] = (), remove: Iterable[str] = ()) -> HeaderEdits:
        """Make them of what `read_field` and `read_field_name` let pass.

        Args:
            set_to: fields that take the place of all of their name.
            add: fields that are put beside those of their name.
            remove: names.
        """
        in_place = [_field(text) for text in set_to]
        names = (name.lower().encode("ascii") for name in remove)
        return cls(
            frozenset((*names, *(lower for lower, _, _ in in_place))), (*in_place, *(_field(text) for text in add))
        )

    def __bool__(self) -> bool:
        return bool(self.removed or self.put)

    @property
    def names(self) -> frozenset[bytes]:
        """The lower-case names of all fields that are edited: nobody else has a say about them, in trailers either."""
        return self.removed | {lower for lower, _, _ in self.put}

    def edited(self, fields: Sequence[Field]) -> Sequence[Field]:
        """The fields of a head as they go on."""
        return [*(field for field in fields if field[0] not in self.removed), *self.put]

    def unnamed(self, connection: frozenset[bytes]) -> frozenset[bytes]:
        """What Connection names, without what we have put there: the other side cannot have it dropped."""
        return connection - {lower for lower, _, _ in self.put}


def _field(text: str) -> Field:
    name, _, value = text.partition(": ")
    return name.lower().encode("ascii"), name.encode("ascii"), value.encode("utf-8")
