"""Shapes as JSON, and back."""

from __future__ import annotations

from typing import Any, Final, TypeVar, cast, get_origin

import cattrs

from pico_twisted.net.admin.shapes.events import FieldValue
from pico_twisted.net.admin.shapes.gossip import GossipValue

S = TypeVar("S")

MOST: Final = 2.0**64
"""No number that a node tells is larger, and a text of one must not break what many nodes say together: `1e999` is
infinite, and a thousand digits become no time."""


def _checked(value: object, kind: type[S]) -> S:
    """A plain value as it is: cattrs would make a text out of a null, and a number out of a text."""
    fits = isinstance(value, kind) or (kind is float and isinstance(value, int))
    if not fits or (isinstance(value, bool) and kind is not bool) or _is_without_end(value):
        raise ValueError(f"not a {kind.__name__}")
    return cast(S, value)


def _is_without_end(value: object) -> bool:
    """Whether a number is none that JSON may hold, or is told to others in a form that they can show."""
    return isinstance(value, int | float) and not -MOST <= value <= MOST


def _gossip_value(value: object, _: object) -> GossipValue:
    return value if isinstance(value, str) else _checked(value, int)


def _field_value(value: object, _: object) -> FieldValue:
    if (value is not None and not isinstance(value, str | int | float)) or _is_without_end(value):
        raise ValueError("not a field of an event")
    return value


_converter = cattrs.Converter()
for _kind in (str, int, float, bool):
    _converter.register_structure_hook(_kind, _checked)
_converter.register_structure_hook_func(lambda kind: kind == GossipValue, _gossip_value)
_converter.register_structure_hook_func(lambda kind: kind == FieldValue, _field_value)


class ShapeError(ValueError):
    """What a server said is not what the route is for."""


def to_json(value: object) -> Any:  # that is what JSON is
    """A shape, or lists and maps of them, as what JSON can hold."""
    return _converter.unstructure(value)


def read(data: object, kind: type[S]) -> S:
    """A shape, or a list or map of them, out of decoded JSON. Keys that a newer node added are ignored.

    Raises:
        ShapeError: it is not of that kind.
    """
    if not isinstance(data, get_origin(kind) or dict):
        raise ShapeError("not what was asked for")
    try:
        return _converter.structure(data, kind)
    except (cattrs.BaseValidationError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise ShapeError("not what was asked for") from error  # cattrs raises what its code stumbles over
