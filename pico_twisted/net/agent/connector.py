"""Keeps one session of a listener up: dials, waits, dials again, and sees old sessions off.

What is needed. At any time one session should take new calls. Beside it there may be older ones, which
a node asked us to replace and which still serve; they end when the node closes them. When we stop, each session is
drained and closed after its last call.

What can go wrong. A session may be lost at any moment: while we dial its replacement, while we wait, while we stop. An
attempt may succeed after we were told to stop. A connection that died without a word still counts as registered at the
node until its silence is noticed. And a replacement must not throw out the session that it relieves.

What was chosen. A machine for the one thing that waits, the next session (`core.agent.life`), and a plain list for the
sessions that exist; this file does what the machine says. Whether a lost session is followed by another depends on what
we want (the machine's state), never on why it ended: only how *soon* does. The slot that a session registers under is
`<slot>.<number>`: a successor of a lost session takes the same number, so that the node throws out its half-open
remains; a replacement takes a number that no living session has.

A listener may have several connectors (`listener_connections`). Each says in its handshakes which nodes the others are
on, and a node among them may send it elsewhere, if it knows of another.

What was rejected. `ClientService`: it takes a TCP connection for success, and cannot be prepared for a loss while it
waits. A number that only rises: half-open sessions would be counted twice for as long as the node believes in them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import attrs
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from pico_twisted.core.agent.dial_plan import AgentRandom, DialPlan, Ended, Failed
from pico_twisted.core.agent.life import Command, Last, NextSession, new_life
from pico_twisted.core.protocol_limits import CLOSE_GOING_AWAY, CLOSES_IN_ORDER, REPLACED
from pico_twisted.core.public_url import endpoint_url
from pico_twisted.net.agent.active_connection import ActiveConnection
from pico_twisted.net.agent.dial_failures import REFUSALS, FailedAttempt, explain_failure
from pico_twisted.net.agent.dial_throttle import DialThrottle
from pico_twisted.net.observe.metrics import Metrics
from pico_twisted.net.observe.repeated_warning import RepeatedWarning
from pico_twisted.net.tunnel import (
    ELSEWHERE,
    MAX_ELSEWHERE,
    Closed,
    HandshakeRefused,
    TunnelClientProtocol,
)

log = Logger()

DRAIN_LOOK_S: Final = 0.05
"""Seconds between two looks for the last call of a draining session: far below what anybody notices at a shutdown."""
V1_IDLE_S: Final = 2.0
"""Seconds for which a session of version 1 waits for a moment with nothing in flight. Its node cannot be told to call
no more: calls that come later are refused, and so lost."""
CLOSE_S: Final = 3.0
"""Seconds that a session that we closed may take to be gone: a close frame that waits in a transport dies with the
process. The tunnel itself cuts a peer that does not answer after two seconds."""

Connect = Callable[[str, str, Sequence[str]], "Deferred[TunnelClientProtocol]"]
"""Given a URL, a slot and the IDs of nodes that may refuse us, opens a session; cancelling the Deferred gives the
attempt up."""


@attrs.frozen(kw_only=True)
class DialParts:
    """What all connectors of a process share.

    Attributes:
        urls: addresses of nodes.
        clock: tells the time and wakes.
        rng: the source of chance.
        metrics: counts what happens.
        throttle: says when a dial begins; None for at once.
        failed: called for each attempt that came to nothing, while there is no session.
    """

    urls: Sequence[str]
    clock: IReactorTime
    rng: AgentRandom
    metrics: Metrics
    throttle: DialThrottle[TunnelClientProtocol] | None = None
    failed: Callable[[FailedAttempt], None] | None = None


class _Cancellable(Protocol):
    def cancel(self) -> object: ...


class Connector:
    """One of a listener's connections to the cluster.

    Args:
        parts: what it shares with others.
        endpoint: the endpoint ID, for logs.
        slot: the first half of its slots.
        connect: opens a session.
        changed: called whenever a session came or went.
        siblings: the listener's other sessions, which this one should not share a node with.
        insists: rather no session than one that shares.

    Attributes:
        sessions: all that are alive.
        current: the one that takes new calls.
    """

    def __init__(
        self,
        parts: DialParts,
        *,
        endpoint: str,
        slot: str,
        connect: Connect,
        changed: Callable[[], None],
        siblings: Callable[[], Sequence[ActiveConnection]] = tuple,
        insists: bool = False,
    ) -> None:
        self.endpoint = endpoint
        self.sessions: list[ActiveConnection] = []
        self.current: ActiveConnection | None = None
        self._slot = slot
        self._connect = connect
        self._clock = parts.clock
        self._metrics = parts.metrics
        self._throttle = parts.throttle
        self._tell_failed = parts.failed
        self._changed = changed
        self._siblings = siblings
        self._next = NextSession(DialPlan(parts.urls, parts.rng, parts.clock.seconds()), insists=insists)
        self._life = new_life(self._next)
        self._number = 0  # of the session that took new calls last
        self._pending: _Cancellable | None = None  # what the machine waits for
        self._warnings = RepeatedWarning()
        self._registered_before = False
        self._said_v1 = False
        self._unwelcome = False  # we wait, since our credential was refused

    def start(self) -> None:
        """Begin to dial."""
        self._do(self._life.start(self._clock.seconds(), self._shun()))

    def move(self) -> None:
        """Try to be on a node that no sibling is on. Does nothing unless there is a session for new calls."""
        if self.current is not None:
            self._do(self._life.move(self.current.url, self._clock.seconds(), self._shun()))

    def credential_changed(self) -> None:
        """We have another credential: dial at once, if we wait because the one before was refused."""
        if self._unwelcome:
            self._do(self._life.due())

    def drain_requested(self, tunnel: object) -> None:
        """The node will close this session: open its replacement now, and let the old one serve on."""
        session = self.current
        if session is None or session.tunnel is not tunnel:
            return
        log.info("The node asks for a replacement", endpoint=self.endpoint, url=session.url)
        self.current = None
        self._follow(session, Ended.IN_ORDER)
        self._changed()

    def resign(self) -> None:
        """Dial no more, and ask the nodes for calls that nobody else can serve, and no others."""
        self._do(self._life.stop())
        for session in self.sessions:
            session.tunnel.resign()

    def drain(self) -> Deferred[None]:
        """Dial no more; drain each session and close it after its last call. Fires when all are gone."""
        self._do(self._life.stop())
        retiring = [Deferred.fromCoroutine(self._retire(one, "the agent stops")) for one in self.sessions]
        return gatherResults(retiring, consumeErrors=True).addCallback(lambda _: None)

    def abort(self) -> None:
        """Dial no more and cut what is there."""
        self._do(self._life.stop())
        for session in list(self.sessions):
            session.tunnel.abort()

    async def _retire(self, session: ActiveConnection, why: str) -> None:
        if session.tunnel.version == 1:
            await self._idle(session, self._clock.seconds() + V1_IDLE_S)
        try:
            await session.tunnel.drain()
        except CancelledError:
            raise
        except Exception:
            log.failure("A session could not be drained", endpoint=self.endpoint)
        await self._idle(session)
        tunnel = session.tunnel
        if session in self.sessions:
            tunnel.close(CLOSE_GOING_AWAY, why)
        until = self._clock.seconds() + CLOSE_S
        while not tunnel.gone.called and self._clock.seconds() < until:
            await deferLater(self._clock, DRAIN_LOOK_S)

    async def _idle(self, session: ActiveConnection, until: float = math.inf) -> None:
        """Wait for a moment in which nothing is in flight on a session, or for its end."""
        while session in self.sessions and session.tunnel.call_count and self._clock.seconds() < until:
            await deferLater(self._clock, DRAIN_LOOK_S)

    # What the machine says

    def _do(self, command: Command) -> None:
        """Do what the machine says after an event that is not the end of an attempt."""
        if command is Command.NOTHING:
            return
        if self._pending is not None:
            self._pending.cancel()
            self._pending = None
            self._unwelcome = False
        if command is Command.WAIT:
            self._pending = self._clock.callLater(self._next.dial.delay_s, self._due)
        elif command is Command.OPEN:
            self._pending = attempt = Deferred.fromCoroutine(self._open(self.current))
            attempt.addCallbacks(self._opened, self._failed)
            attempt.addErrback(_log_fault)

    def _due(self) -> None:
        self._pending = None
        self._unwelcome = False
        self._do(self._life.due())

    def _opened(self, session: ActiveConnection) -> None:
        self._pending = None
        relieved = self.current
        command = self._life.opened()
        if command is Command.RETURN:
            session.tunnel.close(CLOSE_GOING_AWAY, "the agent stops")
            return
        self._register(session)
        if command is Command.MOVE and relieved is not None:
            Deferred.fromCoroutine(self._retire(relieved, "moved to another node")).addErrback(_log_fault)

    def _failed(self, failure: Failure) -> None:
        self._pending = None
        failed, label, words = explain_failure(failure)
        url = self._next.dial.url
        command = self._life.failed(failed, self._clock.seconds(), self._shun())
        if command is Command.STAY:
            log.debug("Could not move: {reason}", endpoint=self.endpoint, url=url, reason=words)
        elif command is Command.WAIT:
            self._unwelcome = failed is Failed.UNWELCOME
            if isinstance(failure.value, HandshakeRefused):
                self._metrics.refused(failure.value.status)
            else:
                self._metrics.connect_failed(label)
            self._warn(url, failed, words)
            self._do(command)
            if self._tell_failed is not None:
                code = getattr(failure.value, "code", "")
                self._tell_failed(
                    FailedAttempt(endpoint=self.endpoint, url=url, words=words, code=code, refused=failed in REFUSALS)
                )

    def _warn(self, url: str, failed: Failed, words: str) -> None:
        retry_s = round(self._next.dial.delay_s, 1)
        if failed is Failed.SENT_ELSEWHERE:
            log.info(
                "The cluster has other nodes, but none of them is reached",
                endpoint=self.endpoint,
                url=url,
                retry_s=retry_s,
            )
            return
        suppressed = self._warnings.due(f"{url} {words}", self._clock.seconds())
        if suppressed is not None:
            log.warn(
                "Could not register: {reason}",
                endpoint=self.endpoint,
                url=url,
                reason=words,
                retry_s=retry_s,
                suppressed=suppressed,
            )

    # An attempt

    def _shun(self) -> list[str]:
        return [session.url for session in self._siblings()]

    async def _open(self, relieved: ActiveConnection | None) -> ActiveConnection:
        """Open a session, on a node that no sibling is on if the nodes know of one.

        Args:
            relieved: the session that the new one relieves, if one still takes new calls.
        """
        following = self._next
        number = self._free_number()
        leaving = [] if relieved is None else [relieved.tunnel.node_id]
        while True:
            wish: Sequence[str] = ()
            if following.may_be_sent_elsewhere(bool(leaving)):
                places = [*(session.tunnel.node_id for session in self._siblings()), *leaving]
                wish = list(dict.fromkeys(filter(None, places)))[:MAX_ELSEWHERE]
            try:
                return await self._attempt(following.dial.url, number, wish)
            except HandshakeRefused as error:
                if error.code != ELSEWHERE or not wish:
                    raise
                if not following.sent_elsewhere(bool(leaving), self._clock.seconds(), self._shun()):
                    raise
            await deferLater(self._clock, following.dial.delay_s)

    async def _attempt(self, url: str, number: int, wish: Sequence[str]) -> ActiveConnection:
        slot = f"{self._slot}.{number}"
        began_at = 0.0

        def dial() -> Deferred[TunnelClientProtocol]:
            nonlocal began_at
            began_at = self._clock.seconds()
            return self._connect(url, slot, wish)

        tunnel = await (dial() if self._throttle is None else self._throttle.run(url, self._slot, dial))
        now = self._clock.seconds()
        return ActiveConnection(tunnel=tunnel, url=url, number=number, opened_at=now, handshake_s=now - began_at)

    def _free_number(self) -> int:
        taken = {session.number for session in self.sessions}
        return next(number for number in itertools.chain((self._number,), itertools.count()) if number not in taken)

    # Its sessions

    def _register(self, session: ActiveConnection) -> None:
        tunnel = session.tunnel
        self.sessions.append(session)
        self.current = session
        self._number = session.number
        again, self._registered_before = self._registered_before, True
        self._metrics.connected(again)
        self._warnings.cleared()
        log.info(
            "Registered",
            endpoint=self.endpoint,
            url=session.url,
            node=tunnel.node_id,
            slot=f"{self._slot}.{session.number}",
            again=again,
            reachable_at=endpoint_url(tunnel.public_url, self.endpoint, tunnel.speaks),
        )
        if tunnel.version == 1 and not self._said_v1:
            self._said_v1 = True
            log.warn("The node speaks only version 1 of the protocol: bodies are buffered", endpoint=self.endpoint)
        tunnel.closed.addCallback(self._session_ended, session)
        tunnel.closed.addErrback(_log_fault)
        self._changed()

    def _session_ended(self, closed: Closed, session: ActiveConnection) -> Closed:
        self.sessions.remove(session)
        log.info(
            "A session ended",
            endpoint=self.endpoint,
            url=session.url,
            by_us=closed.by_us,
            code=closed.code,
            reason=closed.reason,
        )
        if session is self.current:
            self.current = None
        if self.current is None:
            ended = _ended(closed)
            command = self._follow(session, ended)
            if ended is Ended.TAKEN_OVER and command is Command.WAIT:
                log.warn(
                    "Another agent has the ID {agent_id} and took {endpoint} over: give each its own agent_id",
                    agent_id=session.tunnel.agent_id,
                    endpoint=self.endpoint,
                    url=session.url,
                    other=closed.reason.removeprefix(REPLACED).removeprefix(" from "),
                    retry_s=round(self._next.dial.delay_s, 1),
                )
        self._changed()
        return closed

    def _follow(self, session: ActiveConnection, ended: Ended) -> Command:
        """No session takes new calls, since this one ended or is to be replaced."""
        now = self._clock.seconds()
        last = Last(url=session.url, ended=ended, lasted_s=now - session.opened_at)
        command = self._life.wanted(last, now, self._shun())
        self._do(command)
        return command


def _ended(closed: Closed) -> Ended:
    """Why a session needs a successor."""
    if closed.by_us or not closed.clean or closed.code not in CLOSES_IN_ORDER:
        return Ended.BROKEN
    # We live, so the newer session is no successor of ours.
    return Ended.TAKEN_OVER if closed.reason.startswith(REPLACED) else Ended.IN_ORDER


def _log_fault(failure: Failure) -> None:
    log.failure("The connector failed", failure)
