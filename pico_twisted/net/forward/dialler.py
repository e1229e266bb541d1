"""Opens TCP sessions at whichever proxy port can be reached.

Nothing of a local client is sent before the service was reached. So until then every failure that may be over in a
moment is tried again, at the other ports first, and the local client only waits: a node or an agent that is restarted
goes unnoticed. An answer that is a no is believed at once.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable, Sequence
from typing import Final

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from pico_twisted.core.sweep import Sweep
from pico_twisted.core.websocket.frames import LayMask
from pico_twisted.core.websocket.opening import KEY_BYTES, Opening, Refused
from pico_twisted.net.forward.failures import Again, DialFailed, explain
from pico_twisted.net.forward.places import Place
from pico_twisted.net.forward.session import TcpSession
from pico_twisted.net.socket.dialling import DialReactor

CONNECT_S: Final = 5.0
"""Most seconds for a connection without TLS: a machine that is gone must leave time for the next one."""
FIRST_PAUSE_S: Final = 0.1
"""Most seconds before all ports are tried again; it doubles each time. Those who wait do not come back together."""
MAX_PAUSE_S: Final = 1.0
"""Most seconds of such a pause."""
AVOIDED_S: Final = 10.0
"""Seconds for which a port at which nobody was reached is tried after the others."""
_UPGRADE_REQUIRED: Final = 426


@attrs.frozen(kw_only=True)
class DialSettings:
    """How sessions are opened.

    Attributes:
        token: returns the token to show now; empty for none.
        agent: for the field `User-Agent`.
        timeout_s: for one attempt in all, up to the answer of the service's host.
        patience_s: for which failures that may be over in a moment are tried again.
        lay_mask: for connections without TLS.
    """

    token: Callable[[], str]
    agent: str
    timeout_s: float
    patience_s: float
    lay_mask: LayMask


class Dialler:
    """Opens TCP sessions.

    Args:
        reactor: connects, and tells the time.
        sweep: watches sessions.
        places: the proxy ports, one at least. Calls begin with one after the other.
        settings: see there.
    """

    def __init__(self, reactor: DialReactor, sweep: Sweep, places: Sequence[Place], settings: DialSettings) -> None:
        self._reactor = reactor
        self._sweep = sweep
        self._places = list(places)
        self._settings = settings
        self._avoided: dict[str, float] = {}  # until when, by URL
        self._next = 0

    def dial(self, endpoint_id: str) -> Deferred[TcpSession]:
        """Open a session.

        Args:
            endpoint_id: of the endpoint.

        Returns:
            A Deferred of the session, whose `user` is to be set at once. It fails with `DialFailed`; cancelling it
            gives the session up.
        """
        return Deferred.fromCoroutine(self._dial(endpoint_id))

    async def _dial(self, endpoint_id: str) -> TcpSession:
        until = self._reactor.seconds() + self._settings.patience_s
        pause_s = FIRST_PAUSE_S
        while True:
            worst: DialFailed | None = None
            for place in self._order():
                outcome = await self._tried(place, endpoint_id)
                if isinstance(outcome, TcpSession):
                    return outcome
                if outcome.again is Again.NO:
                    raise outcome
                if worst is None or worst.again is not Again.LATER:
                    worst = outcome
            assert worst is not None
            if worst.again is not Again.LATER or self._reactor.seconds() + pause_s > until:
                raise worst
            await deferLater(self._reactor, random.uniform(0.5, 1.0) * pause_s)
            pause_s = min(pause_s * 2, MAX_PAUSE_S)

    def _order(self) -> list[Place]:
        """The ports in the order in which they are tried."""
        now, first = self._reactor.seconds(), self._next
        self._next = (first + 1) % len(self._places)
        turned = self._places[first:] + self._places[:first]
        return sorted(turned, key=lambda place: self._avoided.get(place.url, now) > now)

    async def _tried(self, place: Place, endpoint_id: str) -> TcpSession | DialFailed:
        """Try one port."""
        try:
            session = await self._attempt(place, endpoint_id)
        except CancelledError:
            raise
        except Exception:
            failed = explain(Failure(), place.url)
            if not failed.status:
                self._avoided[place.url] = self._reactor.seconds() + AVOIDED_S
            return failed
        self._avoided.pop(place.url, None)
        return session

    def _attempt(self, place: Place, endpoint_id: str, *, upgrade: bool = True) -> Deferred[TcpSession]:
        settings = self._settings
        opening = Opening(
            host=place.host,
            target=place.target(endpoint_id),
            token=settings.token(),
            agent=settings.agent,
            nonce=secrets.token_bytes(KEY_BYTES) if upgrade else b"",
        )
        attempt = Deferred.fromCoroutine(self._open(place, opening))
        return attempt.addTimeout(settings.timeout_s, self._reactor)

    async def _open(self, place: Place, opening: Opening) -> TcpSession:
        session = TcpSession(opening, self._sweep, None if place.secure else self._settings.lay_mask)
        try:
            await place.connect(min(CONNECT_S, self._settings.timeout_s)).connect(_Once(session))
        except ConnectingCancelledError:
            raise CancelledError from None
        return await session.ready

    async def look(self, place: Place, endpoint_id: str) -> DialFailed | None:
        """Ask a port what a session would meet there before it reaches a service. None when nothing stands in its way.

        Args:
            place: the port.
            endpoint_id: of the endpoint. Its service hears nothing of this.
        """
        try:
            session = await self._attempt(place, endpoint_id, upgrade=False)
        except CancelledError:
            raise
        except Refused as refused:
            if refused.refusal.status == _UPGRADE_REQUIRED and refused.refusal.port:
                return None
            return explain(Failure(), place.url)
        except Exception:
            return explain(Failure(), place.url)
        session.abort()
        return DialFailed(f"{place.url} is not the proxy port of a node", Again.NO)


class _Once(Factory):
    """Gives one connection to one session.

    Args:
        session: the session.
    """

    noisy = False

    def __init__(self, session: TcpSession) -> None:
        self._session = session

    def buildProtocol(self, addr: object) -> TcpSession:
        return self._session
