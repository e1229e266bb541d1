"""Both ends of the tunnel, version 2, with every frame in the test's own hands.

Only what a session cannot live without is automatic, and each of those can be switched off: heartbeats are echoed, and
received payload is given back as credit.
"""

from __future__ import annotations

import ssl
import struct
import threading
from collections.abc import Callable

from tests.peers import frames, websocket
from tests.peers.frames import CREDIT, HTTP, MORE, RESET, RESPONSE, TRAILERS, WINDOW_BYTES, Frame
from tests.peers.pipe import PATIENCE_S, Ended, Listener, Pipe

SUBPROTOCOL = "pico.v2"
# Payload in one frame of ours: what the receiver's one read of 64 KiB holds together with both headers.
PIECE_BYTES = 32 * 1024


class Peer:
    """One end of a session.

    Args:
        socket: the WebSocket, open.
        echo: answer heartbeats.
        grant: give credit back for all payload as it comes; else the test does it with `credit`.
    """

    def __init__(self, socket: websocket.WebSocket, *, echo: bool = True, grant: bool = True) -> None:
        self.socket = socket
        self.echo = echo
        self.grant = grant
        self.seen: list[Frame] = []
        self.ended: Ended | None = None
        self.nonsense: Exception | None = None
        self._credit: dict[tuple[int, bool], int] = {}
        self._taken = 0
        self._next_call = 0
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, name="v2-peer", daemon=True)
        self._reader.start()

    # -- receiving

    def _read(self) -> None:
        try:
            while True:
                try:
                    opcode, message = self.socket.receive(3600)
                except TimeoutError:
                    continue
                if opcode != websocket.BINARY:
                    raise websocket.Nonsense("a text message")
                if len(message) > frames.MAX_V2_MESSAGE_BYTES:
                    raise websocket.Nonsense(f"a message of {len(message)} bytes")
                self._take(frames.parsed(message))
        except Ended as ended:
            self._finish(ended)
        except Exception as error:
            self.nonsense = error
            self._finish(Ended(None, f"this test peer gave up: {error}", clean=False))
        self.socket.drop()

    def _finish(self, ended: Ended) -> None:
        with self._changed:
            self.ended = ended
            self._changed.notify_all()

    def _take(self, frame: Frame) -> None:
        with self._changed:
            self.seen.append(frame)
            if frame.credit:
                # A credit without the response flag comes from the caller, so it is for the response stream.
                stream = (frame.call, not frame.response)
                (amount,) = struct.unpack("!I", frame.payload)
                self._credit[stream] = self._credit.get(stream, WINDOW_BYTES) + amount
            self._changed.notify_all()
        if frame.kind == frames.HEARTBEAT and not frame.response and self.echo:
            self.send(frames.HEARTBEAT, frame.call, RESPONSE, frame.payload)
        elif self.grant and frame.kind in (HTTP, frames.TCP) and not frame.flags & (CREDIT | RESET):
            if frame.payload and frame.more:
                self.credit(frame.call, len(frame.payload), response=not frame.response, kind=frame.kind)

    def wait_for(self, condition: Callable[[list[Frame]], object], timeout: float = PATIENCE_S) -> list[Frame]:
        """Wait until the frames seen so far satisfy `condition`. Raises Ended or TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(lambda: condition(self.seen) or self.ended is not None, timeout):
                raise TimeoutError(f"after {[(f.kind, f.call, hex(f.flags), len(f.payload)) for f in self.seen[-9:]]}")
            if not condition(self.seen):
                assert self.ended is not None
                raise self.ended
            return list(self.seen)

    def wait_frame(self, wanted: Callable[[Frame], bool], timeout: float = PATIENCE_S) -> Frame:
        """The first frame seen, now or later, that is wanted."""
        seen = self.wait_for(lambda all_frames: any(wanted(frame) for frame in all_frames), timeout)
        return next(frame for frame in seen if wanted(frame))

    def opened(self) -> list[Frame]:
        """The first frames of the http calls that the other side opened so far."""
        firsts: dict[int, Frame] = {}
        with self._changed:
            for frame in self.seen:
                if frame.kind == HTTP and not frame.response and not frame.flags & (CREDIT | RESET):
                    firsts.setdefault(frame.call, frame)
        return list(firsts.values())

    def next_call(self, timeout: float = PATIENCE_S) -> Frame:
        """The first frame of the next http call that the other side opened, in order, each once."""
        self.wait_for(lambda _: len(self.opened()) > self._taken, timeout)
        self._taken += 1
        return self.opened()[self._taken - 1]

    def stream(self, call: int, *, response: bool) -> tuple[bytes, bool]:
        """The payload of one stream so far, and whether it has ended."""
        with self._changed:
            parts = [
                frame
                for frame in self.seen
                if frame.kind in (HTTP, frames.TCP)
                and frame.call == call
                and frame.response is response
                and not frame.flags & (CREDIT | RESET)
            ]
        payload = b"".join(frame.payload for frame in parts if not frame.trailers)
        return payload, bool(parts) and not parts[-1].more

    def trailers(self, call: int, *, response: bool) -> bytes:
        """What a stream has ended with; empty when it has not, or without trailers."""
        with self._changed:
            return b"".join(
                frame.payload
                for frame in self.seen
                if frame.call == call and frame.response is response and frame.trailers
            )

    def wait_stream(self, call: int, *, response: bool, timeout: float = PATIENCE_S) -> bytes:
        """All of one stream, once it has ended. Raises ValueError when the call was reset instead."""

        def over(_: list[Frame]) -> bool:
            return self.stream(call, response=response)[1] or self.reset_of(call) is not None

        self.wait_for(over, timeout)
        payload, ended = self.stream(call, response=response)
        if not ended:
            raise ValueError(f"the call was reset: {self.reset_of(call)}")
        return payload

    def reset_of(self, call: int) -> str | None:
        """The code with which the other side reset a call, if it did."""
        with self._changed:
            return next((frame.code for frame in self.seen if frame.call == call and frame.reset), None)

    def wait_reset(self, call: int, timeout: float = PATIENCE_S) -> str:
        """Wait for the other side's reset of a call; its code."""
        return self.wait_frame(lambda frame: frame.call == call and frame.reset, timeout).code

    def wait_ended(self, timeout: float = PATIENCE_S) -> Ended:
        """Wait until the other side has ended the session."""
        with self._changed:
            self._changed.wait_for(lambda: self.ended is not None, timeout)
            if self.nonsense is not None:
                raise self.nonsense
            if self.ended is None:
                raise TimeoutError("the session goes on")
            return self.ended

    # -- sending

    def send(self, kind: int, call: int, flags: int, payload: bytes = b"") -> None:
        """One frame, whatever it is."""
        self.socket.send(frames.packed(kind, call, flags, payload))

    def credit(self, call: int, amount: int, *, response: bool, kind: int = HTTP) -> None:
        """Grant credit; `response` says that we are the callee, who grants for the request stream."""
        try:
            self.send(kind, call, CREDIT | (RESPONSE if response else 0), struct.pack("!I", amount))
        except Ended:
            pass  # the reader will say so

    def reset(self, call: int, code: str, *, response: bool) -> None:
        """Reset a call."""
        self.send(HTTP, call, RESET | (RESPONSE if response else 0), code.encode())

    def send_stream(
        self, call: int, payload: bytes, *, response: bool, end: bool = True, timeout: float = PATIENCE_S
    ) -> None:
        """Payload of one stream, in frames, within the credit that the other side gave."""
        role = RESPONSE if response else 0
        stream = (call, response)
        start = 0
        while True:
            with self._changed:
                self._credit.setdefault(stream, WINDOW_BYTES)
                if start < len(payload) and not self._changed.wait_for(
                    lambda: self._credit[stream] > 0 or self.ended is not None, timeout
                ):
                    raise TimeoutError(f"no credit after {start} bytes")
                if self.ended is not None:
                    raise self.ended
                size = min(len(payload) - start, PIECE_BYTES, max(0, self._credit[stream]))
                self._credit[stream] -= size
            piece, start = payload[start : start + size], start + size
            if start < len(payload):
                self.send(HTTP, call, role | MORE, piece)
                continue
            if piece or end:
                self.send(HTTP, call, role | (0 if end else MORE), piece)
            return

    def send_trailers(self, call: int, block: bytes, *, response: bool, timeout: float = PATIENCE_S) -> None:
        """End a stream with trailers, whole, once the credit covers them."""
        stream = (call, response)
        with self._changed:
            self._credit.setdefault(stream, WINDOW_BYTES)
            if not self._changed.wait_for(
                lambda: self._credit[stream] >= len(block) or self.ended is not None, timeout
            ):
                raise TimeoutError(f"no credit for {len(block)} bytes of trailers")
            if self.ended is not None:
                raise self.ended
            self._credit[stream] -= len(block)
        self.send(HTTP, call, TRAILERS | (RESPONSE if response else 0), block)

    def open_call(self, payload: bytes, *, end: bool = True) -> int:
        """Open an http call; its ID."""
        call = self.take_id()
        self.send_stream(call, payload, response=False, end=end)
        return call

    def take_id(self) -> int:
        """The next call ID of our own."""
        self._next_call += 1
        return self._next_call

    def http(self, request: bytes, timeout: float = PATIENCE_S) -> bytes:
        """Call with a head and a body; the whole response stream."""
        return self.wait_stream(self.open_call(request), response=True, timeout=timeout)

    def skip_ids(self, highest: int) -> None:
        """Let the next call have an ID above this one."""
        self._next_call = max(self._next_call, highest)

    def wait_response(self, call: int, timeout: float = PATIENCE_S) -> Frame:
        """The first frame of the callee of one of our calls."""
        return self.wait_frame(lambda frame: frame.call == call and frame.response, timeout)

    def alive(self, timeout: float = PATIENCE_S) -> None:
        """Prove with a heartbeat of ours that the session goes on and that all before it was read."""
        call = self.take_id()
        payload = f"alive {call}".encode()
        self.send(frames.HEARTBEAT, call, 0, payload)
        frame = self.wait_frame(
            lambda item: item.kind == frames.HEARTBEAT and item.response and item.call == call, timeout
        )
        assert frame.payload == payload and frame.flags == RESPONSE, frame

    def vanish(self, *, reset: bool = False) -> None:
        """End TCP without a close frame, with a FIN or with a RST."""
        if reset:
            self.socket.reset()
        else:
            self.socket.drop()
        self._reader.join(PATIENCE_S)

    def close(self) -> None:
        """Close as RFC 6455 asks, then drop what is left."""
        try:
            self.socket.close()
            self._reader.join(5)
        except (Ended, TimeoutError):
            pass
        self.vanish()


class Agent(Peer):
    """The agent's end: registers an endpoint at a node.

    Args:
        agent_id: sent as x-pico-agent-id, with x-pico-slot; None sends neither.
        capabilities: what it lists; empty for an agent that lists nothing.
    """

    def __init__(
        self,
        address: tuple[str, int],
        endpoint: str,
        *,
        tls: ssl.SSLContext | None = None,
        agent_id: str | None = None,
        slot: str = "0",
        echo: bool = True,
        grant: bool = True,
        offers: tuple[str, ...] = (SUBPROTOCOL,),
        capabilities: str = "",
    ) -> None:
        headers = [("x-pico-agent-id", agent_id), ("x-pico-slot", slot)] if agent_id is not None else []
        if capabilities:
            headers.append(("x-pico-capabilities", capabilities))
        path = f"/pico/v1/listener/{endpoint}"
        socket, self.answer = websocket.connect(address, path, subprotocols=offers, headers=headers, tls=tls)
        super().__init__(socket, echo=echo, grant=grant)

    def answer_call(self, call: int, response: bytes, *, end: bool = True) -> None:
        """Send bytes of a response stream."""
        self.send_stream(call, response, response=True, end=end)


class Server:
    """The node's end: takes registrations of agents and gives each session to the test.

    Attributes:
        capabilities: what it lists in the next handshakes.
    """

    def __init__(
        self, *, tls: ssl.SSLContext | None = None, port: int = 0, grant: bool = True, capabilities: str = ""
    ) -> None:
        self._grant = grant
        self.capabilities = capabilities
        self._changed = threading.Condition()
        self.peers: list[Peer] = []
        self.offers: list[websocket.Offer] = []
        self._listener = Listener(self._accept, tls=tls, port=port)
        self.port = self._listener.port

    def _accept(self, pipe: Pipe) -> None:
        try:
            accepted = websocket.accept(
                pipe,
                select=lambda offer: SUBPROTOCOL if SUBPROTOCOL in offer.subprotocols else None,
                headers=[("x-pico-node-id", "test-node"), ("x-pico-capabilities", self.capabilities)],
            )
        except (Ended, TimeoutError):
            return
        if accepted is None:
            return
        socket, offer = accepted
        peer = Peer(socket, grant=self._grant)
        with self._changed:
            self.offers.append(offer)
            self.peers.append(peer)
            self._changed.notify_all()
        # The listener closes the connection when this returns.
        while peer.ended is None:
            try:
                peer.wait_ended(3600)
            except (TimeoutError, websocket.Nonsense, ValueError):
                continue

    def wait_peer(self, number: int = 0, timeout: float = PATIENCE_S) -> Peer:
        """Wait for the `number`-th session."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.peers) > number, timeout):
                raise TimeoutError("no agent came")
            return self.peers[number]

    def close(self) -> None:
        """Drop everything."""
        self._listener.close()
