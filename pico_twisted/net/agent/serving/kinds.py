"""What serves a listener, by what its service speaks: a service that keeps connections, and the calls on it."""

from __future__ import annotations

from twisted.logger import Logger

from pico_twisted.config import ListenerConfig
from pico_twisted.core.http2.engine import AVAILABLE
from pico_twisted.core.rpc.call import Call
from pico_twisted.net.agent.serving.exchange import Exchange
from pico_twisted.net.agent.serving.http1_service import Http1Service
from pico_twisted.net.agent.serving.http2.call import Http2Call
from pico_twisted.net.agent.serving.http2.service import Http2Service
from pico_twisted.net.agent.serving.http2.v1 import WholeHttp2Call
from pico_twisted.net.agent.serving.local_service import LocalService, ServiceParts
from pico_twisted.net.agent.serving.per_client import PerClientService
from pico_twisted.net.agent.serving.tcp_call import TcpCall
from pico_twisted.net.agent.serving.tcp_service import TcpService
from pico_twisted.net.agent.serving.v1 import WholeExchange
from pico_twisted.net.interfaces import ITunnel

log = Logger()


def make_service(parts: ServiceParts) -> LocalService:
    """The service of a listener."""
    config = parts.config
    if config.addr.https and not config.tls.verify:
        log.warn(
            "The certificate of the service is not checked (tls.verify: false): whoever is on the way can read and "
            "change what goes there",
            endpoint=config.endpoint,
            service=str(config.addr),
        )
    if config.protocol == "tcp":
        return TcpService(parts)
    if config.proxy_protocol != "none":
        return PerClientService(parts)
    if _may_be_http2(config) and parts.program is None:
        return Http2Service(parts)
    return Http1Service(parts)


def _may_be_http2(config: ListenerConfig) -> bool:
    """Whether the service speaks HTTP/2, or may choose to."""
    if config.protocol == "grpc" or config.addr.scheme == "h2c":
        return True
    return config.addr.https and AVAILABLE


def make_call(service: LocalService, tunnel: ITunnel, call: Call) -> Exchange | Http2Call | TcpCall | None:
    """What serves a call that came for a service; None when the service does not speak what the call brings."""
    whole = tunnel.dialect.whole_body_bytes is not None
    if isinstance(service, TcpService):
        return TcpCall(service, tunnel, call) if call.kind == service.kind and not whole else None
    if call.kind != service.kind:
        return None
    if isinstance(service, Http2Service):
        http1 = service.http1
        if http1 is None or not service.chose_http1:
            return (WholeHttp2Call if whole else Http2Call)(service, tunnel, call)
        service = http1
    assert isinstance(service, Http1Service)
    return (WholeExchange if whole else Exchange)(service, tunnel, call)
