"""What is wrong with a configuration, told to the operator all at once."""

from __future__ import annotations

import json
import os
import pwd
import re
import stat
from collections.abc import Iterable, Sequence

import attrs

MAX_SHOWN = 60  # characters of a value in a message: enough to recognise it, and one line stays one line
MAX_FILE_NAME_SHOWN = 4096  # of a file's name the end matters most
_USER_INFO = re.compile(r"//\S*@")  # a URL's user name and password


@attrs.frozen(kw_only=True)
class Fault:
    """One thing that is wrong.

    Attributes:
        path: the key, such as ``proxy.timeout`` or ``listeners[1].addr``.
        found: what is there, as words. Never a secret's value.
        expected: what would be right, as words.
        where: the flag or the file and line that it came from; empty when it came from nowhere.
    """

    path: str
    found: str
    expected: str
    where: str = ""

    def __str__(self) -> str:
        place = f"{self.path} ({self.where})" if self.where else self.path
        return f"{place}: found {self.found}, expected {self.expected}"


class ConfigFaults(Exception):
    """A configuration cannot be used. Carries every fault that was found, in the order of the keys."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(str(fault) for fault in self.faults))


class Unfit(ValueError):
    """A value does not fit its key: raised by a kind, turned into a `Fault` where the path is known."""

    def __init__(self, found: str, expected: str) -> None:
        self.found = found
        self.expected = expected
        super().__init__(f"found {found}, expected {expected}")


class Misfits(ValueError):
    """Some items of a list do not fit.

    Attributes:
        items: the index of each, or its name in a mapping, and what is wrong with it.
        rest: the values of the others; None when they are too few.
    """

    def __init__(self, items: Sequence[tuple[int | str, Unfit]], rest: tuple[object, ...] | None) -> None:
        self.items = items
        self.rest = rest
        super().__init__("; ".join(f"item {index}: {misfit}" for index, misfit in items))


def shown(raw: object, most: int = MAX_SHOWN) -> str:
    """A value from a file or a flag in words that fit into a message."""
    if raw is None:
        return "nothing"
    if isinstance(raw, dict):
        return "a mapping"
    if isinstance(raw, list | tuple):
        return "a list"
    text = _USER_INFO.sub("//...@", str(raw))
    if len(text) > most:
        text = text[:most] + "..."
    return json.dumps(text, ensure_ascii=False)


def whose(file_name: str) -> str:
    """Who may read a file that this process may not, as words that follow the system's reason."""
    part = file_name
    while True:
        try:
            found = os.stat(part)
            break
        except PermissionError:  # a directory above it may not be searched
            part = os.path.dirname(part)
        except OSError:
            return ""
    what = "the file" if part == file_name else part
    mode = stat.S_IMODE(found.st_mode)
    return f"; this process runs as {_user(os.geteuid())}, {what} is {_user(found.st_uid)}'s, mode {mode:o}"


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"


Contradiction = tuple[Fault, tuple[str, ...]]
"""A fault, and the other keys that it speaks of: when one of those has a fault of its own, this one is not told."""
