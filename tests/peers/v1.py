"""Both ends of the tunnel as the first Pico spoke it in 2024 (v1).

Every stream is one frame, a frame's payload is a whole HTTP/1.1 message, no subprotocol is negotiated. What is unusual
about those peers is a switch here: fragments of 4 KiB, answers out of order, their own heartbeats, errors that begin
with HTTP/0.0, TCP closed without a close frame.
"""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable

from tests.peers import frames, websocket
from tests.peers.frames import Frame
from tests.peers.pipe import PATIENCE_S, Ended, Listener, Pipe

Serve = Callable[[bytes], bytes | None]

FRAGMENT_BYTES = 4096
HEARTBEAT_S = 10.0


def own_error(text: str) -> bytes:
    """An error that a v1 agent made itself: version 0.0, no length, the payload's end is its end."""
    return f"HTTP/0.0 502 Bad Gateway\r\nContent-Type: text/plain\r\n\r\n{text}".encode()


class Session:
    """What both ends have in common: a WebSocket, a thread that reads it, calls in both directions.

    Args:
        socket: the WebSocket, open.
        serve: called with the payload of each http call of the other side, in a thread of its own; its return value is
            the answer's payload, None leaves the call unanswered.
        fragment: the largest WebSocket fragment to send, None for whole messages.
    """

    def __init__(
        self, socket: websocket.WebSocket, serve: Serve | None = None, *, fragment: int | None = FRAGMENT_BYTES
    ) -> None:
        self.socket = socket
        self.seen: list[Frame] = []
        self.ended: Ended | None = None
        self._serve = serve
        self._fragment = fragment
        self._ids = iter(range(1, 1 << 62))
        self._changed = threading.Condition()
        self._answers: dict[tuple[int, int], Frame | None] = {}
        self._reader = threading.Thread(target=self._read, name="v1-session", daemon=True)
        self._reader.start()

    def send(self, kind: int, call: int, flags: int, payload: bytes = b"") -> None:
        """One frame in one message."""
        self.socket.send(frames.packed(kind, call, flags, payload), fragment=self._fragment)

    def _read(self) -> None:
        try:
            while True:
                try:
                    opcode, message = self.socket.receive(3600)
                except TimeoutError:
                    continue
                if opcode != websocket.BINARY:
                    raise websocket.Nonsense("a text message")
                self._take(frames.parsed(message))
        except Ended as ended:
            with self._changed:
                self.ended = ended
                self._changed.notify_all()
            self.socket.drop()

    def _take(self, frame: Frame) -> None:
        with self._changed:
            self.seen.append(frame)
            if frame.response and (frame.kind, frame.call) in self._answers:
                self._answers[frame.kind, frame.call] = frame
            self._changed.notify_all()
        if frame.response:
            return
        if frame.kind == frames.HEARTBEAT:
            self.send(frames.HEARTBEAT, frame.call, frames.RESPONSE, frame.payload)
        elif frame.kind == frames.HTTP and self._serve is not None:
            threading.Thread(target=self._answer, args=(frame,), name="v1-call", daemon=True).start()
        else:
            self.send(frame.kind, frame.call, frames.RESPONSE | frames.NOT_SUPPORTED)

    def _answer(self, frame: Frame) -> None:
        assert self._serve is not None
        payload = self._serve(frame.payload)
        if payload is not None:
            try:
                self.send(frames.HTTP, frame.call, frames.RESPONSE, payload)
            except (Ended, TimeoutError):
                pass  # the session went while we worked

    def call(self, kind: int, payload: bytes = b"", timeout: float = PATIENCE_S) -> Frame:
        """Send a call and wait for its one answer. Raises Ended or TimeoutError when none can or did come."""
        with self._changed:
            number = next(self._ids)
            self._answers[kind, number] = None
        self.send(kind, number, 0, payload)
        with self._changed:
            self._changed.wait_for(lambda: self._answers[kind, number] is not None or self.ended is not None, timeout)
            frame = self._answers.pop((kind, number))
            if frame is not None:
                return frame
            raise self.ended or TimeoutError("no answer")

    def http(self, request: bytes, timeout: float = PATIENCE_S) -> bytes:
        """Call with a whole HTTP request; the whole HTTP response."""
        frame = self.call(frames.HTTP, request, timeout)
        if frame.flags & frames.NOT_SUPPORTED:
            raise websocket.Nonsense("http is not supported there")
        return frame.payload

    def wait_for(self, condition: Callable[[list[Frame]], bool], timeout: float = PATIENCE_S) -> list[Frame]:
        """Wait until the frames seen so far satisfy `condition`."""
        with self._changed:
            if not self._changed.wait_for(lambda: condition(self.seen) or self.ended is not None, timeout):
                raise TimeoutError(f"after {len(self.seen)} frames")
            if not condition(self.seen):
                raise self.ended or TimeoutError("no such frame")
            return list(self.seen)

    def wait_http(self, number: int = 0, timeout: float = PATIENCE_S) -> Frame:
        """The `number`-th http call of the other side, when it has come."""

        def calls(seen: list[Frame]) -> list[Frame]:
            return [frame for frame in seen if frame.kind == frames.HTTP and not frame.response]

        return calls(self.wait_for(lambda seen: len(calls(seen)) > number, timeout))[number]

    def wait_ended(self, timeout: float = PATIENCE_S) -> Ended:
        """Wait until the other side has ended the session."""
        with self._changed:
            self._changed.wait_for(lambda: self.ended is not None, timeout)
            if self.ended is None:
                raise TimeoutError("the session goes on")
            return self.ended

    def vanish(self) -> None:
        """Close TCP without a close frame."""
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


class Agent(Session):
    """A v1 agent: registers an endpoint at a node and serves its requests."""

    def __init__(
        self,
        address: tuple[str, int],
        endpoint: str,
        serve: Serve,
        *,
        tls: ssl.SSLContext | None = None,
        fragment: int | None = FRAGMENT_BYTES,
        headers: websocket.Headers = (),
    ) -> None:
        path = f"/pico/v1/listener/{endpoint}"
        socket, answer = websocket.connect(address, path, tls=tls, headers=headers)
        self.answer = answer
        super().__init__(socket, serve, fragment=fragment)


class Server:
    """A v1 server, as small as can be: takes registrations, selects no subprotocol, and calls what registered."""

    def __init__(
        self,
        *,
        tls: ssl.SSLContext | None = None,
        fragment: int | None = FRAGMENT_BYTES,
        port: int = 0,
        refuse: Callable[[websocket.Offer], tuple[int, bytes] | None] = lambda offer: None,
    ) -> None:
        self._fragment = fragment
        self._refuse = refuse
        self._changed = threading.Condition()
        self.sessions: dict[str, list[Session]] = {}
        self.offers: list[websocket.Offer] = []
        self._listener = Listener(self._accept, tls=tls, port=port)
        self.port = self._listener.port

    def _accept(self, pipe: Pipe) -> None:
        try:
            accepted = websocket.accept(pipe, refuse=self._refuse)
        except (Ended, TimeoutError):
            return
        if accepted is None:
            with self._changed:
                self._changed.notify_all()
            return
        socket, offer = accepted
        session = Session(socket, fragment=self._fragment)
        endpoint = offer.path.rpartition("/")[2]
        with self._changed:
            self.offers.append(offer)
            self.sessions.setdefault(endpoint, []).append(session)
            self._changed.notify_all()
        heartbeat = time.monotonic()
        while session.ended is None:
            try:
                session.call(frames.HEARTBEAT)
                heartbeat += HEARTBEAT_S
                session.wait_ended(max(0.01, heartbeat - time.monotonic()))
            except (Ended, TimeoutError):
                continue

    def wait_session(self, endpoint: str, number: int = 0, timeout: float = PATIENCE_S) -> Session:
        """Wait for the `number`-th registration of an endpoint."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.sessions.get(endpoint, ())) > number, timeout):
                raise TimeoutError(f"nobody registered {endpoint}")
            return self.sessions[endpoint][number]

    def close(self) -> None:
        """Drop everything."""
        self._listener.close()
