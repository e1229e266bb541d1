"""Sync calls over node links: one node asks another for the maps of all nodes, which may be many megabytes, to be
dialled back, for what is revoked, or to do what an operator asks for.

What the question and the answer mean is the business of gossip, of `dial_back`, of `net.access.shared`, or of
`net.admin.operations`. Here they are gathered, bounded, and given up when nothing moves. An answer is queued in one
piece, and leaves as credit allows; but maps are made piece by piece, each in a turn of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from pico_twisted.core.access.revocations import BadRevocations
from pico_twisted.core.gossip.sync import SyncError
from pico_twisted.core.links.operations import BadOperation
from pico_twisted.core.links.sync_frames import (
    MAX_ANSWER_BYTES,
    MAX_REQUEST_PAYLOAD_BYTES,
    SyncFormatError,
    decode_dial,
    decode_maps,
    decode_operate,
    decode_revoked,
    is_dial,
    is_operate,
    is_revoked,
)
from pico_twisted.core.rpc.call import Call
from pico_twisted.core.rpc.capabilities import MAPS_SINCE
from pico_twisted.core.rpc.frames import CANCELLED, FAILED, PROTOCOL, REFUSED_BUSY, SYNC, TIMEOUT
from pico_twisted.core.sweep import Sweep
from pico_twisted.net.tunnel.interfaces import ICallee, ICallReceiver, ITunnel

log = Logger()

FETCH_IDLE_S: Final = 10.0
"""Most seconds without a byte of an answer, before its question is given up."""


class FetchFailed(Exception):
    """There is no answer to a sync call. The text says why."""


@implementer(ICallReceiver)
class Fetch:
    """Asks the question, and gathers the answer.

    Args:
        link: to the node that is asked.
        request: the question, encoded.
        sweep: the coarse timer.

    Attributes:
        answer: a Deferred of the answer's bytes. It fails with `FetchFailed`. Cancelling it gives the call up.
    """

    def __init__(self, link: ICallee, request: bytes, sweep: Sweep) -> None:
        self._link = link
        self._sweep = sweep
        self._pieces: list[bytes] = []
        self._size = 0
        self._waits = True
        self.answer: Deferred[bytes] = Deferred(lambda _: self._give_up(CANCELLED, "it was cancelled"))
        self.deadline = sweep.now + FETCH_IDLE_S
        self._call: Call = link.call(SYNC, request, False, self)
        sweep.add(self)

    def frame(self, payload: bytes, more: bool) -> None:
        """A piece of the answer (ICallReceiver)."""
        if not self._waits:
            return
        self.deadline = self._sweep.now + FETCH_IDLE_S
        self._size += len(payload)
        if self._size > MAX_ANSWER_BYTES:
            self._give_up(FAILED, "the answer is too large")
            return
        self._pieces.append(payload)
        self._link.consumed(self._call, len(payload))
        if not more:
            self._end()
            self.answer.callback(b"".join(self._pieces))

    def reset(self, code: str, text: str) -> None:
        """The node gives no answer."""
        self._fail(f"the node gave up: {code} {text}".rstrip())

    def lost(self) -> None:
        """The link is gone, or could not be opened."""
        self._fail("the link failed")

    def drained(self) -> None:
        """The question is queued whole."""

    def deadline_passed(self, now: float) -> None:
        """Nothing moved for too long (called by the sweep)."""
        self._give_up(TIMEOUT, f"no byte for {FETCH_IDLE_S:.0f} s")

    def _give_up(self, code: str, why: str) -> None:
        self._link.reset(self._call, code)
        self._fail(why)

    def _fail(self, why: str) -> None:
        if self._waits:
            self._end()
            self.answer.errback(FetchFailed(why))

    def _end(self) -> None:
        self._waits = False
        self._sweep.discard(self)


@attrs.frozen(kw_only=True)
class Answers:
    """What answers the questions of other nodes.

    Attributes:
        maps: called with the other node's ID, its question for the maps, and whether it takes parts of them; gives the
            pieces of the answer, or raises `SyncError` when the question is none.
        dial_back: called with the other node's ID and the address at which it wants to be dialled; gives a Deferred of
            the answer, of None when that is too much now.
        revoked: called with the other node's ID and revocations; gives the answer, or raises `BadRevocations` when they
            are none.
        operate: called with the other node's ID and what an operator asks for; gives a Deferred of the answer, or
            raises `BadOperation` when that is nothing.
        later: calls something in the next turn of the reactor.
    """

    maps: Callable[[str, bytes, bool], Iterator[bytes]]
    dial_back: Callable[[str, str], Deferred[bytes | None]]
    revoked: Callable[[str, bytes], bytes]
    operate: Callable[[str, bytes], Deferred[bytes]]
    later: Callable[[Callable[[], None]], object]


@implementer(ICallReceiver)
class SyncRequest:
    """Takes a question of another node, and answers it.

    Args:
        tunnel: the link that the call is on.
        call: the call.
        answers: to questions.
    """

    def __init__(self, tunnel: ITunnel, call: Call, answers: Answers) -> None:
        self._tunnel = tunnel
        self._call = call
        self._answers = answers
        self._wanted = True
        self._pieces: list[bytes] = []
        self._size = 0
        self._maps: Iterator[bytes] = iter(())
        self._makes_next = False

    def frame(self, payload: bytes, more: bool) -> None:
        """A piece of the question (ICallReceiver)."""
        self._size += len(payload)
        if self._size > MAX_REQUEST_PAYLOAD_BYTES:
            self._tunnel.reset(self._call, PROTOCOL, "a question that is too long")
            return
        self._pieces.append(payload)
        self._tunnel.consumed(self._call, len(payload))
        if more:
            return
        pieces, self._pieces = self._pieces, []
        payload = b"".join(pieces)
        node_id = self._tunnel.node_id
        assert node_id is not None
        try:
            if is_dial(payload):
                self._answers.dial_back(node_id, decode_dial(payload)).addCallback(self._dialled)
            elif is_revoked(payload):
                self._answer(self._answers.revoked(node_id, decode_revoked(payload)))
            elif is_operate(payload):
                self._answers.operate(node_id, decode_operate(payload)).addCallbacks(self._answer, self._broken)
            else:
                takes_parts = MAPS_SINCE in self._tunnel.capabilities
                self._maps = self._answers.maps(node_id, decode_maps(payload), takes_parts)
                self.drained()
        except (SyncFormatError, SyncError, BadRevocations, BadOperation) as error:
            self._tunnel.reset(self._call, PROTOCOL, str(error))

    def _dialled(self, answer: bytes | None) -> None:
        if answer is not None:
            self._answer(answer)
        elif self._wanted:
            self._tunnel.reset(self._call, REFUSED_BUSY, "too many nodes are dialled back")

    def _broken(self, failure: Failure) -> None:
        log.failure("What an operator asked for at another node went wrong here", failure)
        if self._wanted:
            self._tunnel.reset(self._call, FAILED, "internal error")

    def _answer(self, answer: bytes) -> None:
        if self._wanted:
            self._tunnel.send(self._call, answer, False)

    def reset(self, code: str, text: str) -> None:
        """The other node wants no answer any more."""
        self._wanted = False
        self._pieces.clear()

    def lost(self) -> None:
        """The link is gone."""
        self._wanted = False
        self._pieces.clear()

    def drained(self) -> None:
        """There is room for more of the maps: the next piece is made in another turn."""
        if not self._makes_next:
            self._makes_next = True
            self._answers.later(self._make_next)

    def _make_next(self) -> None:
        self._makes_next = False
        if not self._wanted:
            return
        piece = next(self._maps, None)
        if piece is None:
            self._wanted = False
            self._tunnel.send(self._call, b"", False)
            return
        self._tunnel.send(self._call, piece, True)
        if not self._call.pausing:
            self.drained()
