"""An endpoint that this process registers: an agent within a program, which has a reactor, a log and an end of its own.

What is needed. A program starts, and wants to hear once whether its endpoint is there. From then on the agent keeps it
there, as `pico-agent` does: it dials again, moves, shows a token that was renewed. The program's end drains it.

What can go wrong. The node is away when the program starts: that passes, so the agent goes on trying, and says so in
the log. Or the node refuses: a token that does not count, an endpoint that somebody keeps for himself, an address that
is none of a node's. That does not pass by itself, and the program should not believe that it serves. So the first
refusal ends the registration in words, until it has succeeded once.
"""

from __future__ import annotations

import enum
import os
import random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.logger import Logger

from pico_twisted import __version__
from pico_twisted.app.process.agent_credentials import AgentCredentials, warn_of_plain_tokens
from pico_twisted.app.process.watching import FileWatch
from pico_twisted.config import AgentConfig
from pico_twisted.core.forward_proxy import ForwardProxies
from pico_twisted.net.agent.dial_failures import FailedAttempt
from pico_twisted.net.agent.reached import reached_at
from pico_twisted.net.agent.service import AgentService
from pico_twisted.net.agent.serving.local_service import Program
from pico_twisted.net.observe.metrics import Metrics
from pico_twisted.net.socket.dialling import tell_of_proxies
from pico_twisted.net.socket.end_of_turn import EndOfTurn
from pico_twisted.net.sweep import ReactorSweep

log = Logger()


class CannotRegister(CannotListenError):
    """An endpoint cannot be registered.

    Args:
        endpoint: its ID.
        reason: why, in words.
    """

    def __init__(self, endpoint: str, reason: str) -> None:
        super().__init__("pico", endpoint, reason)  # type: ignore[no-untyped-call]  # Twisted gives it no types
        self.endpoint = endpoint
        self.reason = reason

    def __str__(self) -> str:
        return f"endpoint {self.endpoint} cannot be registered: {self.reason}"


class _Life(enum.Enum):
    """How far a registration is. Each state leads to the later ones only."""

    NEW = enum.auto()
    TRYING = enum.auto()
    REGISTERED = enum.auto()  # it was, once; from then on nothing but the program ends it
    OVER = enum.auto()


class Registration:
    """One endpoint that this process registers.

    Args:
        reactor: a whole reactor, which runs or will run.
        config: of the agent, with one listener.
        program: serves in this process; None when a service listens at the listener's address.
    """

    def __init__(self, reactor: Any, config: AgentConfig, program: Program | None) -> None:  # Any: a whole reactor
        self.endpoint = config.listeners[0].endpoint
        self._config = config
        self._reactor = reactor
        self._at_shutdown: object = None  # the reactor's handle, while its stop is to drain us
        self._life = _Life.NEW
        self._proxies = ForwardProxies(config.connect.proxy, os.environ)
        self._agent = AgentService(
            config,
            reactor=reactor,
            sweep=ReactorSweep(reactor),
            metrics=Metrics("agent", __version__),
            rng=random.SystemRandom(),
            version=__version__,
            end_of_turn=EndOfTurn(reactor),
            program=program,
            failed=self._failed,
            proxies=self._proxies,
        )
        self._credentials = AgentCredentials(self._agent, config.connect)
        self._watch = FileWatch(reactor, self._credentials.files, self._credentials.read_again)
        self._started: Deferred[None] = Deferred(self._given_up)

    def start(self) -> Deferred[None]:
        """Register it.

        Returns:
            A Deferred that fires once a node has taken it. It fails with `CannotRegister`. Cancelling it gives up.
        """
        self._life = _Life.TRYING
        warn_of_plain_tokens(self._config.connect)
        tell_of_proxies(self._proxies, self._config.connect.url)
        if self._credentials.files():
            self._watch.start()
        self._at_shutdown = self._reactor.addSystemEventTrigger("before", "shutdown", self._reactor_stops)
        self._agent.all_registered.addCallback(self._registered)
        self._agent.startService()
        return self._started

    def stop(self) -> Deferred[None]:
        """Tell the nodes, serve what is in flight, close. Fires when all is done; idempotent. A start that still waits
        for a node fails."""
        before, self._life = self._life, _Life.OVER
        stopping = self._stop()
        if before is _Life.TRYING:
            self._started.errback(CannotRegister(self.endpoint, "it was stopped before a node took it"))
        return stopping

    def _stop(self) -> Deferred[None]:
        self._life = _Life.OVER
        handle, self._at_shutdown = self._at_shutdown, None
        if handle is not None:
            self._reactor.removeSystemEventTrigger(handle)
        self._watch.stop()
        return self._agent.stopService()

    def _reactor_stops(self) -> Deferred[None]:
        """Drain, though the program just stops its reactor."""
        self._at_shutdown = None
        return self._stop()

    def _given_up(self, _: Deferred[None]) -> None:
        self._stop()

    def _registered(self, _: None) -> None:
        if self._life is _Life.TRYING:
            self._life = _Life.REGISTERED
            log.info("Endpoint {endpoint} is registered{where}", endpoint=self.endpoint, where=self._where())
            self._started.callback(None)

    def _where(self) -> str:
        return f", and reached at {url}" if (url := self.url()) else ""

    def _failed(self, failed: FailedAttempt) -> None:
        if failed.refused and self._life is _Life.TRYING:
            self._stop()
            self._started.errback(CannotRegister(self.endpoint, failed.words.replace("connect.url", "url")))

    @property
    def registered(self) -> bool:
        """Whether a session is open for new calls."""
        return self._agent.ready

    def url(self) -> str:
        """Where clients reach the endpoint; see `reached_at`."""
        return reached_at(self._agent.sessions(), self.endpoint, self._config.listeners[0].protocol)
