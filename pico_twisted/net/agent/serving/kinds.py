"""What serves a listener, by what its service speaks: a service that keeps connections, and the calls on it."""

from __future__ import annotations

from pico_twisted.core.rpc.call import Call
from pico_twisted.net.agent.serving.exchange import Exchange
from pico_twisted.net.agent.serving.http1_service import Http1Service
from pico_twisted.net.agent.serving.local_service import LocalService, ServiceParts
from pico_twisted.net.agent.serving.per_client import PerClientService
from pico_twisted.net.agent.serving.tcp_call import TcpCall
from pico_twisted.net.agent.serving.tcp_service import TcpService
from pico_twisted.net.agent.serving.v1 import WholeExchange
from pico_twisted.net.interfaces import ITunnel


def make_service(parts: ServiceParts) -> LocalService:
    """The service of a listener."""
    if parts.config.protocol == "tcp":
        return TcpService(parts)
    return (Http1Service if parts.config.proxy_protocol == "none" else PerClientService)(parts)


def make_call(service: LocalService, tunnel: ITunnel, call: Call) -> Exchange | TcpCall | None:
    """What serves a call that came for a service; None when the service does not speak what the call brings."""
    whole = tunnel.dialect.whole_body_bytes is not None
    if isinstance(service, TcpService):
        return TcpCall(service, tunnel, call) if call.kind == service.kind and not whole else None
    assert isinstance(service, Http1Service)
    if call.kind != service.kind:
        return None
    return (WholeExchange if whole else Exchange)(service, tunnel, call)
