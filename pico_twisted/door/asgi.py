"""An ASGI application that serves the calls of an endpoint: uvicorn reads HTTP for it, without a port and a server.

Uvicorn is the program's own choice and not required by this project. Of it are used what its servers and those of
gunicorn use: the configuration, the protocol of a connection, and the lifespan of the application.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import Any, Final

from twisted.internet.interfaces import IProtocolFactory

from pico_twisted.door.asyncio_bridge import bridge_factory

AsgiApplication = Callable[[Any, Any, Any], Awaitable[None]]  # a scope and two functions, as the ASGI specification has

SHUTDOWN_S: Final = 10.0
"""Most seconds that connections and tasks of the application may take once their calls are over."""
_LOOK_S: Final = 0.02


class AsgiServer:
    """Serves connections in memory by an application.

    Args:
        application: of ASGI 3.
        lifespan: whether the application is told that it starts and stops.

    Raises:
        RuntimeError: uvicorn is not installed, or not one that can be used.
    """

    def __init__(self, application: AsgiApplication, *, lifespan: bool) -> None:
        try:
            from uvicorn import Config
            from uvicorn.server import ServerState
        except ImportError:
            words = "to expose an ASGI application, install uvicorn: pip install 'pico_twisted[asgi]'"
            raise RuntimeError(words) from None
        # The node tells who the client is, in fields that it lets no client write.
        self._config = Config(
            application,
            lifespan="auto" if lifespan else "off",
            log_config=None,
            access_log=False,
            proxy_headers=True,
            forwarded_allow_ips="*",
            server_header=False,
        )
        self._config.load()
        self._state = ServerState()
        self._state.default_headers = self._config.encoded_headers
        self._lifespan = self._config.lifespan_class(self._config)

    async def start(self) -> IProtocolFactory:
        """Start the application.

        Returns:
            A factory of Twisted, whose connections it serves.

        Raises:
            RuntimeError: it does not start; its log says why.
        """
        await self._lifespan.startup()
        if self._lifespan.should_exit:
            raise RuntimeError("the ASGI application failed to start: its log says why")
        protocol: Any = self._config.http_protocol_class  # those of uvicorn take more than asyncio's do
        make = functools.partial(
            protocol,
            config=self._config,
            server_state=self._state,
            app_state=self._lifespan.state,
            _loop=asyncio.get_running_loop(),
        )
        return bridge_factory(make)

    async def stop(self) -> None:
        """Stop the application, once no call is left or a moment later."""
        state = self._state
        for connection in list(state.connections):
            connection.shutdown()
        loop = asyncio.get_running_loop()
        until = loop.time() + SHUTDOWN_S
        while (state.connections or state.tasks) and loop.time() < until:  # noqa: ASYNC110  # uvicorn tells nobody
            await asyncio.sleep(_LOOK_S)
        for task in list(state.tasks):
            task.cancel()
        await self._lifespan.shutdown()
