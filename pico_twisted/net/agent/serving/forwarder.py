"""Takes the calls of one listener's sessions."""

from __future__ import annotations

from collections.abc import Callable

from zope.interface import implementer

from pico_twisted.core.rpc.call import Call
from pico_twisted.core.rpc.frames import CLIENT_GONE, UNSUPPORTED
from pico_twisted.net.agent.serving.kinds import make_call
from pico_twisted.net.agent.serving.local_service import LocalService
from pico_twisted.net.interfaces import ICallAcceptor, ICallReceiver, ITunnel
from pico_twisted.net.routing.client_routes import take_client_gone


@implementer(ICallAcceptor)
class Forwarder:
    """Hands the calls of one listener to its service.

    Args:
        service: serves those that come; may be set again, for those that come after.
        drain_requested: called with the tunnel when the node asks for a replacement.
    """

    def __init__(self, service: LocalService, drain_requested: Callable[[ITunnel], None]) -> None:
        self.service = service
        self._drain_requested = drain_requested

    def call_opened(self, tunnel: ITunnel, call: Call, kind: int, payload: bytes, more: bool) -> ICallReceiver | None:
        """Serve a call; the session itself answers kinds that no agent serves. See `ICallAcceptor.call_opened`."""
        service = self.service
        if kind == CLIENT_GONE:
            take_client_gone(tunnel, call, payload, more, service.client_gone)
            return None
        served = make_call(service, tunnel, call)
        if served is None:
            tunnel.reset(call, UNSUPPORTED)
            return None
        service.metrics.call_started("service")
        call.receiver = served
        service.calls.add(served)
        served.begin(payload, more)
        return served

    def drain_requested(self, tunnel: ITunnel) -> None:
        """The node will close this session (ICallAcceptor)."""
        self._drain_requested(tunnel)
