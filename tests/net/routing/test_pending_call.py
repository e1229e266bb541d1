"""A pending call: the Deferred of its final head, and the body behind it."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.task import Clock
from zope.interface import implementer

from pico_twisted.core.http1.head import HeadLimits, ResponseHead
from pico_twisted.core.rpc import frames
from pico_twisted.net.routing.interfaces import CallFailed, IResponseSink
from pico_twisted.net.routing.pending_call import FIRST_FRAME_BYTES, LOST, PendingCall
from pico_twisted.net.routing.routes import AgentRoute
from tests.doubles.node import MemoryNode
from tests.doubles.tunnel import FakeCall, FakeTunnel
from tests.net.doubles import CONTINUE, OK, OK2, SWITCH, register


@implementer(IResponseSink)
class Sink:
    """Takes a response."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def interim(self, head: ResponseHead) -> None:
        self.told.append(head.status)

    def data(self, data: bytes) -> None:
        self.told.append(data)

    def trailers_came(self, block: bytes) -> None:
        self.told.append(("trailers", block))

    def ended(self, data: bytes, wants_no_more: bool) -> None:
        if wants_no_more:
            assert not data
            self.told.append("stopped")
        else:
            self.told += [data, "ended"] if data else ["ended"]

    def failed(self, error: CallFailed) -> None:
        self.told.append(error)

    def drained(self) -> None:
        self.told.append("drained")

    def may_give_up(self, cut_off: bool) -> bool:
        return True


class Made:
    """One call, with everything that hears of it."""

    def __init__(
        self, *, more: bool = False, body: bytes = b"", version: int = 2, takes: bool = True, upgrade: bool = False
    ) -> None:
        self.parts = MemoryNode(Clock())
        self.tunnel = FakeTunnel(version=version)
        self.tunnel.takes = takes
        self.sink = Sink()
        reader = self.tunnel.dialect.read_response(HeadLimits(), b"GET", upgrade)
        register(self.parts, self.tunnel)
        route = self.parts.cluster.take("my-ep", ())
        assert isinstance(route, AgentRoute)
        self.latency = route.latency
        seconds = self.parts.clock.seconds
        self.pending: PendingCall = PendingCall(route.rows, route, seconds, reader, self.sink, b"head", body, more)
        self.call: FakeCall = self.tunnel.opened[0]
        self.heads: list[ResponseHead] = []
        self.errors: list[CallFailed] = []
        assert self.pending.response is not None
        self.pending.response.addCallbacks(self.heads.append, lambda failure: self.errors.append(failure.value))

    @property
    def is_pending(self) -> bool:
        """Whether the cluster still counts it."""
        return self.pending in self.parts.cluster.pending


@pytest.fixture
def made() -> Made:
    """A call whose request has ended."""
    return Made()


def test_response(made: Made) -> None:
    """The Deferred fires with the final head; body and end go to the sink; then the call is over."""
    made.call.respond(CONTINUE, True)
    assert made.heads == [] and made.is_pending
    made.call.respond(OK2 + b"h", True)
    assert [head.status for head in made.heads] == [200]
    made.call.respond(b"i", False)
    assert made.sink.told == [100, b"h", b"i", "ended"]
    assert made.pending.over and not made.is_pending


def test_each_frame_is_told(made: Made) -> None:
    """A final head that came alone has an empty piece of body behind it, so that a sink that gathers may let it go."""
    made.call.respond(OK, True)
    assert made.sink.told == [b""] and [head.status for head in made.heads] == [200]
    made.call.respond(b"x", True)
    made.call.respond(b"", False)
    assert made.sink.told == [b"", b"x", "ended"]


def test_a_large_first_piece() -> None:
    """What does not fit into the first frame follows it."""
    call = Made(body=bytes(FIRST_FRAME_BYTES)).call
    assert call.first == b"head" and bytes(call.sent) == b"head" + bytes(FIRST_FRAME_BYTES) and call.send_ended


def test_request_goes_on_after_the_response() -> None:
    """A call whose response ended lives until its request has ended too."""
    made = Made(more=True)
    made.call.respond(OK2 + b"hi", False)
    assert made.sink.told[-1] == "ended" and made.is_pending
    made.pending.send(b"rest", True)
    made.pending.send(b"", False)
    assert bytes(made.call.sent) == b"headrest" and made.call.send_ended
    assert not made.is_pending and made.call.closed


def test_stop() -> None:
    """A stop behind the whole response is told as such; before it, it is a failure."""
    made = Made(more=True)
    made.call.respond(OK2 + b"hi", False)
    made.call.refuse(frames.STOP)
    assert made.sink.told == [b"hi", "ended", "stopped"] and not made.is_pending
    made = Made(more=True)
    made.call.respond(OK2 + b"h", True)
    made.call.refuse(frames.STOP)
    assert isinstance(made.sink.told[-1], CallFailed) and made.sink.told[-1].code == frames.FAILED


@pytest.mark.parametrize(
    ("code", "safe"),
    [
        (frames.REFUSED_NOT_HERE, True),
        (frames.REFUSED_DRAINING, True),
        (frames.REFUSED_BUSY, True),
        (frames.UNSUPPORTED, True),
        (frames.FAILED, False),
        (frames.TIMEOUT, False),
        (frames.CANCELLED, False),
        (frames.PROTOCOL, False),
    ],
)
def test_reset_before_the_head(made: Made, code: str, safe: bool) -> None:
    """A reset fails the Deferred; only a refusal is surely safe to try again."""
    made.call.refuse(code, "words")
    (error,) = made.errors
    assert (error.code, error.text, error.safe) == (code, "words", safe)
    assert made.sink.told == [] and not made.is_pending


def test_reset_behind_the_head(made: Made) -> None:
    """A response that is cut short behind its head is told to the sink."""
    made.call.respond(OK + b"some", True)
    made.call.refuse(frames.FAILED, "service died")
    assert made.errors == []
    error = made.sink.told[-1]
    assert isinstance(error, CallFailed) and str(error) == "failed: service died"


@pytest.mark.parametrize("takes", [True, False])
def test_session_ends_before_the_head(takes: bool) -> None:
    """When the session ends, a call is safe to make again only if its first frame had not left."""
    made = Made(takes=takes)
    made.tunnel.lose()
    assert [(error.code, error.safe) for error in made.errors] == [(LOST, not takes)]
    assert not made.is_pending


def test_session_ends_later(made: Made) -> None:
    """Behind the head it is a cut response; behind the end it only means that the request goes nowhere."""
    made.call.respond(OK + b"some", True)
    made.tunnel.lose()
    assert isinstance(made.sink.told[-1], CallFailed)
    made = Made(more=True)
    made.call.respond(OK2 + b"hi", False)
    made.tunnel.lose()
    assert made.sink.told[-1] == "stopped" and not made.is_pending


@pytest.mark.parametrize(
    ("frame", "more"),
    [
        (b"nonsense", True),
        (b"HTTP/1.1 099 X\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", True),
        (OK2 + b"too long", True),
        (OK2 + b"s", False),
        (SWITCH, True),
        (CONTINUE, False),
    ],
)
def test_broken_responses(frame: bytes, more: bool) -> None:
    """A response that breaks HTTP or the protocol resets its call with `protocol`, and is not passed on as whole."""
    made = Made(more=True)
    made.call.respond(frame, more)
    assert made.call.reset_code == frames.PROTOCOL
    assert "ended" not in made.sink.told
    assert made.errors and made.errors[0].code == frames.PROTOCOL
    assert not made.is_pending


def test_broken_later(made: Made) -> None:
    """A body that turns out too long cuts the response; what came before was delivered."""
    made.call.respond(OK2 + b"h", True)
    made.call.respond(b"i!", True)
    assert made.sink.told[0] == b"h" and isinstance(made.sink.told[-1], CallFailed)
    assert made.call.reset_code == frames.PROTOCOL


def test_cancel() -> None:
    """A call that is given up is reset once, tells nobody, and forgets what still comes."""
    made = Made(more=True)
    made.pending.cancel(frames.CANCELLED, "client left")
    made.pending.cancel(frames.TIMEOUT)
    assert (made.call.reset_code, made.call.reset_text) == (frames.CANCELLED, "client left")
    made.pending.frame(OK2 + b"hi", False)
    made.pending.reset(frames.FAILED, "")
    made.pending.lost()
    made.pending.drained()
    assert made.heads == [] and made.errors == [] and made.sink.told == [] and not made.is_pending


def test_cancelling_the_deferred(made: Made) -> None:
    """Who cancels the Deferred of the response gives the call up."""
    assert made.pending.response is not None
    made.pending.response.cancel()
    assert made.call.reset_code == frames.CANCELLED and not made.is_pending


def test_credit_follows_the_client(made: Made) -> None:
    """What came is granted again at once, or, while the client is slow, when it goes on."""
    made.call.respond(OK + b"x" * 100, True)
    assert made.call.consumed == len(OK) + 100
    made.pending.pause()
    made.call.respond(b"y" * 50, True)
    made.call.respond(b"z" * 50, True)
    assert made.call.consumed == len(OK) + 100
    made.pending.resume()
    assert made.call.consumed == len(OK) + 200
    made.call.respond(b"end", True)
    assert made.call.consumed == len(OK) + 203


def test_queue_of_the_request() -> None:
    """The owner sees what waits, and is told when it has gone."""
    made = Made(more=True)
    made.tunnel.takes = False
    made.pending.send(bytes(200_000), True)
    assert made.pending.queued == 200_000
    made.call.take()
    assert made.sink.told == ["drained"] and made.pending.queued == 0


def test_upgrade() -> None:
    """A 101 is the final head of a call that asked for an upgrade; raw bytes follow both ways."""
    made = Made(more=True, upgrade=True)
    made.call.respond(SWITCH + b"\x00", True)
    assert [head.status for head in made.heads] == [101]
    made.call.respond(b"HTTP/1.1 200 OK\r\n\r\n", True)
    made.call.respond(b"", False)
    assert made.sink.told == [b"\x00", b"HTTP/1.1 200 OK\r\n\r\n", "ended"] and made.is_pending
    made.pending.send(b"", False)
    assert not made.is_pending


def test_v1() -> None:
    """Over v1 the whole message comes at once."""
    made = Made(version=1)
    made.call.respond(OK2 + b"hi", False)
    assert [head.status for head in made.heads] == [200] and made.sink.told == [b"hi", "ended"]
    assert not made.is_pending
    made = Made(version=1)
    made.call.respond(OK2 + b"h", False)
    assert made.errors[0].code == frames.PROTOCOL
