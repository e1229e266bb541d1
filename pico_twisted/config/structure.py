"""Plain mappings, lists and texts into configuration classes; every misfit becomes a fault with its path."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import TypeVar

import attrs

from pico_twisted.config.document import child
from pico_twisted.config.faults import Fault, Misfits, Unfit, shown
from pico_twisted.config.fields import Key, all_keys, own_keys

C = TypeVar("C")

_UNKNOWN = "an unknown key"

_FAULTY = object()
"""Stands for the value of a key that has a fault: the default takes its place."""


def structure(data: object, cls: type[C]) -> tuple[C | None, tuple[Fault, ...]]:
    """Build `cls` from what a file and flags say.

    Returns:
        An object in which every faulty key has its default and faulty items of lists are left out, or None when that
        cannot be made; and the faults.
    """
    faults: list[Fault] = []
    config = _mapping(data, cls, "", faults)
    places: dict[str, list[str]] = {}
    for key in all_keys(cls):
        places.setdefault(key.path[-1], []).append(key.dotted)
    return config, tuple(_with_place(fault, places) for fault in faults)


def _with_place(fault: Fault, places: Mapping[str, list[str]]) -> Fault:
    """A fault of an unknown key that is known elsewhere says where."""
    found = places.get(re.split(r"[.\]]", fault.path)[-1]) if fault.found == _UNKNOWN else None
    return fault if found is None else attrs.evolve(fault, expected=" or ".join(found))


def _mapping(raw: object, cls: type[C], path: str, faults: list[Fault]) -> C | None:
    keys = {key.path[-1]: key for key in own_keys(cls)}
    if raw is None:  # a section whose keys are all commented out
        raw = {}
    if not isinstance(raw, dict):
        found = "a list" if isinstance(raw, list) else "a single value"
        faults.append(Fault(path=path or "file", found=found, expected="a mapping with the keys " + ", ".join(keys)))
        return None
    values: dict[str, object] = {}
    for name, key in keys.items():
        here = child(path, name)
        if name in raw:
            values[name] = _value(raw[name], key, here, faults)
        elif key.default is attrs.NOTHING:
            faults.append(Fault(path=here, found="nothing", expected=key.kind.expected if key.kind else "a value"))
            values[name] = _FAULTY
    faults += [
        Fault(path=child(path, name), found=_UNKNOWN, expected=_known(name, list(keys)))
        for name in sorted(raw.keys() - keys.keys())
    ]
    given = {name: value for name, value in values.items() if value is not _FAULTY}
    if any(key.default is attrs.NOTHING and name not in given for name, key in keys.items()):
        return None
    return cls(**given)


def _value(raw: object, key: Key, path: str, faults: list[Fault]) -> object:
    if key.kind is not None:
        try:
            return key.kind.parse(raw)
        except Unfit as misfit:
            faults.append(Fault(path=path, found=misfit.found, expected=misfit.expected))
        except Misfits as misfits:
            for index, item in misfits.items:
                faults.append(Fault(path=child(path, index), found=item.found, expected=item.expected))
            if misfits.rest is not None:
                return misfits.rest
        return _FAULTY
    if key.item is None:
        assert key.section is not None
        section = _mapping(raw, key.section, path, faults)
        return _FAULTY if section is None else section
    if raw is not None and not isinstance(raw, list):
        faults.append(Fault(path=path, found=shown(raw), expected="a list of mappings"))
        return _FAULTY
    items = []
    for index, given in enumerate(raw or ()):
        known = len(faults)
        value = _mapping(given, key.item, child(path, index), faults)
        if len(faults) == known:
            items.append(value)
    return tuple(items)


def _known(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name.replace("-", "_"), known, n=1)
    return f"a key such as {near[0]}" if near else "a key that --help lists"
