"""The configuration of both daemons: frozen classes, one for each section of a file, checked when they are loaded."""

from __future__ import annotations

from pico_twisted.config.access import AuthConfig, JwtConfig
from pico_twisted.config.agent import (
    AgentAdminConfig,
    AgentConfig,
    AgentLimitsConfig,
    ClientTlsConfig,
    ConnectConfig,
    HeaderEditsConfig,
    ListenerConfig,
    ServiceTlsConfig,
)
from pico_twisted.config.cluster import ClusterConfig, ClusterTlsConfig, GossipConfig
from pico_twisted.config.common import LogConfig
from pico_twisted.config.endpoints import EndpointLimitsConfig
from pico_twisted.config.faults import ConfigFaults, Fault
from pico_twisted.config.health import HealthConfig
from pico_twisted.config.load import load_agent, load_node
from pico_twisted.config.node import (
    AdminConfig,
    Http2Config,
    NodeConfig,
    NodeLimitsConfig,
    ProxyConfig,
    TcpConfig,
    UpstreamConfig,
)
from pico_twisted.config.tls import CertificateConfig, ServerTlsConfig
from pico_twisted.config.values import Address, Network, ServiceAddress, in_networks

__all__ = [
    "Address",
    "AdminConfig",
    "AgentAdminConfig",
    "AgentConfig",
    "AgentLimitsConfig",
    "AuthConfig",
    "CertificateConfig",
    "ClientTlsConfig",
    "ClusterConfig",
    "ClusterTlsConfig",
    "ConfigFaults",
    "ConnectConfig",
    "EndpointLimitsConfig",
    "Fault",
    "GossipConfig",
    "HeaderEditsConfig",
    "HealthConfig",
    "Http2Config",
    "JwtConfig",
    "ListenerConfig",
    "LogConfig",
    "Network",
    "NodeConfig",
    "NodeLimitsConfig",
    "ProxyConfig",
    "ServerTlsConfig",
    "ServiceAddress",
    "ServiceTlsConfig",
    "TcpConfig",
    "UpstreamConfig",
    "in_networks",
    "load_agent",
    "load_node",
]
