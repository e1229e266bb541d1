"""`pico_twisted.Tunnel`: an endpoint that a Twisted program registers, for a factory of its own or for a local port."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IProtocolFactory

from pico_twisted.door.registration import Registration
from pico_twisted.door.settings import EndpointSettings, agent_config
from pico_twisted.net.agent.serving.in_process import InProcessProgram


class Tunnel:
    """An endpoint of Pico that this program registers, and what serves it.

    Nothing is dialled before `start`. As long as a node is away the tunnel goes on trying, before it was registered for
    the first time and after; what happens is told in the log.

    Args:
        endpoint: its ID.
        target: what serves: a protocol factory of Twisted (each call is one connection to it, in memory), a port of
            this machine, or an address as `addr` of an agent's listener has it: `host:port`, a URL, `unix:/path`.
        url: of the upstream port of a node, or of several; else the environment variable `PICO_URL`, else
            `http://localhost:8002`.
        token: that the nodes want to see.
        token_file: file with the token, read again when it changes; else `PICO_TOKEN_FILE` of the environment, unless
            there is a `token`.
        ca: PEM file with the authorities to trust for the certificates of nodes; else those of the system.
        protocol: `http`, or `tcp` for connections as they are; at an address also `grpc`.
        reactor: that runs the program; else the installed one.

    Raises:
        ValueError: an argument cannot be used, and what is wrong with it.
    """

    def __init__(
        self,
        endpoint: str,
        target: IProtocolFactory | int | str,
        *,
        url: str | Sequence[str] | None = None,
        token: str | None = None,
        token_file: str | None = None,
        ca: str | None = None,
        protocol: str = "http",
        reactor: Any = None,  # a whole reactor: Twisted has no one name for that
    ) -> None:
        settings = EndpointSettings(
            endpoint=endpoint, url=url, token=token, token_file=token_file, ca=ca, protocol=protocol
        )
        self._factory: IProtocolFactory | None = None
        address: str | None = None
        if isinstance(target, int | str):
            address = str(target)
        elif IProtocolFactory.providedBy(target):
            self._factory = target
        else:
            raise ValueError(f"target: found {target!r}, expected a protocol factory, a port, or an address")
        self._config = agent_config(settings, address)
        self._reactor = reactor
        self._registration: Registration | None = None

    @property
    def endpoint(self) -> str:
        """The endpoint ID."""
        return self._config.listeners[0].endpoint

    @property
    def url(self) -> str:
        """Where clients reach the endpoint, without a slash at its end: `https://demo.tunnel.example.com` where the
        nodes know their `proxy.public_url`, `http://demo.localhost:8000` with a node on this machine. Empty before the
        tunnel is registered, and where clients have to name the endpoint in `x-pico-endpoint`."""
        return "" if self._registration is None else self._registration.url()

    @property
    def registered(self) -> bool:
        """Whether a node sends calls now."""
        return self._registration is not None and self._registration.registered

    def start(self) -> Deferred[Tunnel]:
        """Register the endpoint. To be called once.

        Returns:
            A Deferred that fires with the tunnel once a node has taken it; while no node is there it waits, and
            cancelling it gives up. It fails with `twisted.internet.error.CannotListenError` when a node refuses, whose
            text says why.
        """
        if self._registration is not None:
            raise RuntimeError("a tunnel is started once: make another one")
        reactor = self._reactor
        if reactor is None:
            from twisted.internet import reactor
        program = None
        if self._factory is not None:
            program = InProcessProgram(clock=reactor, factory=self._factory, endpoint=self.endpoint)
            self._factory.doStart()
        self._registration = Registration(reactor, self._config, program)
        return self._registration.start().addCallbacks(lambda _: self, self._failed)

    def _failed(self, failure: Any) -> Any:  # a Failure, handed on
        self._stop_factory()
        return failure

    def stop(self) -> Deferred[None]:
        """Take the endpoint from the nodes, let the calls in progress finish, and close.

        Returns:
            A Deferred that fires when all is done: within a minute, in which calls that do not end by themselves
            (WebSockets, event streams) get ten seconds. Stopping twice is stopping once.
        """
        if self._registration is None:
            return succeed(None)
        return self._registration.stop().addCallback(lambda _: self._stop_factory())

    def _stop_factory(self) -> None:
        factory, self._factory = self._factory, None
        if factory is not None:
            factory.doStop()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()
