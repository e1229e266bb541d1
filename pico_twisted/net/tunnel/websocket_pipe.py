"""A WebSocket as whole binary messages: frames out of bytes and into bytes, pings, and the two ways to close.

Autobahn does the WebSocket handshake, fragmented messages, control frames and closing. In front of it stand two things
of ours. The handshake's head is read with `core.http1` under its limits, because Autobahn reads a head of any size,
answers refusals with a bare status line, and drops the body of a refusal that it receives. And a binary message that
lies whole in what was read is taken out here, without Autobahn's per-frame states: that is every frame of a busy
tunnel. Anything else is left to Autobahn. Its private names are used here, and in `idle` for what it keeps.
"""

from __future__ import annotations

import enum
import random
from typing import Any, Final

import txaio
from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketServerFactory
from autobahn.websocket.protocol import WebSocketProtocol
from twisted.internet.defer import Deferred
from twisted.logger import Logger

try:
    from websockets.speedups import apply_mask
except ImportError:  # it was built without a compiler
    from websockets.utils import apply_mask

from pico_twisted.core.protocol_limits import CLOSE_GOING_AWAY, CLOSE_PROTOCOL
from pico_twisted.core.rpc.frames import HEADER_BYTES, MAX_MESSAGE_V2
from pico_twisted.core.rpc.session_base import MAX_DATA_BYTES, SessionBase
from pico_twisted.core.sweep import NEVER
from pico_twisted.core.text import printable
from pico_twisted.core.websocket.frames import NO_MASK
from pico_twisted.net.socket.options import half_close, is_cut_off, peer_text
from pico_twisted.net.tunnel.parts import TunnelParts

log = Logger(namespace="pico_twisted.net.tunnel")

CLOSE_TIMEOUT_S: Final = 2.0
"""Seconds that a peer gets to take our close frame, or our refusal, and to close its end."""

MASK_BYTES: Final = 4
LARGEST_FRAME_BYTES: Final = 4 + MASK_BYTES + HEADER_BYTES + MAX_DATA_BYTES
"""Bytes of a masked frame with as much as a call sends at once. A read of so many gives frame after frame of a large
body, and no part of the next one, which would have to be kept and copied."""

MESSAGES_AT_ONCE: Final = 32
"""Messages of a read that are given on before it is asked whether the turn has taken its time: it may be hundreds."""

_BINARY_FINAL = 0x82
_UNMASKED_HEADERS: Final = (0x82 << 8, (0x82 << 8 | 126) << 16, (0x82 << 8 | 127) << 64)
"""Headers of a binary message in one frame, as numbers to which its size is added: of 2, 4 and 10 bytes."""
_MASKED_HEADERS: Final = (0x82 << 8 | 0x80, (0x82 << 8 | 0x80 | 126) << 16, (0x82 << 8 | 0x80 | 127) << 64)

# Autobahn formats a line for nearly everything that it does; what matters is logged here, in our words.
txaio.use_twisted()
autobahn_log = txaio.make_logger()  # type: ignore[attr-defined]
autobahn_log.set_log_level("critical")


class Stage(enum.Enum):
    """Where in its life a tunnel is."""

    OPENING = enum.auto()  # the handshake
    REFUSED = enum.auto()  # it was answered with an error, and the peer is to close
    OPEN = enum.auto()  # messages are exchanged
    CLOSING = enum.auto()  # a close frame was sent or received; input is only thrown away
    GONE = enum.auto()  # the connection is closed


_OPENING = Stage.OPENING
_OPEN = Stage.OPEN


class Masks(enum.Enum):
    """What lies on the frames that a side sends."""

    NONE = enum.auto()  # from a server
    RANDOM = enum.auto()
    ZEROS = enum.auto()  # from a client over TLS, to a node that it reaches, too


_UNMASKED = Masks.NONE
_RANDOM = Masks.RANDOM


def lay_mask(mask: bytes, data: bytes) -> bytes:
    """Return the data with the mask laid on it, or taken off (RFC 6455 5.3).

    Autobahn's masker takes several times as long: it looks for an implementation each time, keeps a copy of the mask
    and makes two of the data.

    Args:
        mask: four bytes. Zeros are no work.
        data: of any size.
    """
    return data if mask == NO_MASK else apply_mask(data, mask)


class WebSocketPipe(WebSocketProtocol):
    """What is WebSocket about a tunnel, for both roles. Mixed into an Autobahn protocol, which owns the transport."""

    log = autobahn_log

    transport: Any  # of TCP or TLS, or a double: no interface of Twisted has all that is asked of it
    parts: TunnelParts
    session: SessionBase
    CONFIG_ATTRS: list[str]  # Autobahn's: the names of a factory's options
    peer: str
    factory: WebSocketServerFactory | WebSocketClientFactory
    gone: Deferred[None]
    deadline = NEVER
    maxMessagePayloadSize: int  # Autobahn's, as the next one: of a frame that has not ended; None between frames
    frame_data: list[bytes] = []

    _masks = Masks.NONE

    _stage = _OPENING
    _by_us = False
    _paused = False  # the transport holds enough
    _rest: bytes | None = None  # of what was read, for the next turn of the reactor: until then nothing more is read
    _code: int | None = None
    _reason = ""
    _abort_at = NEVER
    _pong: bytes | None = None  # the last ping that waits for the transport to take its answer
    _partial_bytes = 0
    _skipped: bytearray | None = None  # the header of a message whose rest is dropped as it comes

    @property
    def has_session(self) -> bool:
        """The handshake is over, and was not refused."""
        return self._stage not in (_OPENING, Stage.REFUSED)

    # What a subclass does

    def _handshake(self, data: bytes) -> None:
        """Bytes came before the session began."""

    def _message(self, message: bytes) -> None:
        """A whole binary message came."""

    def _message_skipped(self, header: bytes, too_large: bool) -> None:
        """A message was dropped, all but its header: it was too large, or there was no memory for it."""

    def _wake(self) -> None:
        """Something is held of a message that has not ended, or of our output."""

    def deadline_passed(self, now: float) -> None:
        """Look at the time."""

    def _end(self, *, clean: bool) -> None:
        """The session is over, whatever the connection still does. Idempotent."""

    def _shake_hands(self, handshake: bytes) -> bool:
        """Give Autobahn a handshake that we let pass, and what came behind it. Returns whether a session began."""
        self._dataReceived(handshake)
        return self._stage is _OPEN

    # Input

    def dataReceived(self, data: bytes) -> None:
        if self._stage is not _OPEN or self._rest is not None:
            self._received_aside(data)
            return
        self.session.last_received = self.parts.sweep.now
        if self.data:
            data = self.data + data
            self.data = b""
        if self.current_frame is not None or self.inside_message:
            self.data = data
            self.consumeData()
            return
        masked = 0x80 if self.factory.isServer else 0
        mask = NO_MASK
        position = messages = 0
        size = len(data)
        while size - position >= 2:
            length = data[position + 1] ^ masked
            if length > 126 or data[position] != _BINARY_FINAL:
                break
            start = position + 2
            if length == 126:
                if size < start + 2:
                    self.data = data[position:]
                    return
                length = data[start] << 8 | data[start + 1]
                start += 2
                if length < 126:
                    break
            if length > self.maxMessagePayloadSize:
                break
            if masked:
                start += 4
            end = start + length
            if end > size:
                self.data = data[position:]
                return
            if masked:
                mask = data[start - 4 : start]
            message = data[start:end] if mask == NO_MASK else apply_mask(memoryview(data)[start:end], mask)
            position = end
            self._message(message)
            if self._stage is not _OPEN:
                return
            messages += 1
            if not messages % MESSAGES_AT_ONCE and self._puts_off(data, position):
                return
        if position < size:
            self.data = data[position:] if position else data
            self.consumeData()

    def _received_aside(self, data: bytes) -> None:
        # After our close frame only the peer's would be of interest, and its closing says the same.
        if self._stage is _OPENING:
            self._handshake(data)
        elif self._stage is _OPEN and self._rest is not None:
            self._rest += data  # TLS gives all that it has decrypted

    def _puts_off(self, data: bytes, position: int) -> bool:
        """Keep the rest of what was read for the next turn of the reactor, if this one has taken its time."""
        end_of_turn = self.parts.end_of_turn
        if end_of_turn is None or not end_of_turn.turn_is_long():
            return False
        self._rest = data[position:]
        self.transport.pauseProducing()
        end_of_turn.next_turn(self._go_on)
        return True

    def _go_on(self) -> None:
        rest, self._rest = self._rest, None
        if rest is not None and self._stage is not Stage.GONE:
            self.dataReceived(rest)
            if self._rest is None:
                self.transport.resumeProducing()

    def onMessageBegin(self, isBinary: bool) -> None:
        super().onMessageBegin(isBinary)
        if not isBinary:
            self.fail(CLOSE_PROTOCOL, "a text message")

    def onMessageFrameBegin(self, length: int) -> None:
        total = self.message_data_total_length + length
        if self.session.messages_are_calls and total > self.maxMessagePayloadSize:
            self._skip()
        if self._skipped is None:
            super().onMessageFrameBegin(length)
        else:
            self.message_data_total_length = total
            self.frame_data = []

    def onMessageFrameData(self, payload: bytes) -> None:
        skipped = self._skipped
        if skipped is not None:
            skipped += payload[: HEADER_BYTES - len(skipped)]
            return
        self._partial_bytes += len(payload)
        self._wake()
        super().onMessageFrameData(payload)
        if self._partial_bytes > MAX_MESSAGE_V2 and self.parts.budget.full:
            self._skip()

    def _skip(self) -> None:
        """Drop the message that is coming, all but the header: it tells the one call that this is the fault of."""
        if self._skipped is None:
            pieces = [*self.message_data, *(self.frame_data or ())]
            self._skipped = bytearray(b"".join(pieces)[:HEADER_BYTES])
            self.message_data = []
            self.frame_data = []
            self._partial_bytes = 0

    def onMessageEnd(self) -> None:
        self._partial_bytes = 0
        if self._skipped is not None:
            header, self._skipped = bytes(self._skipped), None
            del self.message_data
            self._message_skipped(header, self.message_data_total_length > self.maxMessagePayloadSize)
            return
        message = b"".join(self.message_data)
        del self.message_data
        if not self.failedByMe:
            self._message(message)

    def onPing(self, payload: bytes) -> None:
        if self._paused:
            self._pong = payload
        elif self._stage is _OPEN:
            WebSocketProtocol.sendPong(self, payload)

    def onPong(self, payload: bytes) -> None:
        pass

    # Output

    def _framed(self, messages: list[bytes]) -> bytes:
        """Return messages as they go on the wire."""
        masks = self._masks
        short, middle, long = _UNMASKED_HEADERS if masks is _UNMASKED else _MASKED_HEADERS
        pieces: list[bytes] = []
        for message in messages:
            size = len(message)
            if size < 126:
                header = (short + size).to_bytes(2, "big")
            elif size < 65536:
                header = (middle + size).to_bytes(4, "big")
            else:
                header = (long + size).to_bytes(10, "big")
            if masks is _RANDOM:
                mask = random.getrandbits(32).to_bytes(4, "big")
                pieces += (header, mask, apply_mask(message, mask))
            elif masks is _UNMASKED:
                pieces += (header, message)
            else:
                pieces += (header, NO_MASK, message)
        return b"".join(pieces)

    def pauseProducing(self) -> None:
        """The transport holds enough (IPushProducer)."""
        self._paused = True

    def resumeProducing(self) -> None:
        """The transport has room again (IPushProducer)."""
        self._paused = False
        if self._pong is not None and self._stage is _OPEN:
            payload, self._pong = self._pong, None
            WebSocketProtocol.sendPong(self, payload)

    def stopProducing(self) -> None:
        """The connection is gone (IPushProducer); `connectionLost` follows."""
        self._paused = True

    @property
    def cut_off(self) -> bool:
        """See `IHeardCallee.cut_off`."""
        return is_cut_off(self.transport)

    # Closing

    def fail(self, code: int, reason: str) -> None:
        """End the session with a close frame; what the peer sends from here on is thrown away.

        Args:
            code: of the close frame.
            reason: told to the peer, and to the users of the session here.
        """
        if self._stage is not _OPEN:
            return
        self._code = code
        self._reason = reason
        if not self._by_us:
            log.warn("Session of {peer} failed: {reason}", peer=self.peer, code=code, reason=reason)
        self.failedByMe = True
        self.sendCloseFrame(code=code, reasonUtf8=reason.encode("utf-8")[:120] or None)
        self._end(clean=self._by_us)
        self._close_soon()
        self.transport.unregisterProducer()
        half_close(self.transport)

    def _close_soon(self) -> None:
        """Wait for the peer to close its end, not for long."""
        self._abort_at = self.deadline = self.parts.sweep.now + CLOSE_TIMEOUT_S

    def _drop(self, reason: str) -> None:
        """Give the connection up without a word to the peer; the users of the session here are told the reason."""
        self._reason = reason
        self._end(clean=False)
        self.transport.abortConnection()

    def abort(self) -> None:
        """Drop the connection without a word."""
        self._by_us = True
        self._drop(self._reason)

    def onCloseFrame(self, code: int, reasonRaw: bytes) -> bool | None:
        stop = super().onCloseFrame(code, reasonRaw)
        if not self._by_us:
            self._code = self.remoteCloseCode
            self._reason = printable(self.remoteCloseReason or "")
        self._end(clean=True)
        self._close_soon()
        if not self.factory.isServer:
            self.transport.loseConnection()
        return stop

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        self._end(clean=False)
        self.parts.sweep.discard(self)
        opened, self._stage = self.has_session, Stage.GONE
        if opened:
            self.gone.callback(None)

    def _onOpen(self) -> None:
        self.onOpen()

    def _fail_connection(self, code: int = CLOSE_GOING_AWAY, reason: str = "going away") -> None:
        self.fail(code, reason)

    def _peer_text(self) -> str:
        """host:port of the other end."""
        return peer_text(self.transport)
