"""Which of two versions of the program is the older one."""

from __future__ import annotations

import re
from itertools import zip_longest

_NUMBERS = re.compile(r"\d+(?:\.\d+)*")


def older(version: str, other: str) -> bool:
    """Whether a version came before another one, as far as both begin with numbers: 0.9 before 0.10."""
    own, others = _parts(version), _parts(other)
    return bool(own and others) and _padded(own, others) < _padded(others, own)


def newest(versions: list[str]) -> str:
    """The latest of some versions; empty when none begins with a number."""
    found = ""
    for version in versions:
        if _parts(version) and (not found or older(found, version)):
            found = version
    return found


def _parts(version: str) -> list[int]:
    match = _NUMBERS.match(version)
    return [int(part) for part in match[0].split(".")] if match and len(match[0]) < 64 else []


def _padded(own: list[int], others: list[int]) -> list[int]:
    return [part for part, _ in zip_longest(own, others, fillvalue=0)]
