"""What serves a listener, by what its service speaks."""

from __future__ import annotations

from twisted.logger import Logger

from pico_twisted.config import ListenerConfig
from pico_twisted.core.http2.engine import AVAILABLE
from pico_twisted.net.agent.serving.http1_service import Http1Service
from pico_twisted.net.agent.serving.http2.service import Http2Service
from pico_twisted.net.agent.serving.local_service import LocalService, ServiceParts
from pico_twisted.net.agent.serving.per_client import PerClientService
from pico_twisted.net.agent.serving.tcp_service import TcpService

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
