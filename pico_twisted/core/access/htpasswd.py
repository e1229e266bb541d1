"""Files of users and their passwords, as `htpasswd -B` writes them: `name:$2y$10$...`, a line for each."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from pico_twisted.core.access.credentials_file import MOST_FAULTS, LineFault

MOST_COST: Final = 14
"""Highest cost of a hash: one more than this takes seconds to check, and each login is one."""

_HASH: Final = re.compile(r"\$2[aby]\$([0-9]{2})\$[./0-9A-Za-z]{53}")


def read_htpasswd(text: str) -> tuple[Mapping[bytes, bytes], Sequence[LineFault]]:
    """Read a file. Returns the hashes by the name of their user, and what is wrong."""
    found: dict[bytes, bytes] = {}
    faults: list[LineFault] = []

    def fault(number: int, what: str, expected: str) -> None:
        faults.append(LineFault(line=number, found=what, expected=expected))

    for number, line in enumerate(text.split("\n"), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        name, colon, rest = line.partition(":")
        match = _HASH.fullmatch(rest.partition(":")[0])
        if not colon or not name or not name.isprintable():
            fault(number, "no name", "a name, a colon and a hash, as htpasswd -B writes it")
        elif match is None:
            fault(number, "no bcrypt hash", "$2y$ or $2b$ and the rest of the hash, as htpasswd -B writes it")
        elif not 4 <= int(match[1]) <= MOST_COST:
            fault(number, f"a hash of cost {int(match[1])}", f"a cost from 4 to {MOST_COST}")
        elif name.encode() in found:
            fault(number, "a name that stands above", "each name once")
        else:
            found[name.encode()] = match[0].encode("ascii")
    if not found and not faults:
        fault(1, "no user", "a line for each user")
    return found, faults[:MOST_FAULTS]
