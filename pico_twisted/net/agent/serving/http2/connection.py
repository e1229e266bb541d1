"""One HTTP/2 connection to a local service, which many calls share (RFC 9113).

What is needed. A call asks for a stream, writes to it and hears what comes, as if it had a connection of its own. What
one call does never holds up another: neither a caller that reads slowly nor a request that the service does not take.

What can go wrong. The service may say at any time how many streams it takes, that it goes away, or nothing ever again.
It may send what is no HTTP/2, or more than it may. All that comes in one read is dispatched before any call sends on
what it heard: so an answer that turns out broken in the same read can still be a clean 502, and a small one is a frame.

What was chosen.

- *Writing.* What calls do in a turn of the reactor leaves together, at its end. While the transport holds enough,
  nothing is taken from libnghttp2, where each stream's DATA waits for its window anyway; a call hears how much waits.
- *A service that is silent* is asked with a PING: see `core.agent.silence`.
- *No use before SETTINGS.* The service has to say that it speaks HTTP/2 before a request is risked: what fails before
  was certainly not seen by it. On the same machine that costs a fraction of a millisecond, once.
"""

from __future__ import annotations

import contextlib
import enum
import socket
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.internet.protocol import connectionDone
from twisted.internet.tcp import Connection
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from pico_twisted.core.agent.silence import Silence
from pico_twisted.core.http2 import events as http2
from pico_twisted.core.http2.connection import Http2Connection, StreamGone
from pico_twisted.core.http2.flood import FloodWatch
from pico_twisted.core.sweep import NEVER, Sweep
from pico_twisted.net.agent.serving.connection import CLOSE_S
from pico_twisted.net.agent.serving.http2.limits import FLOODS, MOST_STREAMS, SEND_BYTES, SETTINGS
from pico_twisted.net.agent.serving.http2.users import ConnectionOwner, NotHttp2, StreamUser, TurnedAway
from pico_twisted.net.socket.end_of_turn import EndOfTurn
from pico_twisted.net.socket.options import forget_output, has_ended, raw_socket, tune, writer

_FIELDS: Final = frozenset((http2.RESPONSE, http2.INTERIM, http2.TRAILERS))


class _Life(enum.Enum):
    """What the connection is good for. Each state leads to later ones only."""

    GREETING = enum.auto()  # the service has not said that it speaks HTTP/2
    OPEN = enum.auto()  # takes streams
    LEAVING = enum.auto()  # takes no new ones
    CLOSING = enum.auto()  # what was written goes out
    GONE = enum.auto()


class _Output(enum.Enum):
    """When what is there to be written is written."""

    NONE = enum.auto()
    PLANNED = enum.auto()  # at the end of the turn
    HELD = enum.auto()  # something is being dispatched, and writes behind it
    RUNNING = enum.auto()


@implementer(IPushProducer)
class SharedConnection(TwistedProtocol):
    """A connection to the service.

    Args:
        owner: keeps it.
        sweep: watches its deadline.
        end_of_turn: gathers what one turn brings, if the process does so.

    Attributes:
        ready: fires once it takes streams, or fails.
        users: who has a stream, by its number.
        most_streams: how many the service and we allow at once.
        takes_websockets: by extended CONNECT (RFC 8441).
        deadline: for the sweep.
    """

    transport: Any  # TCP's, a unix socket's, or TLS on it: no interface of Twisted has all that they can do

    def __init__(self, owner: ConnectionOwner, sweep: Sweep, end_of_turn: EndOfTurn | None) -> None:
        self.ready: Deferred[SharedConnection] = Deferred(lambda _: self.abort())
        self.users: dict[int, StreamUser] = {}
        self.most_streams = 0
        self.takes_websockets = False
        self.deadline = NEVER
        self._owner = owner
        self._sweep = sweep
        self._end_of_turn = end_of_turn
        self._life = _Life.GREETING
        self._http2 = Http2Connection(client=True, settings=SETTINGS)
        self._floods = FloodWatch(self._http2, FLOODS, sweep.now)
        self._silence = Silence()
        self._socket: socket.socket | None = None
        self._writable = True
        self._output = _Output.NONE
        self._more = False  # something may have come to be written meanwhile
        self._uploads: set[StreamUser] = set()  # bytes of theirs may wait for a window
        self._broken = 0  # the stream on which the service broke a rule last
        self._why = "it was closed"

    # From the transport

    def connectionMade(self) -> None:
        if isinstance(self.transport, Connection):
            self.transport.protocol = self  # see `serving.connection`
        self._socket = raw_socket(self.transport)
        self.write = writer(self.transport)
        tune(self.transport)
        self.transport.registerProducer(self, True)
        self._sweep.add(self)
        self._touch()

    def dataReceived(self, data: bytes) -> None:
        if self._life is _Life.GONE:
            return
        self._silence.heard()
        output, self._output, events = self._output, _Output.HELD, self._http2.receive(data)
        if (excess := self._floods.saw(events, self._sweep.now)) is not None:
            self._why = f"it sent too much that is no answer ({excess.reason}), so it was closed"
            self._http2.terminate(excess.code)
        told: dict[StreamUser, None] = {}
        for event in events:
            self._tell(event, told)
        if not self.ready.called and (self._life is not _Life.GREETING or self._http2.ended):
            self._greeted()
        self._write_out(told)  # faults are told once we have answered them
        for user in told:
            user.read_is_over()
        self._output = output
        if self._more or self._uploads:
            self._touch()
        self._settle()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._life = _Life.GONE
        self._sweep.discard(self)
        forget_output(self.transport)
        if not self.ready.called:
            self.ready.errback(reason)
        self._owner.gone(self)
        self._lose_all()

    def pauseProducing(self) -> None:
        """Write no more for now (IPushProducer)."""
        self._writable = False

    def resumeProducing(self) -> None:
        """The transport wrote all that it had (IPushProducer)."""
        self._writable = True
        self._touch()

    def stopProducing(self) -> None:
        """`connectionLost` follows (IPushProducer)."""

    def deadline_passed(self, now: float) -> None:
        """Called by the sweep."""
        if self._life is _Life.CLOSING:
            self.abort()
        elif self._silence.pinged:
            self._why = "it did not answer any more, so it was closed"
            self.abort()
        elif not self.users:
            self.close()
        else:
            self._silence.ping(now)
            self.deadline = self._silence.due_at
            self._http2.ping()
            self._touch()

    # What the service says

    def _tell(self, event: http2.Event, told: dict[StreamUser, None]) -> None:
        kind, stream, what, ended = event
        user = self.users.get(stream)
        if kind == http2.CLOSED:
            if user is not None:
                assert isinstance(what, int)
                del self.users[stream]
                self._uploads.discard(user)
                user.stream_closed(what, self._broken == stream)
        elif kind == http2.FAULT:
            self._broken = stream
        elif not stream:
            self._tell_all(kind)
        elif user is None:
            return  # it was given up
        elif kind == http2.DATA:
            assert isinstance(what, bytes)
            self._silence.answered()
            told[user] = None
            user.data_came(what, ended)
        elif kind in _FIELDS:
            assert not isinstance(what, (int, bytes))
            self._silence.answered()
            told[user] = None
            if kind == http2.RESPONSE:
                user.head_came(what, ended)
            elif kind == http2.INTERIM:
                user.interim_came(what)
            else:
                user.trailers_came(what)

    def _tell_all(self, kind: int) -> None:
        """Something that is about the connection."""
        if kind == http2.SETTINGS:
            self.most_streams = min(self._http2.peer_streams, MOST_STREAMS)
            self.takes_websockets = self._http2.peer_takes_connect
            if self._life is _Life.GREETING:
                self._life = _Life.OPEN
        elif kind == http2.GOAWAY:
            self._why = "it went away"
            if self._life is _Life.OPEN:
                self._life = _Life.LEAVING

    def _greeted(self) -> None:
        """The service's first frames have come: it may have said good-bye with them."""
        if self._life is _Life.GREETING:
            self.ready.errback(Failure(NotHttp2("what listens there does not speak HTTP/2")))
        elif self._life is _Life.OPEN and not self._http2.ended:
            self.ready.callback(self)
        else:
            self.ready.errback(Failure(TurnedAway("it goes away as soon as it is connected to")))

    def _settle(self) -> None:
        """Something may have ended: see what becomes of the connection, and who waits for a stream."""
        if self._life in (_Life.CLOSING, _Life.GONE):
            return
        if self._http2.ended:
            self.close()
            self._lose_all()
        elif self.users or self._silence.pinged:
            self.deadline = self._silence.due_at
        elif self._life is _Life.LEAVING:
            self.close()
        else:
            self._silence.nothing_open()
            self.deadline = self._sweep.now + self._owner.idle_s
        self._owner.room()

    def _lose_all(self) -> None:
        users, self.users = self.users, {}
        self._uploads.clear()
        for user in users.values():
            user.connection_lost(self._why)

    # From calls

    @property
    def has_room(self) -> bool:
        """Whether a stream may be opened now."""
        return self._life is _Life.OPEN and len(self.users) < self.most_streams

    @property
    def takes_calls(self) -> bool:
        """Whether it does, or will when one of its streams has ended."""
        return self._life is _Life.OPEN

    def is_dead(self) -> bool:
        """Whether the service closed it, which the reactor has not noticed yet. Asked before a request is risked that
        cannot be sent twice, if the connection was idle."""
        return self._socket is not None and has_ended(self._socket)

    def open(self, user: StreamUser, fields: http2.WireFields, body: bytes, ended: bool) -> None:
        """Open a stream with a request, of which `body` is what came so far.

        Raises:
            StreamGone: no stream can be opened here any more.
        """
        stream = self._http2.request(fields, ended and not body)
        user.stream = stream
        self.users[stream] = user
        if body:
            self.send(user, body, ended)
        else:
            self._ask()

    def send(self, user: StreamUser, data: bytes, ended: bool) -> None:
        """Send a piece of the body. Its user hears when it has left."""
        try:
            self._http2.send(user.stream, data, ended)
        except StreamGone:
            return  # its end is on the way
        self._uploads.add(user)
        self._ask()

    def end_with(self, user: StreamUser, trailers: http2.WireFields) -> None:
        """End the request with trailers."""
        with contextlib.suppress(StreamGone):  # then its end is on the way
            self._http2.trailers(user.stream, trailers)
        self._ask()

    def took(self, user: StreamUser, count: int) -> None:
        """So many bytes of the response were taken, and the service may send as many more."""
        self._http2.consumed(user.stream, count)
        self._touch()

    def leave_stream(self, user: StreamUser, code: int) -> None:
        """Give a stream up; its user hears nothing more of it. Idempotent."""
        if self.users.get(user.stream) is user:
            del self.users[user.stream]
            self._uploads.discard(user)
            self._http2.reset(user.stream, code)
            self._touch()
            if self._output is not _Output.HELD:
                self._settle()

    def refused(self) -> None:
        """The service refused a stream: it takes no more than it has, whatever it told."""
        self.most_streams = max(1, min(self.most_streams, len(self.users)))

    def leave(self) -> None:
        """Take no new streams."""
        if self._life is _Life.OPEN:
            self._life = _Life.LEAVING
            if not self.users:
                self.close()

    def _ask(self) -> None:  # something goes out that the service should answer
        self._silence.asked(self._sweep.now)
        self.deadline = self._silence.due_at
        self._touch()

    # Writing

    def _touch(self) -> None:
        self._more = True
        if self._output is not _Output.NONE:
            return
        if self._end_of_turn is None:
            self._flush()
        else:
            self._output = _Output.PLANNED
            self._end_of_turn.add(self._flush)

    def _flush(self) -> None:
        """Write what there is, and tell those whose bytes have left."""
        self._output = _Output.RUNNING
        closed = False
        try:
            while self._more and self._life is not _Life.GONE:
                closed = self._write_out({}) or closed
                for user in list(self._uploads):
                    waiting = self._http2.queued(user.stream)
                    if not waiting:
                        self._uploads.discard(user)
                    user.queue_is(waiting)
        finally:
            self._output = _Output.NONE
        if closed:
            self._settle()

    def _write_out(self, told: dict[StreamUser, None]) -> bool:
        self._more = False
        while self._writable and (data := self._http2.to_send(SEND_BYTES)):
            self.write(data)
        events = self._http2.events_of_sending()
        for event in events:
            self._tell(event, told)
        return bool(events)

    # Endings

    def close(self) -> None:
        """Close, once what was written is out. Idempotent."""
        if self._life in (_Life.CLOSING, _Life.GONE):
            return
        self._life = _Life.CLOSING
        if not self._http2.ended:
            self._http2.goaway()
        self._more = True
        self._flush()
        self.deadline = self._sweep.now + CLOSE_S
        self.transport.unregisterProducer()
        self.transport.loseConnection()
        if isinstance(self.transport, TLSMemoryBIOProtocol) and self.transport.transport is not None:
            self.transport.transport.loseConnection()  # see `SecureServiceConnection.close`

    def abort(self) -> None:
        """Drop the connection: its users hear that it is gone. Idempotent."""
        if self._life is not _Life.GONE:
            self._life = _Life.GONE
            self.transport.abortConnection()
