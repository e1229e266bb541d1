"""The two ends of a client's connection: when each has come, and what is still done between them.

*A client that leaves* while we wait for the service sends the same FIN as one that only ended its half and waits for
the answer. Nothing tells them apart but sending something: so a client whose FIN came before the response began is
asked after a moment with an interim 100 (RFC 9110 15.2 lets clients ignore it): the kernel of one that left answers
with a reset. HTTP/1.0 clients get no 1xx, so they get their answer. Over a Unix socket the kernel tells at once who has
left, whatever they speak. When the FIN comes behind the response's head, its
bytes are the question: while they flow, a client that left answers them with a reset; when they pause, it has left.

*Our end.* A socket that is closed with unread input resets the connection, and the answer with it. So after a refusal
the connection half-closes and lingers: input is thrown away for a while. Twisted's transport forgets to end our half
when a producer of ours waits for room, as the producer is given that in its place: so it is asked again then.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Final

from twisted.internet.interfaces import ITransport

from pico_twisted.core.sweep import NEVER
from pico_twisted.net.proxy.client_channel import CLIENT_LINGER_BYTES
from pico_twisted.net.proxy.request import ProxyRequest
from pico_twisted.net.socket.options import half_close, is_dead

ASK_AFTER_S: Final = 0.3
"""Seconds after which a client whose FIN came, and that got no answer, is asked whether it is still there."""

_ASK: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class _Question(enum.Enum):
    """How a client whose FIN came is asked whether it is still there."""

    NOT_ASKED = enum.auto()
    ASKED = enum.auto()  # with a 100; a reset would be the answer
    RESPONSE = enum.auto()  # its bytes ask


class HalfClose:
    """What is known of the ends of one connection.

    Args:
        transport: of the connection.
        send: writes to it.
        abort: ends it with a reset.

    Attributes:
        client_ended: the client's FIN came.
        we_ended: ours left.
    """

    __slots__ = (
        "_abort",
        "_bytes_out",
        "_discarded",
        "_ending",
        "_question",
        "_send",
        "_transport",
        "client_ended",
        "we_ended",
    )

    def __init__(self, transport: ITransport, send: Callable[[bytes], None], abort: Callable[[], None]) -> None:
        self._transport = transport
        self._send = send
        self._abort = abort
        self.client_ended = False
        self.we_ended = False
        self._discarded = 0
        self._ending = False
        self._question = _Question.NOT_ASKED
        self._bytes_out = 0

    def end(self) -> None:
        """End our half behind what was written."""
        self._ending = True
        half_close(self._transport)

    def took(self) -> None:
        """The transport wrote all that it had."""
        if self._ending and not self.we_ended:
            half_close(self._transport)

    def discard(self, data: bytes) -> bool:
        """Throw input away. Returns whether that was not too much yet."""
        self._discarded += len(data)
        return self._discarded <= CLIENT_LINGER_BYTES

    def ended_during(self, request: ProxyRequest, now: float) -> float:
        """The client's FIN came, and this request is in progress. Returns when to `ask`."""
        if is_dead(self._transport):
            return now
        if request.status:
            self._question = _Question.RESPONSE
            self._bytes_out = request.bytes_out
        else:
            self._question = _Question.NOT_ASKED
            if not request.head.version_11:
                return NEVER
        return now + ASK_AFTER_S

    def ask(self, request: ProxyRequest, now: float, takes_bytes: bool) -> float:
        """Ask a client whose FIN came whether it is still there, and abort the connection of one that is not.

        Args:
            request: in progress.
            now: of the sweep.
            takes_bytes: the transport is not full.

        Returns:
            When to ask again.
        """
        if is_dead(self._transport):
            self._abort()
            return now
        if self._question is _Question.RESPONSE:
            if request.bytes_out == self._bytes_out and takes_bytes:
                self._abort()
            self._bytes_out = request.bytes_out
            return now + ASK_AFTER_S
        if request.status:
            return NEVER
        if self._question is _Question.NOT_ASKED:
            self._question = _Question.ASKED
            self._send(_ASK)
        return now
