"""Readable names for endpoints that were given none, which stay the same from day to day.

A name stands in a URL that people share and that webhooks are sent to, so what was reached at it yesterday is reached
at it today: it is kept for the port, the address or the folder. And whoever guesses it finds somebody's unfinished
work. So two words for people are followed by four characters against guessing: a name has 32 bits of chance and more.
"""

from __future__ import annotations

import math
import re
import secrets
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from pico_twisted.expose.kept import KeptFile
from pico_twisted.expose.words import ADJECTIVES, ANIMALS

FILE: Final = "names.json"
"""Where the names are kept, by what they are for."""
TAIL: Final = "bcdfghjkmnpqrstvwxz23456789"
"""What the end of a name is made of: nothing that looks like something else, and no vowels, which would spell words."""
TAIL_CHARS: Final = 4
"""Characters of the end."""
NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
"""Matches the whole of a name that is kept: it is a label of host names (RFC 1123 2.1)."""


class Draw(Protocol):
    """Draws one of several, each as likely as the others."""

    def __call__(self, items: Sequence[str], /) -> str: ...


def bits() -> float:
    """How many bits of chance a name has."""
    return math.log2(len(ADJECTIVES) * len(ANIMALS)) + TAIL_CHARS * math.log2(len(TAIL))


def new_name(draw: Draw = secrets.choice) -> str:
    """Make a name, such as `brave-otter-k7mq`.

    Args:
        draw: the source of chance.
    """
    return f"{draw(ADJECTIVES)}-{draw(ANIMALS)}-{''.join(draw(TAIL) for _ in range(TAIL_CHARS))}"


class KeptNames:
    """The names of this user.

    Args:
        folder: of the file.
        warn: told in words what is wrong with that.
    """

    def __init__(self, folder: str, warn: Callable[[str], None]) -> None:
        self._file = KeptFile(folder, FILE, warn)

    def name_for(self, what: str) -> str:
        """The name that is kept for something; a new one when there is none.

        Args:
            what: a port, an address or a folder, in one form.
        """
        kept = self._file.read().get(what)
        return kept if isinstance(kept, str) and NAME.fullmatch(kept) else new_name()

    def keep(self, what: str, name: str) -> None:
        """Keep a name, which has proven good."""
        self._file.update({what: name})
