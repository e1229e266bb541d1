"""What an attempt to open a tunnel may fail with, and what a server says that refuses it."""

from __future__ import annotations

from twisted.internet.error import ConnectionRefusedError

from pico_twisted.core.http1.head import ResponseHead
from pico_twisted.core.http1.refusal import read_refusal
from pico_twisted.core.ports import UNNAMED


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
    refusal = read_refusal(head, body, secret)
    if refusal.away:
        return NobodyThere(f"what is in front of the node answers {refusal.status} {refusal.reason}".rstrip())
    return HandshakeRefused(refusal.status, refusal.message, refusal.code, refusal.hop, refusal.port)
