"""What an attempt to open a tunnel may fail with, and what a server says that refuses it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from twisted.internet.error import ConnectionRefusedError

from pico_twisted.core.http1.head import ResponseHead
from pico_twisted.core.ports import UNNAMED, port_that_answered
from pico_twisted.core.text import printable

AWAY: Final = frozenset((502, 503, 504))
"""Statuses with which proxies and load balancers say that what is behind them cannot be reached."""
MAX_REFUSAL_BODY_BYTES: Final = 8 * 1024
"""Bytes of a refusal's body that an agent reads at most."""


class HandshakeRefused(Exception):
    """The server answered the WebSocket handshake with something other than 101.

    Attributes:
        status: the HTTP status.
        message: the server's own words, cut and made printable.
        code: of `x-pico-error`; "" when the server gave none.
        hop: who refused, by `x-pico-error`; "" likewise.
        port: of a node that answered, as of `port_that_answered`.
    """

    def __init__(self, status: int, message: str, code: str = "", hop: str = "", port: str = UNNAMED) -> None:
        super().__init__(f"{status} {message}")
        self.status = status
        self.message = message
        self.code = code
        self.hop = hop
        self.port = port


class NobodyThere(ConnectionRefusedError):
    """Somebody in between takes connections for a node that is away: the same as a port at which nothing listens.

    Attributes:
        message: what was met, in words.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)  # type: ignore[no-untyped-call]  # Twisted gives it no types
        self.message = message


class HandshakeTimeout(Exception):
    """The connection or its handshake took too long."""


def refusal_of(head: ResponseHead, body: bytes, secret: str) -> HandshakeRefused | NobodyThere:
    """Say what an answer other than a 101 means.

    Args:
        head: of the answer.
        body: as far as it came.
        secret: what we have shown, which a server may repeat, and nobody may read in a log; empty for none.
    """

    def clean(text: str) -> str:
        return printable(text.replace(secret, "(the token)") if secret else text)

    reason = clean(head.reason.decode("latin-1"))[:200]
    if head.status in AWAY and b"x-pico-error" not in head.by_name and b"x-pico-node-id" not in head.by_name:
        return NobodyThere(f"what is in front of the node answers {head.status} {reason}".rstrip())
    hop, _, code = (head.get(b"x-pico-error") or b"").decode("latin-1").partition("; ")
    words = clean(" ".join(_words(body).split()))[:200] or reason
    port = port_that_answered(lambda name: _text(head, name))
    if not port and (server := _text(head, "server")):
        words += f" (server: {clean(server)[:64]})"
    return HandshakeRefused(head.status, words, clean(code), clean(hop)[:64], port)


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
