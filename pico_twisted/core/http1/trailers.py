"""Trailers: the fields behind the body of a message (RFC 9110 6.5), and which of them go on.

What is needed. A few things are known only when a body has ended: a digest, a status of gRPC, how long something took.
They go through the tunnel as one *block*: `name: value` and CRLF for each field, with names in lower case. So does what
HTTP/2 has as trailers.

What can go wrong. Whoever merges trailers into the fields of the head, as some services do, is told by them what only
the head may say: whose request it is, where it goes, how long its body is. Nodes and agents have judged the head by
then. So what may not be in trailers is dropped, on both ends of the tunnel (RFC 9110 6.5.1): what frames, routes,
authenticates or modifies a message or says what its content is; what a node decides; and names that a service cannot
tell from these. So are trailers that Connection names, like fields. A block is dropped whole if it is too large, since
what is left of it would say something else.

`TE: trailers` says that whoever asks takes them (RFC 9110 10.1.4), and `Trailer` which may come (RFC 9110 6.6.2): a
hint that goes along wherever trailers can, without what is dropped.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Final

from pico_twisted.core.field_names import BETWEEN_HOPS, is_ours, plain_name
from pico_twisted.core.http1.fields import all_values
from pico_twisted.core.http1.head import RequestHead, ResponseHead
from pico_twisted.core.http1.memo import Memo

MAX_BLOCK_BYTES: Final = 8 * 1024
"""Most bytes of a block: what gRPC takes of metadata by default. It must fit into a window of which half is not granted
again yet."""

MAX_TRAILERS: Final = 100
"""Most fields of a block: as many as a head has."""

TE_LINE: Final = b"TE: trailers"
"""What says that trailers are taken. Behind the fields of ours that come first in the head of a call."""

TrailerFields = Iterable[tuple[bytes, bytes]]
"""(name, value) of each."""

_BLOCK: Final = re.compile(rb"(?>(?:[!#$%&'*+\-.^_`|~0-9a-z]++: [\t -~\x80-\xff]*+\r\n)+)")
_FIELD: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++: [\t -~\x80-\xff]*+")
_NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++")

_ONLY_IN_HEADS: Final = frozenset(
    b"""
    accept accept-charset accept-encoding accept-language age allow alt-svc authorization cache-control cookie cookie2
    date destination early-data expect expires from location max-forwards origin pragma range realm referer refresh
    retry-after set-cookie set-cookie2 user-agent vary via cdn-loop warning www-authenticate
    strict-transport-security clear-site-data x-frame-options
    x-http-method x-http-method-override x-method-override x-original-host x-original-url x-rewrite-url x-host
    x-client-cert x-client-dn x-client-verify
    """.split()
)
"""What a service, a cache or a browser acts on before it reads a body, or says whose a message is."""

_ONLY_IN_HEADS_BEGIN: Final = (
    BETWEEN_HOPS,
    b"content-",
    b"if-",
    b"proxy-",
    b"sec-",
    b"access-control-",
    b"cross-origin-",
    b"ssl-client-",
    b"x-ssl-",
    b"x-auth-",
    b"remote-",
    b"x-remote-",
)

_OF_CONTENT: Final = frozenset((b"content-digest", b"content-md5"))
"""What is made of a body while it is sent (RFC 9530 6.3): the reason that there are trailers."""

_MOST_NAMES: Final = 1024
"""Most names of trailers of which it is kept whether they go on."""


def _may_trail(lower: bytes) -> bool:
    plain = plain_name(lower)
    if plain in _OF_CONTENT:
        return True
    return not (is_ours(plain) or plain in _ONLY_IN_HEADS or plain.startswith(_ONLY_IN_HEADS_BEGIN))


MAY_TRAIL: Final = Memo(_may_trail, _MOST_NAMES)
"""Whether a field may be in trailers, by its lower-case name."""


class TrailersError(ValueError):
    """What should be trailers is not; the message says why."""


def fault_in(block: bytes) -> str:
    """What is wrong with a block that came through the tunnel; empty when it is one."""
    if len(block) > MAX_BLOCK_BYTES:
        return "trailers of more than 8 KiB"
    if block.count(b"\n") > MAX_TRAILERS:
        return "too many trailers"
    return "" if _BLOCK.fullmatch(block) else "malformed trailers"


def read_block(block: bytes, dropped: Collection[bytes] = ()) -> list[tuple[bytes, bytes]]:
    """The fields of a block that go on, as (name in lower case, value).

    Args:
        block: one that came through the tunnel; empty for none.
        dropped: names, in lower case, of fields that do not go on either.

    Raises:
        TrailersError: it is no block.
    """
    if not block:
        return []
    if fault := fault_in(block):
        raise TrailersError(fault)
    fields: list[tuple[bytes, bytes]] = []
    for line in block.split(b"\r\n")[:-1]:
        name, _, value = line.partition(b": ")
        if MAY_TRAIL[name] and name not in dropped:
            fields.append((name, value.strip(b" \t")))
    return fields


def write_block(fields: TrailerFields, dropped: Collection[bytes] = ()) -> bytes:
    """The block of those fields that go on; empty when there are none, or when they are too many or too large.

    Args:
        fields: as a client or a service sent them.
        dropped: names, in lower case, of fields that do not go on either.

    Raises:
        TrailersError: a name or a value is none.
    """
    lines: list[bytes] = []
    for name, value in fields:
        lower = name.lower()
        line = lower + b": " + value.strip(b" \t")
        if not _FIELD.fullmatch(line) or b":" in lower:
            raise TrailersError("malformed trailers")
        if MAY_TRAIL[lower] and lower not in dropped:
            lines.append(line + b"\r\n")
    block = b"".join(lines)
    return block if len(block) <= MAX_BLOCK_BYTES and len(lines) <= MAX_TRAILERS else b""


def cleaned(block: bytes, dropped: Collection[bytes] = ()) -> bytes:
    """A block that came through the tunnel without what does not go on.

    Args:
        block: one that came through the tunnel; empty for none.
        dropped: names, in lower case, of fields that do not go on either.

    Raises:
        TrailersError: it is no block.
    """
    return write_block(read_block(block, dropped))


def takes_trailers(head: RequestHead) -> bool:
    """Whether a request's TE says that its sender takes trailers."""
    if b"te" not in head.special:
        return False
    return any(coding.strip(b" \t").lower() == b"trailers" for coding in all_values(head.fields, b"te").split(b","))


def announced(head: RequestHead | ResponseHead, dropped: Collection[bytes] = ()) -> bytes:
    """The names that Trailer has and that go on, as it lists them; empty when nothing is announced.

    Args:
        head: whose trailers may come.
        dropped: names, in lower case, of trailers that do not go on.
    """
    if b"trailer" not in head.special:
        return b""
    names: list[bytes] = []
    for part in all_values(head.fields, b"trailer").split(b","):
        name = part.strip(b" \t")
        lower = name.lower()
        if _NAME.fullmatch(name) and MAY_TRAIL[lower] and lower not in dropped:
            names.append(name)
    return b", ".join(names)


def announcement(head: RequestHead | ResponseHead, dropped: Collection[bytes] = ()) -> bytes:
    """The line of Trailer as it goes on in HTTP/1.1; empty when nothing is announced. The arguments are those of
    `announced`."""
    names = announced(head, dropped)
    return b"Trailer: " + names if names else b""
