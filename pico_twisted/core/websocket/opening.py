"""The handshake of a WebSocket that carries a TCP session, as its client makes it (RFC 6455 4.1)."""

from __future__ import annotations

import base64
from typing import Final

import attrs

from pico_twisted.core.http1.client import ClientConnection
from pico_twisted.core.http1.errors import Http1Error
from pico_twisted.core.http1.head import End, HeadLimits, ResponseHead
from pico_twisted.core.http1.refusal import MAX_REFUSAL_BODY_BYTES, Refusal, read_refusal
from pico_twisted.core.websocket.accept import accept_of
from pico_twisted.core.websocket.handshake import SUBPROTOCOL

KEY_BYTES: Final = 16
"""Random bytes of a handshake's key (RFC 6455 4.1)."""

_SUBPROTOCOL: Final = SUBPROTOCOL.decode("ascii")
_SWITCHED: Final = 101


class NoWebSocket(Exception):
    """What answers does not speak WebSocket, or another protocol over it. Its text says what was met."""


class Unanswered(NoWebSocket):
    """The connection ended before there was an answer, as of a node that ends or a proxy whose node is away."""


class Refused(Exception):
    """The server answered with something else than a 101.

    Attributes:
        refusal: what it said.
    """

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(f"{refusal.status} {refusal.message}")
        self.refusal = refusal


@attrs.frozen
class Opened:
    """The WebSocket is open.

    Attributes:
        rest: bytes that came behind the answer's head.
    """

    rest: bytes


class Opening:
    """One handshake.

    Args:
        host: for the field `Host`.
        target: the path.
        token: that is shown, where the service does not see it; none when empty.
        agent: for the field `User-Agent`.
        nonce: `KEY_BYTES` random bytes; empty for a plain GET, whose answer says what a handshake would meet first.

    Attributes:
        request: what is to be sent.
    """

    def __init__(self, *, host: str, target: str, token: str, agent: str, nonce: bytes) -> None:
        key = base64.b64encode(nonce)
        lines = [f"GET {target} HTTP/1.1", f"Host: {host}", f"User-Agent: {agent}", "Accept: application/json"]
        if nonce:
            lines += [
                "Connection: Upgrade",
                "Upgrade: websocket",
                "Sec-WebSocket-Version: 13",
                f"Sec-WebSocket-Key: {key.decode('ascii')}",
                f"Sec-WebSocket-Protocol: {_SUBPROTOCOL}",
            ]
        if token:
            lines.append(f"x-pico-authorization: Bearer {token}")
        self.request = "".join(f"{line}\r\n" for line in (*lines, "")).encode("ascii")
        self._accept = accept_of(key)
        self._token = token
        self._http = ClientConnection(HeadLimits())
        self._http.expect(b"GET", upgrade=bool(nonce))
        self._head: ResponseHead | None = None
        self._body = b""

    def receive(self, data: bytes) -> Opened | None:
        """Read on in the answer; None until it is known.

        Raises:
            Refused: it is another answer than was hoped for.
            NoWebSocket: it is none, or none to this.
        """
        self._http.receive(data)
        return self._read()

    def receive_end(self) -> None:
        """The connection has ended.

        Raises:
            Refused, Unanswered: always.
        """
        if self._head is not None:
            raise self._refused(self._head)
        raise Unanswered("it closed the connection before it had answered")

    def _read(self) -> Opened | None:
        try:
            while (event := self._http.next_event()) is not None:
                if isinstance(event, ResponseHead):
                    if event.status == _SWITCHED:
                        self._judge(event)
                        return Opened(self._http.take_rest())
                    if event.status >= 200:
                        self._head = event
                elif isinstance(event, End):
                    break
                else:
                    self._body += event
                    if len(self._body) >= MAX_REFUSAL_BODY_BYTES:
                        break
            else:
                return None
        except Http1Error as error:
            if self._head is None:
                raise NoWebSocket(f"what it says is not HTTP/1.1: {error.message}") from None
        assert self._head is not None
        raise self._refused(self._head)

    def _refused(self, head: ResponseHead) -> Refused:
        return Refused(read_refusal(head, self._body, self._token))

    def _judge(self, head: ResponseHead) -> None:
        """Look at a 101 (RFC 6455 4.1)."""
        if (head.get(b"upgrade") or b"").lower() != b"websocket":
            raise NoWebSocket("it switches to another protocol than WebSocket")
        if head.get(b"sec-websocket-accept") != self._accept:
            raise NoWebSocket("its answer to the WebSocket handshake is to another one")
        if head.get(b"sec-websocket-protocol") != SUBPROTOCOL:
            raise NoWebSocket(f"it does not speak {_SUBPROTOCOL} there")
        if head.get(b"sec-websocket-extensions"):
            raise NoWebSocket("it uses extensions of WebSocket that were not offered")
