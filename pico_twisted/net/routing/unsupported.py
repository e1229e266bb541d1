"""A call of a type that a peer does not serve, as is known beforehand: it fails as if the peer had said so."""

from __future__ import annotations

from twisted.internet.defer import Deferred, fail
from zope.interface import implementer

from pico_twisted.core.http1.head import ResponseHead
from pico_twisted.core.rpc.frames import TCP, UNSUPPORTED
from pico_twisted.net.routing.interfaces import CallFailed, IPendingCall


@implementer(IPendingCall)
class UnsupportedCall:
    """A call that is not made. See `IPendingCall` for what is not documented here."""

    queued = 0
    paused = False
    over = True
    never_ends = False
    kind = TCP

    def __init__(self) -> None:
        error = CallFailed(UNSUPPORTED, "the peer takes no such calls", safe=True)
        self.response: Deferred[ResponseHead] | None = fail(error)

    def send(self, data: bytes, more: bool) -> None:
        """Nothing is sent."""

    def send_trailers(self, block: bytes) -> None:
        """Likewise."""

    def cancel(self, code: str, text: str = "") -> None:
        """It has failed already."""

    def shut(self) -> None:
        """Likewise."""

    def pause(self) -> None:
        """Nothing comes."""

    def resume(self) -> None:
        """Likewise."""
