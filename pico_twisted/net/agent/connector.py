"""Keeps one session of a listener up: dials, waits, dials again, and sees old sessions off.

What is needed. At any time one session should take new calls. Beside it there may be older ones, which
a node asked us to replace and which still serve; they end when the node closes them. When we stop, each session is
drained and closed after its last call.

What can go wrong. A session may be lost at any moment: while we dial its replacement, while we wait, while we stop. An
attempt may succeed after we were told to stop. A connection that died without a word still counts as registered at the
node until its silence is noticed. And a replacement must not throw out the session that it relieves.

What was chosen. A machine of five states for the one thing that waits, the next session; a plain list for the sessions
that exist. Whether a lost session is followed by another depends on what we want (the machine's state), never on why it
ended: only how *soon* does (`backoff`). The slot that a session registers under is `<slot>.<number>`: a successor
of a lost session takes the same number, so that the node throws out its half-open remains; a replacement takes a number
that no living session has.

A listener may have several connectors (`spread`). Each says in its handshakes which nodes the others are on, and a node
among them may send it elsewhere, if it knows of another. That is a wish: after `MAX_SENT_ELSEWHERE` such answers it is
dropped, so that no session is missing for it. A session that *moves* keeps the wish, and stays what it is until its
successor is there; if none is to be had, nothing has happened. A connector that *insists* never drops the wish: a
session of it beside a sibling's would be of no use.

What was rejected. `ClientService`: it takes a TCP connection for success, and cannot be prepared for a loss while it
waits. A number that only rises: half-open sessions would be counted twice for as long as the node believes in them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, Protocol

import attrs
from automat import TypeMachineBuilder
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.error import ConnectError, ConnectionRefusedError, DNSLookupError
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from pico_twisted.core.agent.dial_plan import AgentRandom, Dial, DialPlan, Ended, Failed
from pico_twisted.core.protocol_limits import CLOSE_GOING_AWAY, CLOSE_NORMAL
from pico_twisted.net.agent.gate import Gate
from pico_twisted.net.observe.metrics import Metrics
from pico_twisted.net.observe.weather import TIMED_OUT, Weather, why_not_connected
from pico_twisted.net.tls.client import explain_tls
from pico_twisted.net.tunnel import (
    ELSEWHERE,
    MAX_ELSEWHERE,
    Closed,
    HandshakeRefused,
    HandshakeTimeout,
    TunnelClientProtocol,
)

log = Logger()

DRAIN_LOOK_S: Final = 0.05
"""How often a draining session is looked at for its last call: far below what anybody notices at a shutdown."""
CLOSE_S: Final = 3.0
"""How long a session that we closed may take to be gone: a close frame that waits in a transport dies with the process.
The tunnel itself cuts a peer that does not answer after two seconds."""

MAX_SENT_ELSEWHERE: Final = 8
"""How often a session lets nodes send it elsewhere: behind a load balancer that draws one of two it then misses the
other once in 256 times."""

Connect = Callable[[str, str, Sequence[str]], "Deferred[TunnelClientProtocol]"]
"""Given a URL, a slot and the IDs of nodes that may refuse us, opens a session; cancelling the Deferred gives the
attempt up."""


@attrs.define(eq=False, kw_only=True)
class Session:
    """One registration that is alive.

    Attributes:
        tunnel: the session itself.
        url: the address that it was dialled at.
        number: the second half of its slot.
        opened_at: monotonic seconds.
        handshake_s: what it took to open it.
    """

    tunnel: TunnelClientProtocol
    url: str
    number: int
    opened_at: float
    handshake_s: float


class _Life(Protocol):
    """What happens to the next session."""

    def start(self) -> None: ...
    def due(self) -> None: ...
    def opened(self, tunnel: TunnelClientProtocol) -> None: ...
    def failed(self, failure: Failure) -> None: ...
    def wanted(self, dial: Dial) -> None: ...
    def move(self) -> None: ...
    def stop(self) -> None: ...


class Connector:
    """One of a listener's connections to the cluster.

    Args:
        endpoint: the endpoint ID, for logs.
        slot: the first half of its slots.
        urls: addresses of nodes.
        connect: opens a session.
        clock: tells the time and wakes.
        rng: the source of chance.
        metrics: counts what happens.
        changed: called whenever a session came or went.
        siblings: the listener's other sessions, which this one should not share a node with.
        insists: rather no session than one that shares.
        gate: says when a dial begins; None for at once.
    """

    def __init__(
        self,
        *,
        endpoint: str,
        slot: str,
        urls: Sequence[str],
        connect: Connect,
        clock: IReactorTime,
        rng: AgentRandom,
        metrics: Metrics,
        changed: Callable[[], None],
        siblings: Callable[[], Sequence[Session]] = tuple,
        insists: bool = False,
        gate: Gate | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.sessions: list[Session] = []
        self.current: Session | None = None
        """The session that takes new calls."""
        self._slot = slot
        self._connect = connect
        self._clock = clock
        self._metrics = metrics
        self._changed = changed
        self._siblings = siblings
        self._insists = insists
        self._gate = gate
        self._sent_elsewhere = 0
        self._plan = DialPlan(urls, rng, clock.seconds())
        self._number = 0
        self._registered_before = False
        self._said_v1 = False
        self._weather = Weather()
        self._wait: IDelayedCall | None = None
        self._attempt: Deferred[TunnelClientProtocol] | None = None
        self._dialled = ""
        self._dialled_at = 0.0
        self._life: _Life = _new_life(self)

    def start(self) -> None:
        """Begin to dial."""
        self._life.start()

    def move(self) -> None:
        """Try to be on a node that no sibling is on. Does nothing unless there is a session for new calls."""
        self._life.move()

    def drain_requested(self, tunnel: object) -> None:
        """The node will close this session: open its replacement now, and let the old one serve on."""
        session = self.current
        if session is None or session.tunnel is not tunnel:
            return
        log.info("The node asks for a replacement", endpoint=self.endpoint, url=session.url)
        self.current = None
        if self._attempt is None:  # else a move is under way, and becomes the replacement
            self._take_free_number()
        self._life.wanted(self._after(session, Ended.IN_ORDER))
        self._changed()

    def _take_free_number(self) -> None:
        taken = {other.number for other in self.sessions}
        self._number = next(number for number in range(len(taken) + 1) if number not in taken)

    def drain(self) -> Deferred[None]:
        """Dial no more; drain each session and close it after its last call. Fires when all are gone."""
        self._life.stop()
        retiring = [Deferred.fromCoroutine(self._retire(one, "the agent stops")) for one in self.sessions]
        done: Deferred[Any] = gatherResults(retiring, consumeErrors=True)
        return done.addCallback(lambda _: None)

    def abort(self) -> None:
        """Dial no more and cut what is there."""
        self._life.stop()
        for session in list(self.sessions):
            session.tunnel.abort()

    async def _retire(self, session: Session, why: str) -> None:
        try:
            await session.tunnel.drain()
        except CancelledError:
            raise
        except Exception:
            log.failure("A session could not be drained", endpoint=self.endpoint)
        while session in self.sessions and session.tunnel.call_count:
            await deferLater(self._clock, DRAIN_LOOK_S)
        tunnel = session.tunnel
        if session in self.sessions:
            tunnel.close(CLOSE_GOING_AWAY, why)
        until = self._clock.seconds() + CLOSE_S
        while not tunnel.gone.called and self._clock.seconds() < until:
            await deferLater(self._clock, DRAIN_LOOK_S)

    # What the machine does

    def _wait_for(self, dial: Dial) -> None:
        self._stop_waiting()
        self._dialled = dial.url
        self._wait = self._clock.callLater(dial.delay_s, self._due)

    def _due(self) -> None:
        self._wait = None
        self._life.due()

    def _due_at(self) -> float:
        return math.inf if self._wait is None else self._wait.getTime()

    def _stop_waiting(self) -> None:
        if self._wait is not None:
            self._wait.cancel()
            self._wait = None

    def _shun(self) -> list[str]:
        return [session.url for session in self._siblings()]

    async def _open(self, leaving: Sequence[str]) -> TunnelClientProtocol:
        """Open a session, on a node that no sibling is on if the nodes know of one.

        Args:
            leaving: the node that the session leaves, when that is all that it is opened for.
        """
        slot = f"{self._slot}.{self._number}"
        keeps_wish = bool(leaving) or self._insists
        while True:
            wish: Sequence[str] = ()
            if keeps_wish or self._sent_elsewhere < MAX_SENT_ELSEWHERE:
                places = [session.tunnel.node_id for session in self._siblings()]
                wish = list(dict.fromkeys([*filter(None, places), *leaving]))[:MAX_ELSEWHERE]
            try:
                return await self._attempt_when_due(partial(self._connect_now, self._dialled, slot, wish))
            except HandshakeRefused as error:
                if error.code != ELSEWHERE or not wish:
                    raise
                self._sent_elsewhere += 1
                if keeps_wish and self._sent_elsewhere >= MAX_SENT_ELSEWHERE:
                    # There is one node behind the address, in all likelihood: one that insists dials once from now on.
                    self._sent_elsewhere = MAX_SENT_ELSEWHERE - 1
                    raise
            dial = self._plan.elsewhere(self._dialled, self._clock.seconds(), self._shun())
            await deferLater(self._clock, dial.delay_s)
            self._dialled = dial.url

    def _dial(self, leaving: Sequence[str] = ()) -> None:
        self._attempt = attempt = Deferred.fromCoroutine(self._open(leaving))
        attempt.addCallbacks(self._attempt_succeeded, self._attempt_failed)
        attempt.addErrback(lambda failure: log.failure("The connector failed", failure))

    def _attempt_when_due(self, dial: Callable[[], Deferred[TunnelClientProtocol]]) -> Deferred[TunnelClientProtocol]:
        return dial() if self._gate is None else self._gate.run(self._dialled, self._slot, dial)

    def _connect_now(self, url: str, slot: str, wish: Sequence[str]) -> Deferred[TunnelClientProtocol]:
        self._dialled_at = self._clock.seconds()
        return self._connect(url, slot, wish)

    def _attempt_succeeded(self, tunnel: TunnelClientProtocol) -> None:
        self._attempt = None
        self._life.opened(tunnel)

    def _attempt_failed(self, failure: Failure) -> None:
        self._attempt = None
        self._life.failed(failure)

    def _stop_dialling(self) -> None:
        if self._attempt is not None:
            self._attempt.cancel()

    def _begin_move(self) -> None:
        session = self.current
        assert session is not None and session.tunnel.node_id is not None
        self._sent_elsewhere = 0
        self._take_free_number()
        self._dialled = self._plan.elsewhere(session.url, self._clock.seconds(), self._shun()).url
        self._dial([session.tunnel.node_id])

    def _moved(self, tunnel: TunnelClientProtocol) -> None:
        old = self.current
        assert old is not None
        self._register(tunnel)
        retiring = Deferred.fromCoroutine(self._retire(old, "moved to another node"))
        retiring.addErrback(lambda failure: log.failure("The connector failed", failure))

    def _not_moved(self, failure: Failure) -> None:
        assert self.current is not None
        self._number = self.current.number
        log.debug("Could not move: {reason}", endpoint=self.endpoint, url=self._dialled, reason=judge(failure)[2])

    def _register(self, tunnel: TunnelClientProtocol) -> None:
        now = self._clock.seconds()
        session = Session(
            tunnel=tunnel,
            url=self._dialled,
            number=self._number,
            opened_at=now,
            handshake_s=now - self._dialled_at,
        )
        self.sessions.append(session)
        self.current = session
        self._sent_elsewhere = 0
        again, self._registered_before = self._registered_before, True
        self._metrics.connected(again)
        self._weather.cleared()
        log.info(
            "Registered",
            endpoint=self.endpoint,
            url=session.url,
            node=tunnel.node_id,
            slot=f"{self._slot}.{session.number}",
            again=again,
        )
        if tunnel.version == 1 and not self._said_v1:
            self._said_v1 = True
            log.warn("The node speaks only version 1 of the protocol: bodies are buffered", endpoint=self.endpoint)
        tunnel.closed.addCallback(self._session_ended, session)
        tunnel.closed.addErrback(lambda failure: log.failure("The connector failed", failure))
        self._changed()

    def _session_ended(self, closed: Closed, session: Session) -> Closed:
        self.sessions.remove(session)
        in_order = closed.clean and not closed.by_us and closed.code in (CLOSE_NORMAL, CLOSE_GOING_AWAY)
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
            self._life.wanted(self._after(session, Ended.IN_ORDER if in_order else Ended.BROKEN))
        self._changed()
        return closed

    def _after(self, session: Session, ended: Ended) -> Dial:
        now = self._clock.seconds()
        return self._plan.after_session(session.url, ended, now - session.opened_at, now, self._shun())

    def _after_failure(self, failure: Failure) -> Dial:
        now = self._clock.seconds()
        failed, reason, words = judge(failure)
        if isinstance(failure.value, HandshakeRefused):
            self._metrics.refused(failure.value.status)
        else:
            self._metrics.connect_failed(reason)
        dial = self._plan.after_failure(self._dialled, failed, now, self._shun())
        if failed is Failed.SENT_ELSEWHERE:
            log.info(
                "The cluster has other nodes, but none of them is reached",
                endpoint=self.endpoint,
                url=self._dialled,
                retry_s=round(dial.delay_s, 1),
            )
            return dial
        unsaid = self._weather.news(f"{self._dialled} {words}", now)
        if unsaid is not None:
            log.warn(
                "Could not register: {reason}",
                endpoint=self.endpoint,
                url=self._dialled,
                reason=words,
                retry_s=round(dial.delay_s, 1),
                unsaid=unsaid,
            )
        return dial


def judge(failure: Failure) -> tuple[Failed, str, str]:
    """Say what a failed attempt means.

    Returns:
        Its kind for the back-off, its label for the metrics, and words for people.
    """
    error = failure.value
    if isinstance(error, HandshakeRefused):
        if error.code == ELSEWHERE:
            failed = Failed.SENT_ELSEWHERE
        else:
            failed = Failed.TURNED_AWAY if 400 <= error.status < 500 else Failed.OTHER
        return failed, "refused", f"the node refused ({error.status}): {error.message}"
    words = why_not_connected(failure)
    if isinstance(error, ConnectionRefusedError):
        return Failed.CLOSED_PORT, "connect", words
    if isinstance(error, DNSLookupError):
        label = "dns"
    elif isinstance(error, (HandshakeTimeout, *TIMED_OUT)):
        label = "timeout"
    elif explain_tls(failure) is not None:
        label = "tls"
    elif isinstance(error, ConnectError):
        label = "connect"
    else:
        label = "handshake"
    return Failed.OTHER, label, words


def _build_life() -> Callable[[Connector], _Life]:
    builder = TypeMachineBuilder(_Life, Connector)
    new = builder.state("new")
    waiting = builder.state("waiting")
    dialling = builder.state("dialling")
    registered = builder.state("registered")
    moving = builder.state("moving")
    stopped = builder.state("stopped")

    @new.upon(_Life.start).to(waiting)
    def begin(life: _Life, work: Connector) -> None:
        work._wait_for(work._plan.first(work._clock.seconds(), work._shun()))

    @waiting.upon(_Life.due).to(dialling)
    def dial(life: _Life, work: Connector) -> None:
        work._dial()

    @dialling.upon(_Life.opened).to(registered)
    def register(life: _Life, work: Connector, tunnel: TunnelClientProtocol) -> None:
        work._register(tunnel)

    @dialling.upon(_Life.failed).to(waiting)
    def try_again(life: _Life, work: Connector, failure: Failure) -> None:
        work._wait_for(work._after_failure(failure))

    @registered.upon(_Life.wanted).to(waiting)
    def succeed_it(life: _Life, work: Connector, dial: Dial) -> None:
        work._wait_for(dial)

    @waiting.upon(_Life.wanted).loop()
    def hurry(life: _Life, work: Connector, dial: Dial) -> None:
        if work._clock.seconds() + dial.delay_s < work._due_at():
            work._wait_for(dial)

    dialling.upon(_Life.wanted).loop().returns(None)

    _build_moves(registered, moving, dialling, stopped)
    for state in (new, waiting, dialling, moving, stopped):
        state.upon(_Life.move).loop().returns(None)

    @new.upon(_Life.stop).to(stopped)
    def never_began(life: _Life, work: Connector) -> None:
        """Nothing to give up."""

    @waiting.upon(_Life.stop).to(stopped)
    def stop_waiting(life: _Life, work: Connector) -> None:
        work._stop_waiting()

    @dialling.upon(_Life.stop).to(stopped)
    def stop_dialling(life: _Life, work: Connector) -> None:
        work._stop_dialling()

    @registered.upon(_Life.stop).to(stopped)
    def stop_registered(life: _Life, work: Connector) -> None:
        """What is done with the sessions is said by `drain` and `abort`."""

    @stopped.upon(_Life.opened).loop()
    def give_back(life: _Life, work: Connector, tunnel: TunnelClientProtocol) -> None:
        tunnel.close(CLOSE_GOING_AWAY, "the agent stops")

    stopped.upon(_Life.failed).loop().returns(None)
    stopped.upon(_Life.wanted).loop().returns(None)
    stopped.upon(_Life.stop).loop().returns(None)
    return builder.build()


def _build_moves(registered: Any, moving: Any, dialling: Any, stopped: Any) -> None:
    """The part of the machine that moves a session while it serves."""

    @registered.upon(_Life.move).to(moving)
    def begin_move(life: _Life, work: Connector) -> None:
        work._begin_move()

    @moving.upon(_Life.opened).to(registered)
    def moved(life: _Life, work: Connector, tunnel: TunnelClientProtocol) -> None:
        work._moved(tunnel)

    @moving.upon(_Life.failed).to(registered)
    def not_moved(life: _Life, work: Connector, failure: Failure) -> None:
        work._not_moved(failure)

    @moving.upon(_Life.wanted).to(dialling)
    def replace_by_move(life: _Life, work: Connector, dial: Dial) -> None:
        """The attempt that is under way is the next session's."""

    @moving.upon(_Life.stop).to(stopped)
    def stop_moving(life: _Life, work: Connector) -> None:
        work._stop_dialling()


_new_life = _build_life()
