"""Endpoints of Pico for programs of asyncio: `async with expose("demo", 3000, url="https://…") as tunnel`.

Everything runs on the loop of the program; no thread of ours, and no reactor that is installed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IProtocolFactory

from pico_twisted.door.asgi import AsgiApplication, AsgiServer
from pico_twisted.door.loop_reactor import LoopReactor, borrow_reactor, give_back
from pico_twisted.door.tunnel import Tunnel

__all__ = ["Exposure", "expose"]


class Exposure:
    """What `expose` returns: an endpoint that is registered from `start` to `stop`, or in an `async with`.

    Attributes:
        endpoint: its ID.
    """

    def __init__(
        self,
        endpoint: str,
        target: AsgiApplication | int | str,
        *,
        url: str | Sequence[str] | None,
        token: str | None,
        token_file: str | None,
        ca: str | None,
        lifespan: bool,
    ) -> None:
        self.endpoint = endpoint
        self._server = None if isinstance(target, int | str) else AsgiServer(target, lifespan=lifespan)
        self._target = target
        self._token = token
        self._token_file = token_file
        self._ca = ca
        self._url = url
        self._reactor: LoopReactor | None = None
        self._tunnel: Tunnel | None = None

    @property
    def url(self) -> str:
        """Where clients reach the endpoint; see `pico_twisted.Tunnel.url`."""
        return "" if self._tunnel is None else self._tunnel.url

    @property
    def registered(self) -> bool:
        """Whether a node sends calls now."""
        return self._tunnel is not None and self._tunnel.registered

    async def start(self) -> Self:
        """Register the endpoint, once. While no node is there it waits, and can be cancelled.

        Raises:
            ConnectionRefusedError: a node refuses, and why.
            RuntimeError: the application does not start.
            ValueError: an argument cannot be used, and what is wrong with it.
        """
        if self._reactor is not None:
            raise RuntimeError("an endpoint is exposed once: call expose again")
        self._reactor = borrow_reactor()
        try:
            await self._register(self._reactor)
        except CannotListenError as error:
            await self.stop()
            raise ConnectionRefusedError(str(error)) from None
        except BaseException:
            await self.stop()
            raise
        return self

    async def _register(self, reactor: LoopReactor) -> None:
        target: IProtocolFactory | int | str
        if self._server is not None:
            target = await self._server.start()
        else:
            assert isinstance(self._target, int | str)
            target = self._target
        self._tunnel = Tunnel(
            self.endpoint,
            target,
            url=self._url,
            token=self._token,
            token_file=self._token_file,
            ca=self._ca,
            reactor=reactor,
        )
        await self._tunnel.start().asFuture(asyncio.get_running_loop())

    async def stop(self) -> None:
        """Take the endpoint from the nodes, let the calls in progress finish, and stop the application. Idempotent."""
        reactor, self._reactor = self._reactor, None
        if reactor is None:
            return
        try:
            if self._tunnel is not None:
                await self._tunnel.stop().asFuture(asyncio.get_running_loop())
        finally:
            try:
                if self._server is not None:
                    await self._server.stop()
            finally:
                give_back(reactor)

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()


def expose(
    endpoint: str,
    target: AsgiApplication | int | str,
    *,
    url: str | Sequence[str] | None = None,
    token: str | None = None,
    token_file: str | None = None,
    ca: str | None = None,
    lifespan: bool = True,
) -> Exposure:
    """Make an application or a local port an endpoint of Pico. To be used in `async with`.

    Args:
        endpoint: its ID.
        target: an ASGI application, served in this process without a port (uvicorn has to be installed); or a port of
            this machine, or an address as `addr` of an agent's listener has it.
        url: of the upstream port of a node, or of several; else the environment variable `PICO_URL`, else
            `http://localhost:8002`.
        token: that the nodes want to see.
        token_file: file with the token, read again when it changes; else `PICO_TOKEN_FILE` of the environment, unless
            there is a `token`.
        ca: PEM file with the authorities to trust for the certificates of nodes; else those of the system.
        lifespan: whether the application is told when it starts and stops; not where another server does that.

    Raises:
        RuntimeError: uvicorn is not installed, and an application is to be served.
    """
    return Exposure(endpoint, target, url=url, token=token, token_file=token_file, ca=ca, lifespan=lifespan)
