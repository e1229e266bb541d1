"""The users of a tunnel, for tests: who makes calls on it, and who serves them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from zope.interface import implementer

from pico_twisted.net.tunnel.interfaces import ICallAcceptor, IHttpReceiver


@implementer(IHttpReceiver)
class Receiver:
    """Keeps what comes for one call, on either side of it.

    Attributes:
        tunnel, call: once they are known.
        data: the peer's stream so far.
        frames: its frames, as (size, more).
        ended_with: its trailers.
        ended: it is complete.
        reset_code, reset_text: of the peer's reset; None while there is none.
        was_lost: the session ended.
        drains: how often it was told that its queue is short again.
        takes: whether what comes is consumed at once; else see `take`.
        then: called after each thing that happened, with this object.
    """

    def __init__(self, tunnel: Any = None, call: Any = None, then: Callable[[Receiver], None] | None = None) -> None:
        self.tunnel = tunnel
        self.call = call
        self.data = bytearray()
        self.frames: list[tuple[int, bool]] = []
        self.ended = False
        self.ended_with = b""
        self.reset_code: str | None = None
        self.reset_text = ""
        self.was_lost = False
        self.drains = 0
        self.takes = True
        self.untaken = 0
        self.then = then

    @property
    def over(self) -> bool:
        """Nothing more comes."""
        return self.ended or self.was_lost or self.reset_code is not None

    def open(self, tunnel: Any, kind: int, payload: bytes, more: bool = False) -> Receiver:
        """Make the call. Returns this object."""
        self.tunnel = tunnel
        self.call = tunnel.call(kind, payload, more, self)
        return self

    def send(self, data: bytes, more: bool) -> None:
        """Send bytes of our stream."""
        self.tunnel.send(self.call, data, more)

    def reset_it(self, code: str, text: str = "") -> None:
        """Give the call up."""
        self.tunnel.reset(self.call, code, text)

    def take(self) -> None:
        """Consume what came."""
        untaken, self.untaken = self.untaken, 0
        if untaken:
            self.tunnel.consumed(self.call, untaken)

    # IHttpReceiver

    def frame(self, payload: bytes, more: bool) -> None:
        """Keep it."""
        assert not self.over, "a frame after the end"
        self.data += payload
        self.frames.append((len(payload), more))
        self.ended = not more
        self.untaken += len(payload)
        if self.takes:
            self.take()
        self._tell()

    def trailers(self, block: bytes) -> None:
        """Keep them."""
        assert not self.over, "trailers after the end"
        self.ended_with = block
        self.untaken += len(block)
        self.ended = True
        self._tell()

    def reset(self, code: str, text: str) -> None:
        """Keep it."""
        assert self.reset_code is None and not self.was_lost, "told twice"
        self.reset_code = code
        self.reset_text = text
        self._tell()

    def lost(self) -> None:
        """Keep it."""
        assert not self.was_lost and self.reset_code is None, "told twice"
        self.was_lost = True
        self._tell()

    def drained(self) -> None:
        """Count it."""
        self.drains += 1
        self._tell()

    def _tell(self) -> None:
        if self.then is not None:
            self.then(self)


@implementer(ICallAcceptor)
class Acceptor:
    """Accepts every call.

    Args:
        then: given to each `Receiver`; called with it after each thing that happened, its first frame included.

    Attributes:
        accepted: the calls, in order.
        drains: the tunnels whose peer drains.
    """

    def __init__(self, then: Callable[[Receiver], None] | None = None) -> None:
        self.then = then
        self.accepted: list[Receiver] = []
        self.drains: list[Any] = []

    def call_opened(self, tunnel: Any, call: Any, kind: int, payload: bytes, more: bool) -> Receiver | None:
        """Accept it."""
        receiver = Receiver(tunnel, call, self.then)
        call.receiver = receiver
        self.accepted.append(receiver)
        receiver.frame(payload, more)
        return receiver

    def drain_requested(self, tunnel: Any) -> None:
        """Keep it."""
        self.drains.append(tunnel)


def echo(receiver: Receiver) -> None:
    """A service that answers, when it has the whole request, with the request's bytes behind a head."""
    if receiver.ended and not receiver.call.closed and receiver.reset_code is None:
        _, _, body = bytes(receiver.data).partition(b"\r\n\r\n")
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
        receiver.send(head + body, False)
