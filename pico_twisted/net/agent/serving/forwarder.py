"""Takes the calls of one listener's sessions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from zope.interface import implementer

from pico_twisted.core.rpc.call import Call
from pico_twisted.core.rpc.frames import CLIENT_GONE, TCP, UNSUPPORTED
from pico_twisted.net.agent.own_health import OwnHealth
from pico_twisted.net.agent.serving.exchange import Exchange
from pico_twisted.net.agent.serving.http1_service import Http1Service
from pico_twisted.net.agent.serving.http2.call import Http2Call
from pico_twisted.net.agent.serving.http2.service import Http2Service
from pico_twisted.net.agent.serving.http2.v1 import WholeHttp2Call
from pico_twisted.net.agent.serving.local_service import LocalService
from pico_twisted.net.agent.serving.per_client import PerClientService
from pico_twisted.net.agent.serving.tcp_call import TcpCall
from pico_twisted.net.agent.serving.tcp_service import TcpService
from pico_twisted.net.agent.serving.v1 import WholeExchange
from pico_twisted.net.observe.tracing import AGENT
from pico_twisted.net.routing.client_routes import take_client_gone
from pico_twisted.net.tunnel.interfaces import ICallAcceptor, ICaller, ICallReceiver, ITunnel


@implementer(ICallAcceptor)
class Forwarder:
    """Hands the calls of one listener to its service.

    Args:
        service: serves those that come; may be set again, for those that come after.
        own_health: answers for the process.
        drain_requested: called with the tunnel when the node asks for a replacement.
    """

    def __init__(
        self, service: LocalService, own_health: OwnHealth, drain_requested: Callable[[ITunnel], None]
    ) -> None:
        self.service = service
        self._own_health = own_health
        self._drain_requested = drain_requested

    def call_opened(self, tunnel: ITunnel, call: Call, kind: int, payload: bytes, more: bool) -> ICallReceiver | None:
        """Serve a call; the session itself answers kinds that no agent serves. See `ICallAcceptor.call_opened`."""
        service = self.service
        if kind > TCP:
            self._told(tunnel, call, payload, more)
            return None
        inspector = service.inspector
        caller = tunnel if inspector is None else inspector.opened(service.config, tunnel, call)
        served = make_call(service, caller, call)
        if served is None:
            if inspector is not None:
                inspector.over(call, 0, UNSUPPORTED)
            tunnel.reset(call, UNSUPPORTED)
            return None
        service.metrics.call_started("service")
        call.receiver = served
        service.calls.add(served)
        tracer = service.tracer
        if tracer is not None and (joined := tracer.joined(AGENT, payload)) is not None:
            served.span, payload = joined
        served.begin(payload, more)
        return served

    def _told(self, tunnel: ITunnel, call: Call, payload: bytes, more: bool) -> None:
        """A call that is no request of a client: it tells something, or asks."""
        if call.kind == CLIENT_GONE:
            take_client_gone(tunnel, call, payload, more, self.service.client_gone)
        else:
            self._own_health.asked(tunnel, call, payload, more)

    def drain_requested(self, tunnel: ITunnel) -> None:
        """The node will close this session (ICallAcceptor)."""
        self._drain_requested(tunnel)


def make_call(service: LocalService, tunnel: ICaller, call: Call) -> Exchange | Http2Call | TcpCall | None:
    """What serves a call that came for a service; None when the service does not speak what the call brings."""
    if call.kind != service.kind:
        return None
    if type(service) is Http2Service and service.chose_http1 and service.http1 is not None:
        service = service.http1
    kinds = _CALLS[type(service)]
    make = kinds[tunnel.dialect.whole_body_bytes is not None]
    return None if make is None else make(service, tunnel, call)


_Make = Callable[[Any, ICaller, Call], Exchange | Http2Call | TcpCall]  # of a service of that kind

_CALLS: Final[Mapping[type[LocalService], tuple[_Make, _Make | None]]] = {
    Http1Service: (Exchange, WholeExchange),
    PerClientService: (Exchange, WholeExchange),
    Http2Service: (Http2Call, WholeHttp2Call),
    TcpService: (TcpCall, None),
}
"""What serves calls, by the kind of the service: those of version 2 of the protocol, and those of version 1. This is a
table, since `isinstance` of an abstract class costs four calls."""
