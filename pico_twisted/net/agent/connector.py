"""Keeps one listener registered: dials, waits, dials again, and sees old sessions off.

What is needed. At any time one session of the listener should take new calls. Beside it there may be older ones, which
a node asked us to replace and which still serve; they end when the node closes them. When we stop, each session is
drained and closed after its last call.

What can go wrong. A session may be lost at any moment: while we dial its replacement, while we wait, while we stop. An
attempt may succeed after we were told to stop. A connection that died without a word still counts as registered at the
node until its silence is noticed. And a replacement must not throw out the session that it relieves.

What was chosen. A machine of five states for the one thing that waits, the next session; a plain list for the sessions
that exist. Whether a lost session is followed by another depends on what we want (the machine's state), never on why it
ended: only how *soon* does (`backoff`). The slot that a session registers under is `<listener>.<number>`: a successor
of a lost session takes the same number, so that the node throws out its half-open remains; a replacement takes a number
that no living session has.

What was rejected. `ClientService`: it takes a TCP connection for success, and cannot be prepared for a loss while it
waits. A number that only rises: half-open sessions would be counted twice for as long as the node believes in them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

import attrs
from automat import TypeMachineBuilder
from twisted.internet.defer import CancelledError, Deferred, gatherResults, maybeDeferred
from twisted.internet.error import ConnectError, ConnectionRefusedError, DNSLookupError
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from pico_twisted.net.agent.backoff import Dial, DialPlan, Ended, Failed, Random
from pico_twisted.net.agent.weather import TIMED_OUT, Weather, why_not_connected
from pico_twisted.net.metrics import Metrics
from pico_twisted.net.tls import explain_tls
from pico_twisted.net.tunnel import Closed, HandshakeRefused, HandshakeTimeout, Tunnel

log = Logger()

GOING_AWAY: Final = 1001
"""The WebSocket close code of an end in good order."""
DRAIN_LOOK_S: Final = 0.05
"""How often a draining session is looked at for its last call: far below what anybody notices at a shutdown."""
CLOSE_S: Final = 3.0
"""How long a session that we closed may take to be gone: a close frame that waits in a transport dies with the process.
The tunnel itself cuts a peer that does not answer after two seconds."""

Connect = Callable[[str, str], "Deferred[Tunnel]"]
"""Given a URL and a slot, opens a session; cancelling the Deferred gives the attempt up."""


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

    tunnel: Tunnel
    url: str
    number: int
    opened_at: float
    handshake_s: float


class _Life(Protocol):
    """What happens to the next session."""

    def start(self) -> None: ...
    def due(self) -> None: ...
    def opened(self, tunnel: Tunnel) -> None: ...
    def failed(self, failure: Failure) -> None: ...
    def wanted(self, dial: Dial) -> None: ...
    def stop(self) -> None: ...


class Connector:
    """One listener's connection to the cluster.

    Args:
        endpoint: the endpoint ID, for logs.
        index: the listener's place in the configuration; the first half of its slots.
        urls: addresses of nodes.
        connect: opens a session.
        clock: tells the time and wakes.
        rng: the source of chance.
        metrics: counts what happens.
        changed: called whenever a session came or went.
    """

    def __init__(
        self,
        *,
        endpoint: str,
        index: int,
        urls: Sequence[str],
        connect: Connect,
        clock: IReactorTime,
        rng: Random,
        metrics: Metrics,
        changed: Callable[[], None],
    ) -> None:
        self.endpoint = endpoint
        self.sessions: list[Session] = []
        self.current: Session | None = None
        """The session that takes new calls."""
        self._index = index
        self._connect = connect
        self._clock = clock
        self._metrics = metrics
        self._changed = changed
        self._plan = DialPlan(urls, rng, clock.seconds())
        self._number = 0
        self._registered_before = False
        self._said_v1 = False
        self._weather = Weather()
        self._wait: IDelayedCall | None = None
        self._attempt: Deferred[Tunnel] | None = None
        self._dialled = ""
        self._dialled_at = 0.0
        self._life: _Life = _new_life(self)

    def start(self) -> None:
        """Begin to dial."""
        self._life.start()

    def drain_requested(self, tunnel: object) -> None:
        """The node will close this session: open its replacement now, and let the old one serve on."""
        session = self.current
        if session is None or session.tunnel is not tunnel:
            return
        log.info("The node asks for a replacement", endpoint=self.endpoint, url=session.url)
        self.current = None
        taken = {other.number for other in self.sessions}
        self._number = next(number for number in range(len(taken) + 1) if number not in taken)
        self._life.wanted(self._after(session, Ended.IN_ORDER))
        self._changed()

    def drain(self) -> Deferred[None]:
        """Dial no more; drain each session and close it after its last call. Fires when all are gone."""
        self._life.stop()
        retiring = [Deferred.fromCoroutine(self._retire(one)) for one in self.sessions]
        done: Deferred[Any] = gatherResults(retiring, consumeErrors=True)
        return done.addCallback(lambda _: None)

    def abort(self) -> None:
        """Dial no more and cut what is there."""
        self._life.stop()
        for session in list(self.sessions):
            session.tunnel.abort()

    async def _retire(self, session: Session) -> None:
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
            tunnel.close(GOING_AWAY, "the agent stops")
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

    def _dial(self) -> None:
        self._dialled_at = self._clock.seconds()
        self._attempt = attempt = maybeDeferred(self._connect, self._dialled, f"{self._index}.{self._number}")
        attempt.addCallbacks(self._attempt_succeeded, self._attempt_failed)
        attempt.addErrback(lambda failure: log.failure("The connector failed", failure))

    def _attempt_succeeded(self, tunnel: Tunnel) -> None:
        self._attempt = None
        self._life.opened(tunnel)

    def _attempt_failed(self, failure: Failure) -> None:
        self._attempt = None
        self._life.failed(failure)

    def _stop_dialling(self) -> None:
        if self._attempt is not None:
            self._attempt.cancel()

    def _register(self, tunnel: Tunnel) -> None:
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
        again, self._registered_before = self._registered_before, True
        self._metrics.connected(again)
        self._weather.cleared()
        log.info(
            "Registered",
            endpoint=self.endpoint,
            url=session.url,
            node=tunnel.node_id,
            slot=f"{self._index}.{session.number}",
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
        in_order = closed.clean and not closed.by_us and closed.code in (1000, GOING_AWAY)
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
        return self._plan.after_session(session.url, ended, now - session.opened_at, now)

    def _after_failure(self, failure: Failure) -> Dial:
        now = self._clock.seconds()
        failed, reason, words = judge(failure)
        if isinstance(failure.value, HandshakeRefused):
            self._metrics.refused(failure.value.status)
        else:
            self._metrics.connect_failed(reason)
        dial = self._plan.after_failure(self._dialled, failed, now)
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
    stopped = builder.state("stopped")

    @new.upon(_Life.start).to(waiting)
    def begin(life: _Life, work: Connector) -> None:
        work._wait_for(work._plan.first(work._clock.seconds()))

    @waiting.upon(_Life.due).to(dialling)
    def dial(life: _Life, work: Connector) -> None:
        work._dial()

    @dialling.upon(_Life.opened).to(registered)
    def register(life: _Life, work: Connector, tunnel: Tunnel) -> None:
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
    def give_back(life: _Life, work: Connector, tunnel: Tunnel) -> None:
        tunnel.close(GOING_AWAY, "the agent stops")

    stopped.upon(_Life.failed).loop().returns(None)
    stopped.upon(_Life.wanted).loop().returns(None)
    stopped.upon(_Life.stop).loop().returns(None)
    return builder.build()


_new_life = _build_life()
