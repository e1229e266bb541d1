"""Plain heads: those of which nothing is to be decided, and whose lines go on as they came.

What is needed. Most heads have no field that a hop acts on, leaves out or writes anew, and look as we would write them.
Taking one apart and writing it from its parts gives the same bytes again, for more than half of what a head costs.

What can go wrong. A field goes on that must not, or a hop does not see one that it acts on; then a request is smuggled,
or a client says what only a node may say. Or this way writes other bytes than the general one, so that a service sees
which way a request took.

What was chosen. One expression over the whole head, made of the names in `field_names` that the general way goes by. It
matches only if each line is `Name: value` with one space and none at the end, and no name is among those that some hop
acts on. A name has letters, digits and dashes alone, so none is another one in disguise (`field_names.plain_name`). Two
lines may stand between the others, as they stand in most heads and are taken out and written anew in a known place:
`Connection: keep-alive`, and the one that frames the body. What a client tells a node alone, an endpoint or a token,
goes on nowhere: such a line is cut out before. All else goes the general way. Tests write heads both ways and compare
the bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from pico_twisted.core.field_names import (
    AUTHENTICATING,
    BETWEEN_HOPS,
    FORWARDED,
    FRAMING,
    HOP_BY_HOP,
    ONWARD,
    OURS,
    REQUEST_ID,
    TELL_OF_CLIENTS,
)
from pico_twisted.core.http1.fields import KEEP_ALIVE, NO_FIELDS, NO_TOKENS, ONCE_IN_REQUESTS, ByName
from pico_twisted.core.http1.grammar import COMMON_REQUEST_LINE, FIELD_VALUE

FOR_AGENTS: Final = ONWARD | AUTHENTICATING | frozenset((b"expect",))
"""Fields that no plain request has that a node wrote, besides those that begin with `BETWEEN_HOPS`."""

FOR_NODES: Final = FOR_AGENTS | OURS | TELL_OF_CLIENTS | frozenset((b"cdn-loop", b"sec-websocket-protocol", b"via"))
"""Fields that no plain request of a client has, besides those that begin with `BETWEEN_HOPS`, `FORWARDED` or `GRPC`."""

GRPC: Final = b"content-type: application/grpc"
"""How the line begins that tells nodes that they may have to wait."""

FOR_ALL: Final = HOP_BY_HOP | FRAMING | AUTHENTICATING | REQUEST_ID | frozenset((b"via",))
"""Fields that no plain response has, besides those that begin with `BETWEEN_HOPS`. What keeps a connection or announces
trailers is among `HOP_BY_HOP`."""


def _lines(special: Iterable[bytes], begin: Iterable[bytes]) -> bytes:
    """An expression for any number of lines, none of which has a name that is special or begins like this."""
    by_letter: dict[bytes, list[bytes]] = {}
    for name in (*(name + b":" for name in sorted(special)), *begin):
        by_letter.setdefault(name[:1], []).append(re.escape(name[1:]))
    # One look at the first letter tells that most names are none of these. In either case it is the same letter.
    names = b"|".join(b"[%b%b](?i:%b)" % (one.upper(), one, b"|".join(rests)) for one, rests in by_letter.items())
    return rb"(?>(?:(?!" + names + rb")[0-9A-Za-z-]++: [!-~\x80-\xff]" + FIELD_VALUE + rb"(?<![\t ])\r\n)*)"


def _head(first: bytes, special: Iterable[bytes], *begin: bytes) -> re.Pattern[bytes]:
    """An expression for a plain head: its groups are the lines before the first one that does not go on; those of
    `first`; then the lines behind Connection, the digits of Content-Length and the lines behind it, those behind
    Transfer-Encoding, and those behind a Connection that stands behind one of these."""
    lines = _lines(special, (BETWEEN_HOPS, *begin))
    keep_alive = rb"(?:(?i:Connection: keep-alive)\r\n(" + lines + rb"))?"
    length = rb"(?i:Content-Length): ([0-9]{1,18}+)\r\n(" + lines + rb")"
    chunked = rb"(?i:Transfer-Encoding: chunked)\r\n(" + lines + rb")"
    framing = rb"(?:" + length + rb"|" + chunked + rb")?"
    return re.compile(rb"(" + first + rb"\r\n" + lines + rb")" + keep_alive + framing + keep_alive + rb"\r\n")


_REQUEST: Final = COMMON_REQUEST_LINE + rb"\nHost: ([!-~]++)"
_STATUS_LINE: Final = rb"(HTTP/1\.1 [2-5][0-9][0-9] " + FIELD_VALUE + rb")"

PLAIN_FOR_NODE: Final = _head(_REQUEST, FOR_NODES, *FORWARDED, GRPC)
"""Matches a plain request of a client. Of the groups the second, third and fourth are its method, target and Host."""

PLAIN_FOR_AGENT: Final = _head(_REQUEST, FOR_AGENTS)
"""Matches a plain request that a node wrote, as the one above does."""

PLAIN_RESPONSE: Final = _head(_STATUS_LINE, FOR_ALL)
"""Matches a plain response. Of the groups the second is its status line."""


_TOLD: Final = re.compile(
    rb"\r\n(?i:("
    + b"|".join(sorted(name for name in ONCE_IN_REQUESTS if name.startswith(BETWEEN_HOPS)))
    + rb")): ([!-~]++(?: [!-~]++)?)(?=\r\n)"
)
"""Finds a line that tells a node something, in one word or two."""


def without_told(data: bytes) -> tuple[bytes, ByName]:
    """A request's head without what a client tells a node alone, and that, by lower-case name.

    Where one is told twice the head stays as it is, and is not plain.
    """
    found = _TOLD.findall(data)
    told = {name.lower(): value for name, value in found}
    return (_TOLD.sub(b"", data), told) if len(told) == len(found) else (data, NO_FIELDS)


def gathered(
    onward: bytes,
    kept: bytes | None,
    digits: bytes | None,
    behind: bytes | None,
    coded: bytes | None,
    last: bytes | None,
) -> tuple[bytes, int | None, bool, frozenset[bytes]]:
    """What goes on of a plain head, and what the lines between say, by the last groups of its expression.

    Returns:
        What goes on, the length, whether the body is chunked, and the tokens of Connection.
    """
    connection = NO_TOKENS
    length = None
    if kept is not None:
        connection = KEEP_ALIVE
        onward += kept
    if behind is not None and digits is not None:
        length = int(digits)
        onward += behind
    elif coded is not None:
        onward += coded
    if last is not None:
        connection = KEEP_ALIVE
        onward += last
    return onward, length, coded is not None, connection
