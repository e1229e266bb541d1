"""Which path a request asks for, where its beginning decides who serves it.

What is needed. `/api` goes to one service and the rest of a host to another, and the path goes on as it came. So the
service must read from it what we read.

What can go wrong. Services differ: some decode `%2F` before they split a path, some twice; some take `//` for `/`, a
backslash for a slash, `;x` for no part of a segment, and resolve `..` before or after all that. A request that is
`/public/..%2fadmin` to us and `/admin` to the service has gone past whatever guards `/admin`.

What was chosen. A path is read in two ways: as RFC 3986 compares paths (6.2.2), where `%61` is `a` and nothing else is
touched, and as the most lenient service would read it. A request whose two readings begin differently is refused, and
so is one with dot segments or control bytes in any spelling. What has no odd byte has one reading, and costs one look.
Rejected: to rewrite paths (signatures of requests would break), and to refuse every odd byte (`%2F` and `;` are in use,
and mostly far from where a path begins).
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote_to_bytes

MAX_DECODINGS: Final = 3
"""Most times that a path is decoded before it has to stand still. Each decoding is a pass over it, and none needs so
many."""

_ODD: Final = re.compile(rb"[%;\\]|//|/\.")
_UNRESERVED: Final = re.compile(rb"%(?:2[dDeE]|3[0-9]|[46][1-9a-fA-F]|[57][0-9aA]|5[fF]|7[eE])")
_CONTROL: Final = re.compile(rb"[\x00-\x1f\x7f]")


class AmbiguousPathError(ValueError):
    """A path that services read in different ways, in a way that matters."""


def readings(target: bytes) -> tuple[bytes, ...]:
    """The path of a target, in each of the ways in which it may be read: one, or the strict and the lenient one.

    Args:
        target: of a request, in origin-form.

    Raises:
        AmbiguousPathError: it has dot segments, control bytes, or escapes within escapes without end.
    """
    path = target.partition(b"?")[0]
    if _ODD.search(path) is None:
        return (path,)
    strict = _UNRESERVED.sub(lambda escape: unquote_to_bytes(escape[0]), path)
    lenient = path
    for _ in range(MAX_DECODINGS):
        decoded = unquote_to_bytes(lenient)
        if decoded == lenient:
            break
        lenient = decoded
    else:
        raise AmbiguousPathError("the path is encoded again and again")
    if _CONTROL.search(lenient):
        raise AmbiguousPathError("the path has control bytes")
    lenient = re.split(rb"[?#]", lenient.replace(b"\\", b"/"), maxsplit=1)[0]
    segments = [segment.partition(b";")[0] for segment in lenient.split(b"/")]
    if b"." in segments or b".." in segments:
        raise AmbiguousPathError("the path has dot segments")
    return strict, b"/" + b"/".join(filter(None, segments))


def is_below(path: bytes, prefix: bytes) -> bool:
    """Whether a path is the prefix, or goes on behind it with a slash. Every path is below an empty prefix."""
    return not prefix or (path.startswith(prefix) and path[len(prefix) : len(prefix) + 1] in (b"", b"/"))
