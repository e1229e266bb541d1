"""The caller of what no client asked for: of replays, and of checks of a service."""

from __future__ import annotations

from zope.interface import implementer

from pico_twisted.core.rpc.call import Call
from pico_twisted.core.rpc.capabilities import TRAILERS
from pico_twisted.core.rpc.dialect import V2
from pico_twisted.net.tunnel.interfaces import ICaller, ICallReceiver


@implementer(ICaller)
class NobodyCalls:
    """Takes all that it is given, at once, and keeps nothing (ICaller). It makes no calls to anybody else."""

    dialect = V2
    capabilities = frozenset((TRAILERS,))

    def call(self, kind: int, payload: bytes, more: bool, receiver: ICallReceiver) -> Call:
        """See `ICallee.call`. There is nobody who could be called."""
        raise AssertionError("a service calls nobody")

    def send(self, call: Call, data: bytes, more: bool) -> None:
        """See `ICallee.send`."""

    def send_trailers(self, call: Call, block: bytes) -> None:
        """See `ICallee.send_trailers`."""

    def reset(self, call: Call, code: str, text: str = "") -> None:
        """See `ICallee.reset`."""

    def consumed(self, call: Call, count: int) -> None:
        """See `ICallee.consumed`."""
