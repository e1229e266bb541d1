"""Plain mappings, lists and texts into configuration classes, on cattrs; every misfit becomes a fault with its path."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import attrs
import cattrs
from cattrs import ClassValidationError, ForbiddenExtraKeysError, IterableValidationError
from cattrs.gen import make_dict_structure_fn, override

from .document import child
from .faults import Fault, Unfit, shown
from .fields import Key, own_keys

C = TypeVar("C")


@attrs.frozen(kw_only=True)
class Structured(Generic[C]):
    """The outcome for one class: the value when there are no faults, and else what is left with the faulty keys gone.

    `value` is None only when not even the rest could be made.
    """

    value: C | None
    faults: tuple[Fault, ...]


def structure(data: dict[str, Any], cls: type[C]) -> Structured[C]:
    """Build `cls` from what a file and flags say."""
    try:
        return Structured(value=_CONVERTER.structure(data, cls), faults=())
    except (ClassValidationError, IterableValidationError, Unfit) as error:
        faults = tuple(_faults(error, "", cls))
    try:
        rest = _CONVERTER.structure(_without(data, {fault.path for fault in faults}, ""), cls)
    except (ClassValidationError, IterableValidationError, Unfit):
        return Structured(value=None, faults=faults)
    return Structured(value=rest, faults=faults)


def _make_hook(cls: type[Any], converter: cattrs.Converter) -> Callable[[Any, Any], Any]:
    names = [key.path[-1] for key in own_keys(cls)]
    overrides = {}
    for key in own_keys(cls):
        if key.kind is not None:
            overrides[key.path[-1]] = override(struct_hook=_value_hook(key))
        elif key.item is not None:
            overrides[key.path[-1]] = override(struct_hook=_listing_hook(key.item, converter))
    plain = make_dict_structure_fn(
        cls,
        converter,
        _cattrs_detailed_validation=True,
        _cattrs_forbid_extra_keys=True,
        **overrides,  # type: ignore[arg-type]  # the signature lists the options first
    )

    def hook(raw: Any, _: Any) -> Any:
        if raw is None:  # a section whose keys are all commented out
            raw = {}
        if not isinstance(raw, dict):
            raise Unfit(
                "a list" if isinstance(raw, list) else "a single value", "a mapping with the keys " + ", ".join(names)
            )
        return plain(raw, cls)

    return hook


def _value_hook(key: Key) -> Callable[[Any, Any], Any]:
    kind = key.kind
    assert kind is not None

    def hook(raw: Any, _: Any) -> Any:
        return kind.parse(raw)

    return hook


def _listing_hook(item: type[Any], converter: cattrs.Converter) -> Callable[[Any, Any], Any]:
    def hook(raw: Any, _: Any) -> Any:
        if raw is None:
            return ()
        if not isinstance(raw, list):
            raise Unfit(shown(raw), "a list of mappings")
        return converter.structure(raw, tuple[item, ...])  # type: ignore[valid-type]

    return hook


def _make_converter() -> cattrs.Converter:
    converter = cattrs.Converter(detailed_validation=True, forbid_extra_keys=True)
    converter.register_structure_hook_factory(attrs.has, lambda cls: _make_hook(cls, converter))
    return converter


_CONVERTER = _make_converter()


def _faults(error: Exception, path: str, cls: type[Any] | None) -> list[Fault]:
    """The faults in what cattrs raised for the value at `path`; `cls` is the class that belongs there, if any."""
    faults: list[Fault] = []
    if isinstance(error, ClassValidationError):
        keys = {key.path[-1]: key for key in own_keys(error.cl)}
        with_notes, without_notes = error.group_exceptions()
        for sub_error, note in with_notes:
            here = child(path, note.name)
            if isinstance(sub_error, KeyError):
                kind = keys[note.name].kind
                faults.append(Fault(path=here, found="nothing", expected=kind.expected if kind else "a value"))
            else:
                faults += _faults(sub_error, here, keys[note.name].section)
        for sub_error in without_notes:
            faults += _faults(sub_error, path, error.cl)
    elif isinstance(error, IterableValidationError):
        with_index, without_index = error.group_exceptions()
        for sub_error, at in with_index:
            faults += _faults(sub_error, child(path, at.index), None)
        for sub_error in without_index:
            faults += _faults(sub_error, path, None)
    elif isinstance(error, ForbiddenExtraKeysError):
        known = [key.path[-1] for key in own_keys(error.cl)]
        for name in sorted(error.extra_fields):
            faults.append(Fault(path=child(path, name), found="an unknown key", expected=_known(name, known)))
    elif isinstance(error, Unfit):
        faults.append(Fault(path=path or "file", found=error.found, expected=error.expected))
    else:
        raise error
    return faults


def _known(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name.replace("-", "_"), known, n=1)
    return f"a key such as {near[0]}" if near else "a key that --help lists"


def _without(raw: Any, paths: set[str], here: str) -> Any:
    """The same data with the values at these paths gone, and the mappings of a list that lost one."""
    if isinstance(raw, dict):
        kept = {name: value for name, value in raw.items() if child(here, name) not in paths}
        return {name: _without(value, paths, child(here, name)) for name, value in kept.items()}
    if isinstance(raw, list):
        return [
            _without(item, paths, child(here, index))
            for index, item in enumerate(raw)
            if not any(path == child(here, index) or path.startswith(child(here, index) + ".") for path in paths)
        ]
    return raw
