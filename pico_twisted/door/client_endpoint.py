"""`pico:` as a client endpoint of Twisted: connects to a TCP endpoint through the proxy port of a node.

The session is opened as `picoctl forward` opens it. The protocol of the program and what `forward` has for a local
connection are then joined in memory: so the protocol gets a transport with all that TCP's have, and a session that was
cut looks cut to it (`ConnectionLost`).
"""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from pico_twisted import __version__
from pico_twisted.core.forward_proxy import ForwardProxies
from pico_twisted.ctl.forward.plan import DEFAULT_PATIENCE_S, DEFAULT_TIMEOUT_S
from pico_twisted.ctl.forward.token import CurrentToken
from pico_twisted.door.settings import EndpointSettings, connect_config
from pico_twisted.net.agent.serving.in_process import PicoAddress
from pico_twisted.net.forward.dialler import Dialler, DialSettings
from pico_twisted.net.forward.failures import DialFailed
from pico_twisted.net.forward.places import place_of
from pico_twisted.net.forward.relay import Relay
from pico_twisted.net.forward.session import TcpSession
from pico_twisted.net.socket.dialling import tell_of_proxies
from pico_twisted.net.socket.memory import Turns, connect_in_memory
from pico_twisted.net.sweep import ReactorSweep
from pico_twisted.net.tunnel.websocket_pipe import lay_mask

log = Logger()

HERE = PicoAddress("this process")
"""The address of a program's end of a session."""


class CannotConnect(ConnectError):
    """A TCP endpoint cannot be reached. Its text says why, for people."""

    def __init__(self, endpoint: str, reason: str) -> None:
        super().__init__(string=reason)  # type: ignore[no-untyped-call]  # Twisted gives it no types
        self.endpoint = endpoint
        self.reason = reason

    def __str__(self) -> str:
        return f"endpoint {self.endpoint} cannot be reached: {self.reason}"


class _Opened:
    """The owner of the relay of one session, which is open already (RelayOwner).

    Args:
        session: that is open.
        endpoint: that it is to.
        factory: of the program's protocol, told of the end.
    """

    def __init__(self, session: TcpSession, endpoint: PicoClientEndpoint, factory: IProtocolFactory) -> None:
        self._session = session
        self._endpoint = endpoint
        self._factory = factory

    def dial(self) -> Deferred[TcpSession]:
        """See `RelayOwner.dial`."""
        return succeed(self._session)

    def begun(self, relay: Relay) -> None:
        """See `RelayOwner.begun`."""

    def refused(self, relay: Relay, failed: DialFailed) -> None:
        """See `RelayOwner.refused`: it was not."""

    def cut(self, relay: Relay, reason: str) -> None:
        """See `RelayOwner.cut`."""
        log.info("A connection to endpoint {endpoint} was cut: {reason}", endpoint=self._endpoint.name, reason=reason)

    def over(self, relay: Relay) -> None:
        """See `RelayOwner.over`."""
        self._endpoint.ended(self)
        self._factory.doStop()


@implementer(IStreamClientEndpoint)
class PicoClientEndpoint:
    """A TCP endpoint of Pico that a program connects to.

    Args:
        reactor: of the program.
        settings: which endpoint, and which proxy ports.

    Attributes:
        name: the endpoint ID.
        config: how its proxy ports are reached.

    Raises:
        ValueError: something is wrong with the settings.
    """

    def __init__(self, reactor: Any, settings: EndpointSettings) -> None:  # Any: a whole reactor
        self.name = settings.endpoint
        self.config = connect = connect_config(settings)
        self._users: set[object] = set()  # attempts and sessions, for which the coarse timer runs
        self._sweep = ReactorSweep(reactor)
        self._turns = Turns(reactor)
        shown = CurrentToken(connect.token, connect.token_file, lambda words: log.warn("{words}", words=words))
        dials = DialSettings(
            token=shown,
            agent=f"pico/{__version__}",
            timeout_s=DEFAULT_TIMEOUT_S,
            patience_s=DEFAULT_PATIENCE_S,
            lay_mask=lay_mask,
        )
        proxies = ForwardProxies("", os.environ)
        tell_of_proxies(proxies, connect.url)
        places = [
            place_of(reactor, url, ca=connect.tls.root_cas, proxy=proxies.for_url(url), agent=dials.agent)
            for url in connect.url
        ]
        self._dialler = Dialler(reactor, self._sweep, places, dials)

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect a protocol to the service of the endpoint.

        Args:
            protocolFactory: makes the protocol.

        Returns:
            A Deferred that fires with it once the service was reached. It fails with `ConnectError`, whose text says
            why; while no node or agent is there it tries again for ten seconds.
        """
        protocolFactory.doStart()
        attempt = object()
        self._begun(attempt)
        connecting: Deferred[Any] = self._dialler.dial(self.name)  # of a session, and then of what the factory makes
        connecting.addCallbacks(self._opened, self._failed, callbackArgs=(protocolFactory,))

        def done(result: Any) -> Any:  # handed on
            self.ended(attempt)
            if isinstance(result, Failure):
                protocolFactory.doStop()
            return result

        return connecting.addBoth(done)

    def _opened(self, session: TcpSession, factory: IProtocolFactory) -> IProtocol:
        there = PicoAddress(self.name)
        try:
            protocol = factory.buildProtocol(there)
        except Exception:
            session.cut("the program failed to take the connection")
            raise
        if protocol is None:
            session.cut("the program takes no connection")
            raise CannotConnect(self.name, "the factory made no protocol")
        opened = _Opened(session, self, factory)
        self._begun(opened)
        connect_in_memory(self._turns, protocol, Relay(opened), client_address=HERE, server_address=there)
        return protocol

    def _failed(self, failure: Failure) -> Failure:
        failure.trap(DialFailed)
        return Failure(CannotConnect(self.name, str(failure.value)))

    def _begun(self, user: object) -> None:
        self._users.add(user)
        self._sweep.start()

    def ended(self, user: object) -> None:
        """An attempt or a session is over. Idempotent."""
        self._users.discard(user)
        if not self._users:
            self._sweep.stop()
