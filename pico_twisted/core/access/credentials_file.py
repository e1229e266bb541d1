"""Files with a line for each token, or for each client certificate, and what it may do.

A line is a name, for a token `sha256:` and the hash of the token in hexadecimal, and rules. What stands behind a word
that begins with `#` is a comment. A token has at least 256 random bits, so a plain hash of it says nothing about it,
and whoever reads the file cannot use what stands there.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import attrs

from pico_twisted.core.access.rules import MOST_RULES, BadRule, Rule
from pico_twisted.core.access.subject import CredentialKind, Subject
from pico_twisted.core.text import NAME_PATTERN

MAX_FILE_BYTES: Final = 16 << 20
"""Most bytes of a file of tokens or certificates: a hundred thousand lines."""
MOST_FAULTS: Final = 20
"""Most faults of one file that are told: who sees those knows what is wrong."""

TOKEN_PREFIX: Final = "pico_"
"""What tokens that we make begin with, so that people and scanners for secrets know them; 64 hex digits follow."""

_HASH: Final = re.compile(r"sha256:([0-9a-fA-F]{64})")
_CERTIFICATE_NAME: Final = re.compile(r"[\x21-\x7e]{1,2048}")


@attrs.frozen(kw_only=True)
class LineFault:
    """A line that cannot be used.

    Attributes:
        line: its number, from 1.
        found: what is there, as words, without any of it that could be a secret.
        expected: what would be right, as words.
    """

    line: int
    found: str
    expected: str


def hash_of(token: bytes) -> bytes:
    """The hash by which a token is known."""
    return hashlib.sha256(token).digest()


def read_tokens(text: str) -> tuple[Mapping[bytes, Subject], Sequence[LineFault]]:
    """Read a file of tokens. Returns the subjects by the hash of their token, and what is wrong."""
    found: dict[bytes, Subject] = {}
    names: set[str] = set()
    faults: list[LineFault] = []
    for number, name, rest in _lines(text):
        match = _HASH.fullmatch(rest[0]) if rest else None
        if not NAME_PATTERN.fullmatch(name):
            faults.append(_fault(number, "no name", "1 to 64 letters, digits, dots, dashes or underscores"))
        elif name in names:
            faults.append(_fault(number, f"the name {name} again", "a name for each token"))
        elif match is None:
            faults.append(_fault(number, "no hash behind the name", "sha256: and the token's hash, 64 hex digits"))
        elif (key := bytes.fromhex(match[1])) in found:
            faults.append(_fault(number, "the hash of another line", "a token for each line"))
        else:
            names.add(name)
            rules = _rules(number, rest[1:], faults)
            found[key] = Subject(
                name=name,
                kind=CredentialKind.TOKEN,
                rules=rules,
                revocable_as=frozenset((name,)),
                token_hash=key,
            )
    return found, faults[:MOST_FAULTS]


def read_certificates(text: str) -> tuple[Mapping[str, Subject], Sequence[LineFault]]:
    """Read a file of client certificates. Returns the subjects by the name in their certificate, as it stands there but
    for DNS names, which are in lower case, and what is wrong."""
    found: dict[str, Subject] = {}
    faults: list[LineFault] = []
    for number, name, rest in _lines(text):
        if ":" not in name:
            name = name.lower()
        if not _CERTIFICATE_NAME.fullmatch(name):
            faults.append(_fault(number, "no name", "a URI such as spiffe://acme/web, or a DNS name"))
        elif name in found:
            faults.append(_fault(number, f"the name {name} again", "a line for each certificate"))
        else:
            rules = _rules(number, rest, faults)
            found[name] = Subject(
                name=name, kind=CredentialKind.CERTIFICATE, rules=rules, revocable_as=frozenset((name,))
            )
    return found, faults[:MOST_FAULTS]


def _lines(text: str) -> Iterator[tuple[int, str, list[str]]]:
    """The number, the first word and the other words of each line that has any."""
    for number, line in enumerate(text.split("\n"), 1):
        words = line.split()
        for place, word in enumerate(words):
            if word.startswith("#"):
                del words[place:]
                break
        if words:
            yield number, words[0], words[1:]


def _rules(number: int, texts: Sequence[str], faults: list[LineFault]) -> tuple[Rule, ...]:
    """The rules of a line. A fault in one of them costs only that rule, and the file."""
    if not 1 <= len(texts) <= MOST_RULES:
        faults.append(_fault(number, f"{len(texts)} rules", f"1 to {MOST_RULES} rules, such as listen:acme-*"))
    rules: list[Rule] = []
    for text in texts[:MOST_RULES]:
        try:
            rules.append(Rule.read(text))
        except BadRule as error:
            faults.append(_fault(number, "what is no rule", str(error)))
    return tuple(rules)


def _fault(number: int, found: str, expected: str) -> LineFault:
    return LineFault(line=number, found=found, expected=expected)
