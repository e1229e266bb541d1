"""Our adapter beside hyper-h2, which shares no code with it: either role, any exchanges, any cut of the bytes."""

from __future__ import annotations

from typing import Protocol

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st

from pico_twisted.core.http2 import events as e
from pico_twisted.core.http2.connection import Http2Connection
from pico_twisted.core.http2.engine import secret
from pico_twisted.core.http2.events import Event, WireFields
from pico_twisted.core.http2.settings import Http2Settings
from tests.core.http2.hyper import Hyper
from tests.examples import examples
from tests.peers import http2_frames as wire

SETTINGS = Http2Settings(streams=100, window_bytes=70_000)
VALUES = st.from_regex(rb"[!-~]{0,30}", fullmatch=True)
FIELDS = st.lists(st.tuples(st.from_regex(rb"x-[a-z0-9]{1,8}", fullmatch=True), VALUES), max_size=5)
BODIES = st.lists(st.integers(0, 3000) | st.integers(60_000, 90_000), max_size=3)


class End(Protocol):
    """What ours and hyper's have in common."""

    def receive(self, data: bytes) -> list[Event]: ...
    def to_send(self, most: int) -> bytes: ...
    def events_of_sending(self) -> list[Event]: ...
    def request(self, fields: WireFields, ended: bool) -> int: ...
    def respond(self, stream: int, fields: WireFields, ended: bool) -> None: ...
    def interim(self, stream: int, fields: WireFields) -> None: ...
    def send(self, stream: int, data: bytes, ended: bool) -> None: ...
    def trailers(self, stream: int, fields: WireFields) -> None: ...
    def reset(self, stream: int, code: int) -> None: ...


@attrs.define
class Message:
    """What one end was told on a stream."""

    head: WireFields | None = None
    interims: list[WireFields] = attrs.field(factory=list)
    body: bytearray = attrs.field(factory=bytearray)
    trailers: tuple[tuple[bytes, bytes], ...] = ()
    ended: bool = False
    reset: int | None = None


@attrs.frozen
class Exchange:
    """One request and its response, as drawn."""

    asked: list[wire.Field]
    question: list[int]
    question_trailers: list[wire.Field]
    interim: bool
    answered: list[wire.Field]
    answer: list[int]
    answer_trailers: list[wire.Field]
    gives_up: str


EXCHANGES = st.lists(
    st.builds(
        Exchange, FIELDS, BODIES, FIELDS, st.booleans(), FIELDS, BODIES, FIELDS,
        st.sampled_from(["nobody", "nobody", "nobody", "client", "server"]),
    ),
    min_size=1,
    max_size=5,
)  # fmt: skip


class Joined:
    """A client and a server, of which one is ours, joined so that bytes arrive in pieces of a size."""

    def __init__(self, client: End, server: End, piece: int) -> None:
        self.client, self.server = client, server
        self.responses: dict[int, Message] = {}
        self.requests: dict[int, Message] = {}
        self._piece = piece

    def pump(self) -> None:
        went = True
        while went:
            went = self._move(self.client, self.server, self.requests)
            went |= self._move(self.server, self.client, self.responses)

    def _move(self, source: End, target: End, told: dict[int, Message]) -> bool:
        data = source.to_send(1000)
        self._note(source.events_of_sending(), self.responses if source is self.client else self.requests, source)
        for at in range(0, len(data), self._piece):
            self._note(target.receive(data[at : at + self._piece]), told, target)
        return bool(data)

    def _note(self, events: list[Event], told: dict[int, Message], end: End) -> None:
        for event in events:
            assert event[0] not in (e.FAULT, e.ENDED, e.GOAWAY), event
            message = told.setdefault(event[1], Message())
            if event[0] in (e.REQUEST, e.RESPONSE):
                message.head = tuple((bytes(name), bytes(value)) for name, value in event[2])
            elif event[0] == e.INTERIM:
                message.interims.append(event[2])
            elif event[0] == e.DATA:
                message.body += event[2]
                if isinstance(end, Http2Connection):
                    end.consumed(event[1], len(event[2]))
            elif event[0] == e.TRAILERS:
                message.trailers = tuple(event[2])
            elif event[0] == e.PEER_RESET:
                message.reset = event[2]
            if event[0] <= e.TRAILERS and event[3]:
                message.ended = True


def say(end: End, stream: int, sizes: list[int], trailers: list[wire.Field]) -> bytes:
    """Send a body, and end with trailers if there are any. Returns the body."""
    body = b"".join(bytes((number + 1,)) * size for number, size in enumerate(sizes))
    for number, size in enumerate(sizes):
        end.send(stream, bytes((number + 1,)) * size, ended=False)
    if trailers:
        end.trailers(stream, trailers)
    else:
        end.send(stream, b"", ended=True)
    return body


PIECES = st.sampled_from([1, 7, 100, 5000])


@settings(max_examples=examples(30))
@given(EXCHANGES, PIECES)
def test_our_client_and_their_server(exchanges: list[Exchange], piece: int) -> None:
    """Heads, interim heads, bodies over the window, trailers and resets arrive as they were sent, side by side."""
    exchanged(Http2Connection(client=True, settings=SETTINGS), Hyper(client=False), exchanges, piece)


@settings(max_examples=examples(30))
@given(EXCHANGES, PIECES)
def test_their_client_and_our_server(exchanges: list[Exchange], piece: int) -> None:
    """And the other way round."""
    exchanged(Hyper(client=True), Http2Connection(client=False, settings=SETTINGS), exchanges, piece)


def exchanged(client: End, server: End, exchanges: list[Exchange], piece: int) -> None:
    """Let all exchanges happen beside each other, and compare what each end was told with what the other one sent."""
    sizes = sum(sum(one.question) + sum(one.answer) for one in exchanges)
    piece = max(piece, sizes // 500)
    joined = Joined(client, server, piece)
    joined.pump()
    streams: list[int] = []
    questions: list[bytes] = []
    for one in exchanges:
        fields = [*wire.request(method=b"POST"), (b"te", b"trailers"), *one.asked]
        streams.append(client.request(fields, ended=False))
        questions.append(say(client, streams[-1], one.question, one.question_trailers))
    joined.pump()
    for stream, one, question in zip(streams, exchanges, questions, strict=True):
        request = joined.requests[stream]
        assert request.head == (*wire.request(method=b"POST"), (b"te", b"trailers"), *one.asked)
        assert (bytes(request.body), request.trailers, request.ended) == (question, tuple(one.question_trailers), True)
        if one.gives_up == "client":
            client.reset(stream, e.CANCEL)
            continue
        if one.interim:
            server.interim(stream, [(b":status", b"103"), (b"link", b"</a>")])
        server.respond(stream, [(b":status", b"200"), *one.answered], ended=False)
        if one.gives_up == "server":
            server.reset(stream, e.INTERNAL_ERROR)
        else:
            say(server, stream, one.answer, one.answer_trailers)
    joined.pump()
    for stream, one in zip(streams, exchanges, strict=True):
        if one.gives_up == "client":
            assert joined.requests[stream].reset == e.CANCEL
            continue
        response = joined.responses[stream]
        if one.gives_up == "server":
            assert response.reset == e.INTERNAL_ERROR
            continue
        answer = b"".join(bytes((number + 1,)) * size for number, size in enumerate(one.answer))
        assert response.head == ((b":status", b"200"), *one.answered)
        assert len(response.interims) == one.interim
        assert (bytes(response.body), response.trailers, response.ended) == (answer, tuple(one.answer_trailers), True)


def test_secrets_are_read_by_others() -> None:
    """A field that is never indexed is an ordinary one for whoever reads it."""
    joined = Joined(Http2Connection(client=True, settings=SETTINGS), Hyper(client=False), 10)
    joined.pump()
    fields = [*wire.request(), secret(b"authorization", b"Bearer x")]
    for _ in range(3):
        stream = joined.client.request(fields, ended=True)
        joined.pump()
        assert joined.requests[stream].head == tuple((name, value) for name, value in fields)
