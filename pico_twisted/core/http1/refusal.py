"""What a server says that does not switch protocols: a node, or a proxy or load balancer in front of one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

import attrs

from pico_twisted.core.http1.head import ResponseHead
from pico_twisted.core.ports import port_that_answered
from pico_twisted.core.text import printable

AWAY: Final = frozenset((502, 503, 504))
"""Statuses with which proxies and load balancers say that what is behind them cannot be reached."""
MAX_REFUSAL_BODY_BYTES: Final = 8 * 1024
"""Bytes of a refusal's body that are read at most."""


@attrs.frozen(kw_only=True)
class Refusal:
    """An answer other than a 101, in words that are safe to show.

    Attributes:
        status: of HTTP.
        reason: of the status line.
        message: the server's own words, cut and made printable.
        code: of `x-pico-error`; empty when the server gave none.
        hop: who refused, by `x-pico-error`; empty likewise.
        port: of a node that answered, as of `port_that_answered`.
        away: something in front of the node answers that the node cannot be reached.
    """

    status: int
    reason: str
    message: str
    code: str
    hop: str
    port: str
    away: bool


def read_refusal(head: ResponseHead, body: bytes, secret: str) -> Refusal:
    """Say what an answer other than a 101 means.

    Args:
        head: of the answer.
        body: as far as it came.
        secret: what we have shown, which a server may repeat, and nobody may read in a log; empty for none.
    """

    def clean(text: str) -> str:
        return printable(text.replace(secret, "(the token)") if secret else text)

    reason = clean(head.reason.decode("latin-1"))[:200]
    hop, _, code = (head.get(b"x-pico-error") or b"").decode("latin-1").partition("; ")
    words = clean(" ".join(_words(body).split()))[:200] or reason
    port = port_that_answered(lambda name: _text(head, name))
    if not port and (server := _text(head, "server")):
        words += f" (server: {clean(server)[:64]})"
    named = b"x-pico-error" in head.by_name or b"x-pico-node-id" in head.by_name
    return Refusal(
        status=head.status,
        reason=reason,
        message=words,
        code=clean(code)[:64],
        hop=clean(hop)[:64],
        port=port,
        away=head.status in AWAY and not named,
    )


def _text(head: ResponseHead, name: str) -> str | None:
    value = head.get(name.encode("ascii"))
    return None if value is None else value.decode("latin-1")


def _words(body: bytes) -> str:
    """The server's own words: the `error` of a JSON body, else a text that is no page for browsers."""
    text = body[:MAX_REFUSAL_BODY_BYTES].decode("utf-8", "replace")
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError):
        parsed = None
    if isinstance(parsed, Mapping) and isinstance(parsed.get("error"), str):
        return str(parsed["error"])
    return "" if text.lstrip().startswith("<") else text
