"""Two v2 sessions, joined, doing anything that their users may do, in any order.

Whatever happens, what arrives of a stream is the beginning of what was sent, in order; when nobody gives a call up, all
of it arrives; nobody holds more than was promised; and two sessions of ours never find fault with each other.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pico_twisted.core.rpc.budget import Budget
from pico_twisted.core.rpc.call import Call
from pico_twisted.core.rpc.frames import CANCELLED, DRAIN, FAILED, HTTP, STOP, TCP, TIMEOUT
from pico_twisted.core.rpc.session import SessionV2
from tests.doubles.pump import End, Pump
from tests.examples import examples

MAX_CALLS = 20
PATTERN = random.Random(7).randbytes(300_000)


@dataclass
class Stream:
    """One direction of a call, as its writer knows it."""

    sender: End
    call: Call
    sent: bytearray = field(default_factory=bytearray)
    ended: bool = False
    trailers: bytes = b""

    def add(self, size: int) -> bytes:
        """Take the next bytes to send."""
        start = len(self.sent) % 1000
        data = PATTERN[start : start + size]
        self.sent += data
        return data


@dataclass
class Pair:
    """A call, with what was sent and done on both sides."""

    caller: End
    callee: End
    call: Call
    request: Stream
    theirs: Call | None = None
    response: Stream | None = None
    given_up: bool = False


def mostly() -> st.SearchStrategy[bool]:
    """True, now and then False."""
    return st.sampled_from([True, True, True, True, False])


def sizes() -> st.SearchStrategy[int]:
    """Sizes at and around what matters."""
    return st.one_of(
        st.integers(1, 50),
        st.just(20_000),
        st.sampled_from([60 * 1024 - 1, 60 * 1024, 60 * 1024 + 1, 64 * 1024, 64 * 1024 + 1, 130 * 1024]),
        st.integers(1, 200_000),
    )


class TwoSessions(RuleBasedStateMachine):
    """Users of two joined sessions."""

    def __init__(self) -> None:
        super().__init__()
        self.pairs: list[Pair] = []
        self.resets = False
        self.trailers = False

    @initialize(
        seed=st.integers(0, 2**32),
        slow=st.booleans(),
        budget=st.sampled_from([1 << 30, 1 << 30, 100_000]),
        resets=st.booleans(),
        trailers=st.booleans(),
    )
    def begin(self, seed: int, slow: bool, budget: int, resets: bool, trailers: bool) -> None:
        """Join a node's and an agent's session."""
        self.resets = resets
        self.trailers = trailers
        chance = random.Random(seed)
        self.budget = Budget(budget)

        def make(asks: bool) -> SessionV2:
            return SessionV2(asks_always=asks, serves=(HTTP, TCP), max_calls=MAX_CALLS, budget=self.budget, now=0.0)

        self.pump = Pump(make(True), make(False), delay_turns=(lambda: chance.randrange(5)) if slow else lambda: 0)
        self.left, self.right = self.pump.left, self.pump.right
        for end in (self.left, self.right):
            end.session.takes_trailers = trailers

    # What users do

    @precondition(lambda self: sum(not pair.call.closed for pair in self.pairs) < 4)
    @rule(left=st.booleans(), size=sizes(), more=mostly(), kind=st.sampled_from([HTTP, TCP]))
    def open_call(self, left: bool, size: int, more: bool, kind: int) -> None:
        """Open a call."""
        caller, callee = (self.left, self.right) if left else (self.right, self.left)
        data = bytearray(PATTERN[:size])
        call = caller.call(kind, bytes(data), more)
        self.pairs.append(Pair(caller, callee, call, Stream(caller, call, data, not more)))

    def _streams(self) -> list[Stream]:
        streams = [pair.request for pair in self.pairs] + [pair.response for pair in self.pairs if pair.response]
        return [stream for stream in streams if not (stream.ended or stream.call.closed)]

    @precondition(lambda self: self._streams())
    @rule(data=st.data(), pieces=st.lists(sizes(), min_size=1, max_size=5), more=mostly())
    def send(self, data: st.DataObject, pieces: list[int], more: bool) -> None:
        """Go on with a request or a response, and perhaps end it."""
        stream = data.draw(st.sampled_from(self._streams()))
        for size in pieces[:-1]:
            stream.sender.session.send(stream.call, stream.add(size), True)
        stream.sender.session.send(stream.call, stream.add(pieces[-1]), more)
        stream.ended = not more

    @precondition(lambda self: any(stream.call.kind == HTTP for stream in self._streams()))
    @rule(data=st.data(), size=st.sampled_from([4, 100, 8191, 8192]))
    def end_with_trailers(self, data: st.DataObject, size: int) -> None:
        """End a stream of an http call with trailers, whatever is queued of it."""
        stream = data.draw(st.sampled_from([stream for stream in self._streams() if stream.call.kind == HTTP]))
        stream.trailers = b"a: " + b"b" * (size - 5) + b"\r\n" if size > 4 else b""
        stream.sender.session.send_trailers(stream.call, stream.trailers)
        stream.ended = True

    @precondition(lambda self: self.pairs)
    @rule(data=st.data(), more=st.booleans())
    def send_too_late(self, data: st.DataObject, more: bool) -> None:
        """Writers that do not look whether their stream is over do no harm."""
        for pair in self.pairs:
            for stream in (pair.request, pair.response):
                if stream is not None and (stream.ended or stream.call.closed):
                    stream.sender.session.send(stream.call, b"too late", more)
                    stream.sender.session.send_trailers(stream.call, b"too: late\r\n")

    @precondition(lambda self: self.resets and self.pairs)
    @rule(data=st.data(), code=st.sampled_from([CANCELLED, TIMEOUT]))
    def caller_gives_up(self, data: st.DataObject, code: str) -> None:
        """The caller resets its call."""
        pair = data.draw(st.sampled_from(self.pairs))
        pair.given_up = pair.given_up or not pair.call.closed
        pair.caller.session.reset(pair.call, code)

    @precondition(lambda self: self.resets and any(pair.theirs for pair in self.pairs))
    @rule(data=st.data(), code=st.sampled_from([FAILED, STOP]))
    def callee_gives_up(self, data: st.DataObject, code: str) -> None:
        """The callee resets the call."""
        pair = data.draw(st.sampled_from([pair for pair in self.pairs if pair.theirs]))
        assert pair.theirs is not None
        pair.given_up = pair.given_up or not pair.theirs.closed
        pair.callee.session.reset(pair.theirs, code, "as the test wants")

    @rule(left=st.booleans(), count=st.integers(1, 100_000), data=st.data())
    def consume(self, left: bool, count: int, data: st.DataObject) -> None:
        """A consumer takes something."""
        end = self.left if left else self.right
        waiting = [call for call, inbound in end.inbound.items() if inbound.untaken]
        if waiting:
            end.take(data.draw(st.sampled_from(waiting)), count, now=self.pump.now)

    @rule(left=st.booleans(), takes=st.booleans())
    def consumers_change(self, left: bool, takes: bool) -> None:
        """Consumers take everything at once from now on, or nothing by themselves."""
        (self.left if left else self.right).takes = takes

    @rule(left=st.booleans(), writes=st.booleans())
    def transport(self, left: bool, writes: bool) -> None:
        """A transport is paused or resumed."""
        (self.left if left else self.right).writes = writes

    @rule(seconds=st.sampled_from([0.01, 1.0, 12.0]))
    def wait(self, seconds: float) -> None:
        """Time passes; heartbeats fall due."""
        for end in (self.left, self.right):
            end.session.last_received = self.pump.now + seconds
        self.pump.wait(seconds)

    @rule(left=st.booleans())
    def drain(self, left: bool) -> None:
        """One side drains."""
        (self.left if left else self.right).session.drain()

    @rule(held=st.sampled_from([0, 99_999, 100_000]))
    def memory(self, held: int) -> None:
        """The process is measured."""
        self.budget.measure(held)

    # What the network does

    @rule(turns=st.sampled_from([1, 2, 3, 10, 30]))
    def carry(self, turns: int) -> None:
        """Messages travel."""
        for _ in range(turns):
            if not self.pump.turn():
                break
        self._find_accepted()

    def _find_accepted(self) -> None:
        for pair in self.pairs:
            if pair.theirs is None and pair.call.started:
                for theirs in pair.callee.accepted:
                    if theirs.id == pair.call.id:
                        pair.theirs = theirs
                        pair.response = Stream(pair.callee, theirs)

    # What must hold

    @invariant()
    def sound(self) -> None:
        """Each session is in order, and neither found fault with the other."""
        if not hasattr(self, "pump"):
            return
        for end in (self.left, self.right):
            end.session._check_invariants()
            assert end.error is None, end.error
            for call, inbound in end.inbound.items():
                assert inbound.untaken <= call.window, "nobody holds more than a window of a stream"
                if not call.closed:
                    assert call.unconsumed == inbound.untaken

    @invariant()
    def whole_and_in_order(self) -> None:
        """What arrived is the beginning of what was sent."""
        for pair in self.pairs:
            if pair.theirs is not None:
                assert pair.request.sent.startswith(pair.callee.inbound[pair.theirs].data)
                assert pair.response is not None
                assert pair.response.sent.startswith(pair.caller.inbound[pair.call].data)

    def teardown(self) -> None:
        """In the end everything that nobody gave up arrives whole, and nothing is left over."""
        if not hasattr(self, "pump"):
            return
        self.budget.measure(0)
        for end in (self.left, self.right):
            end.writes = end.takes = True
            for call in list(end.inbound):
                end.take(call, now=self.pump.now)
        self.pump.settle()
        self._find_accepted()
        for pair in self.pairs:
            assert pair.call.started or pair.call.closed
            inbound = pair.caller.inbound[pair.call]
            if pair.theirs is None:
                assert pair.given_up or inbound.reset == "refused busy"
                continue
            self._judge(pair)
        self.sound()
        self.whole_and_in_order()
        for end in (self.left, self.right):
            assert not [call for call in end.session.calls() if call.kind == DRAIN]
            queued = sum(call.queued for call in end.session.calls())
            assert end.session.held_bytes() == queued == 0

    def _judge(self, pair: Pair) -> None:
        assert pair.theirs is not None and pair.response is not None
        if pair.given_up:
            assert pair.call.closed and pair.theirs.closed
            return
        for stream, end, call in (
            (pair.request, pair.callee, pair.theirs),
            (pair.response, pair.caller, pair.call),
        ):
            inbound = end.inbound[call]
            assert inbound.reset is None, inbound.reset
            assert inbound.data == stream.sent
            assert inbound.ended is stream.ended
            assert inbound.trailers == (stream.trailers if self.trailers else b"")
        if pair.request.ended and pair.response.ended:
            assert pair.call.closed and pair.theirs.closed


TwoSessions.TestCase.settings = settings(
    max_examples=examples(200), stateful_step_count=60, suppress_health_check=list(HealthCheck)
)
TestTwoSessions = TwoSessions.TestCase
