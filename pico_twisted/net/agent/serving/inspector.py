"""Who looks at the calls of an agent, as those ask it who serve them."""

from __future__ import annotations

from zope.interface import Interface

from pico_twisted.config import ListenerConfig
from pico_twisted.core.rpc.call import Call
from pico_twisted.net.tunnel.interfaces import ICaller


class IReplays(Interface):
    """Serves calls that no client made, as those of a listener are."""

    def begin(caller: ICaller, call: Call, payload: bytes) -> None:
        """Serve a call.

        Args:
            caller: gets the response, before this returns or later.
            call: whose `receiver` is set.
            payload: of its one frame: a head, and the whole body.
        """

    def close() -> None:
        """Cut what goes on, and serve no more."""


class IInspector(Interface):
    """Looks at all that passes. An agent without one asks nobody."""

    def serves(config: ListenerConfig, replays: IReplays) -> None:
        """A listener has this service from now on."""

    def opened(config: ListenerConfig, tunnel: ICaller, call: Call) -> ICaller:
        """A call of a client came.

        Args:
            config: of the listener.
            tunnel: the session that the call is on.
            call: the call.

        Returns:
            What the call is served with in the tunnel's place.
        """

    def trouble(call: Call, words: str) -> None:
        """Something went wrong with a call; of several words the first ones say most."""

    def over(call: Call, status: int, error: str) -> None:
        """A call is over.

        Args:
            call: one that was opened.
            status: what it is counted with.
            error: the code of what went wrong; empty for nothing.
        """
