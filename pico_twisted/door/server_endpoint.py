"""`pico:` as a server endpoint of Twisted: what listens there has no port, and is reached through Pico's nodes."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IStreamServerEndpoint
from zope.interface import implementer

from pico_twisted.config import AgentConfig
from pico_twisted.door.registration import Registration
from pico_twisted.door.settings import EndpointSettings, agent_config
from pico_twisted.net.agent.serving.in_process import InProcessProgram, PicoAddress


@implementer(IListeningPort)
class PicoPort:
    """An endpoint that is registered, in the place of a port.

    Args:
        registration: of the endpoint, which has begun.
        factory: makes the protocol of each connection, and is told of the port's end.
    """

    def __init__(self, registration: Registration, factory: IProtocolFactory) -> None:
        self._factory: IProtocolFactory | None = factory
        self._registration = registration

    def startListening(self) -> None:
        """Do nothing: a port comes into being once its endpoint is registered."""

    def stopListening(self) -> Deferred[None]:
        """Take the endpoint from the nodes, and let the calls in progress finish. Fires when all is done."""
        stopping = self._registration.stop()
        if self._factory is not None:
            factory, self._factory = self._factory, None
            stopping.addCallback(lambda _: factory.doStop())
        return stopping

    def getHost(self) -> PicoAddress:
        return PicoAddress(self._registration.endpoint)

    @property
    def url(self) -> str:
        """Where clients reach the endpoint; see `Tunnel.url`."""
        return self._registration.url()


@implementer(IStreamServerEndpoint)
class PicoServerEndpoint:
    """An endpoint of Pico that a factory can listen at.

    Args:
        reactor: of the program.
        settings: which endpoint, and which nodes.

    Attributes:
        config: the same, as that of an agent.

    Raises:
        ValueError: something is wrong with the settings.
    """

    def __init__(self, reactor: Any, settings: EndpointSettings) -> None:  # Any: a whole reactor
        self._reactor = reactor
        self.config: AgentConfig = agent_config(settings)

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """Register the endpoint, and serve its calls: each is one connection to the factory, in memory.

        Args:
            protocolFactory: makes the protocol of each connection; of http endpoints it reads HTTP/1.1.

        Returns:
            A Deferred that fires with an `IListeningPort` once a node has taken the endpoint. While no node is there it
            waits. It fails with `CannotListenError` when a node refuses.
        """
        endpoint = self.config.listeners[0].endpoint
        program = InProcessProgram(clock=self._reactor, factory=protocolFactory, endpoint=endpoint)
        registration = Registration(self._reactor, self.config, program)
        port = PicoPort(registration, protocolFactory)
        protocolFactory.doStart()

        def failed(failure: Any) -> Any:  # a Failure, handed on
            protocolFactory.doStop()
            return failure

        result: Deferred[Any] = registration.start()  # of None, and then of the port
        return result.addCallbacks(lambda _: port, failed)
