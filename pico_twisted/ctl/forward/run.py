"""Forwards until it is told to end. Starts the reactor."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.error import ReactorNotRunning
from twisted.internet.interfaces import IListeningPort
from twisted.internet.stdio import StandardIO
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from pico_twisted import __version__
from pico_twisted.core.forward_proxy import ForwardProxies
from pico_twisted.ctl.exits import NO, NO_ANSWER, OK, SaidNo, emit
from pico_twisted.ctl.forward.messages import Messages
from pico_twisted.ctl.forward.plan import ForwardPlan, LocalPair
from pico_twisted.ctl.forward.token import CurrentToken
from pico_twisted.ctl.reactor import get_reactor, raise_file_limit
from pico_twisted.net.forward.dialler import Dialler, DialSettings
from pico_twisted.net.forward.failures import DialFailed
from pico_twisted.net.forward.listening import CannotListen, Local, TcpLocal, UnixLocal, listen
from pico_twisted.net.forward.pair import MAX_CONNECTIONS, Pair
from pico_twisted.net.forward.places import Place, place_of
from pico_twisted.net.forward.stdio import StdioRelay
from pico_twisted.net.sweep import ReactorSweep
from pico_twisted.net.tunnel.websocket_pipe import lay_mask

log = Logger()

LAST_WORDS_S: Final = 0.2
"""Seconds at the end for close frames to leave."""
FILES_EACH: Final = 2
"""Open files of a local connection: itself, and the one to the node."""


class Forwarding:
    """A run of the command (Observer).

    Args:
        reactor: of this process; not running yet.
        plan: what is wanted.
    """

    def __init__(self, reactor: Any, plan: ForwardPlan) -> None:  # the reactor: what dials has no interface in Twisted
        self._reactor = reactor
        self._plan = plan
        self._messages = Messages(reactor.seconds)
        self._sweep = ReactorSweep(reactor)
        proxies = ForwardProxies("", os.environ)
        for variable in proxies.unusable:
            self._messages.say(f"{variable} names no proxy that can be used")
        agent = f"picoctl/{__version__}"
        self._places = [
            place_of(reactor, url, ca=plan.ca, cert=plan.cert, key=plan.key, proxy=proxies.for_url(url), agent=agent)
            for url in plan.urls
        ]
        settings = DialSettings(
            token=CurrentToken(plan.token, plan.token_file, self._warn),
            agent=agent,
            timeout_s=plan.timeout_s,
            patience_s=plan.patience_s,
            lay_mask=lay_mask,
        )
        self._dialler = Dialler(reactor, self._sweep, self._places, settings)
        self._pairs: list[Pair] = []
        self._ports: list[IListeningPort] = []
        self._is_stdio = plan.pairs[0].is_stdio
        self._status = OK

    def run(self) -> int:
        """Forward until the end; the exit status.

        Raises:
            SaidNo: a local address cannot be listened on.
        """
        if not self._is_stdio:
            for pair in self._plan.pairs:
                self._listen(pair)
        self._reactor.callWhenRunning(self._start)
        try:
            self._reactor.run()
        finally:
            self._messages.close()
        return self._status

    def _listen(self, wanted: LocalPair) -> None:
        pair = Pair(wanted.endpoint_id, self._dialler, self)
        local: Local = UnixLocal(wanted.path) if wanted.path else TcpLocal(wanted.host, wanted.port)
        try:
            port, found = listen(self._reactor, local, pair)
        except CannotListen as error:
            raise SaidNo(str(error)) from None
        self._pairs.append(pair)
        self._ports.append(port)
        if not self._plan.quiet:
            emit(f"{found} -> {wanted.endpoint_id} at {', '.join(self._plan.urls)}")
            if not found.is_loopback:
                self._messages.say(f"whoever reaches {found} uses what you may use")

    def _start(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: self._reactor.callFromThread(self._end))
        self._sweep.start()
        if self._is_stdio:
            pair = Pair(self._plan.pairs[0].endpoint_id, self._dialler, self)
            self._pairs.append(pair)
            StandardIO(StdioRelay(pair), reactor=self._reactor)
            return
        for place in self._places:
            Deferred.fromCoroutine(self._look(place)).addErrback(_log_fault)

    async def _look(self, place: Place) -> None:
        """Tell at the start what is wrong with a port, or that nothing is."""
        endpoint_ids = list(dict.fromkeys(pair.endpoint_id for pair in self._pairs))
        for endpoint_id in endpoint_ids:
            failed = await self._dialler.look(place, endpoint_id)
            if failed is not None:
                self._warn(f"{endpoint_id}: {failed}")
                return
        if not self._plan.quiet:
            self._messages.say(f"{place.url} answers, and lets us use {', '.join(endpoint_ids)}")

    def _end(self) -> None:
        """Ctrl-C or SIGTERM: all ends now."""
        for port in self._ports:
            port.stopListening()
        self._ports = []
        for pair in self._pairs:
            pair.reset()
        self._stop_soon()

    def _stop_soon(self) -> None:
        """End once what was written has left."""
        deferLater(self._reactor, LAST_WORDS_S, self._stop)

    def _stop(self) -> None:
        self._sweep.stop()
        with suppress(ReactorNotRunning):
            self._reactor.stop()

    def _warn(self, text: str) -> None:
        if not self._plan.quiet:
            self._messages.warn(text)

    # Observer

    def refused(self, endpoint_id: str, failed: DialFailed) -> None:
        """See `Observer.refused`."""
        if self._is_stdio:
            self._messages.say(f"{endpoint_id}: {failed}")
            self._status = NO if failed.status else NO_ANSWER
        else:
            self._warn(f"{endpoint_id}: {failed}")

    def cut(self, endpoint_id: str, reason: str) -> None:
        """See `Observer.cut`."""
        self._warn(f"{endpoint_id}: a connection was cut: {reason}")
        self._status = NO if self._is_stdio else OK

    def over(self, endpoint_id: str) -> None:
        """See `Observer.over`."""
        if self._is_stdio:
            self._stop_soon()


def _log_fault(failure: Failure) -> None:
    log.failure("A port could not be looked at", failure)


@contextmanager
def _blocking_kept() -> Iterator[None]:
    """Leave stdin and stdout as they were: whoever else has them, as a shell, does not expect them to change."""
    before = {}
    for number in (0, 1):
        with suppress(OSError):
            before[number] = os.get_blocking(number)
    try:
        yield
    finally:
        for number, blocking in before.items():
            with suppress(OSError):
                os.set_blocking(number, blocking)


def run_forward(plan: ForwardPlan) -> int:
    """Forward in this process, which has no reactor yet; the exit status.

    Raises:
        SaidNo: a local address cannot be listened on.
    """
    raise_file_limit(FILES_EACH * MAX_CONNECTIONS)
    with _blocking_kept():
        return Forwarding(get_reactor(errors=True), plan).run()
