"""The configuration of an agent."""

from __future__ import annotations

import attrs

from pico_twisted.config import kinds
from pico_twisted.config.common import LogConfig
from pico_twisted.config.fields import listing, section, setting
from pico_twisted.config.values import Address, ServiceAddress

_KIB, _MIB, _GIB = 1 << 10, 1 << 20, 1 << 30


@attrs.frozen(kw_only=True)
class ClientTlsConfig:
    """How a node's certificate is checked."""

    root_cas: str = setting(
        kinds.FILE,
        "",
        "Certificate authorities that may have signed a node's certificate, a PEM file. Empty: those of the system. "
        "Used with https and wss URLs.",
    )


@attrs.frozen(kw_only=True)
class ConnectConfig:
    """How the agent reaches a node."""

    url: tuple[str, ...] = setting(
        kinds.Many(item=kinds.NODE_URL, at_least=1),
        "http://localhost:8002",
        "URL of a node's upstream port, or a list of them, tried in random order: http, https, ws or wss.",
    )
    connections: int = setting(
        kinds.count_or_auto(most=16),
        "auto",
        "Sessions of each listener, on different nodes as far as there are that many, so that the loss of a node "
        "interrupts nothing: 1 to 16, or auto: one, and a second as soon as the cluster has more than one node.",
    )
    token: str = setting(
        kinds.SECRET,
        "",
        "Token that the agent shows to the node. Better in `connect.token_file`: a flag is seen by every user of the "
        "machine.",
    )
    token_file: str = setting(kinds.FILE, "", "File that holds the token. Read again on SIGHUP.")
    timeout: float = setting(
        kinds.duration(), "10s", "How long one attempt may take: name, connection, TLS and handshake together."
    )
    tls: ClientTlsConfig = section(ClientTlsConfig, "How a node's certificate is checked.")


@attrs.frozen(kw_only=True)
class ListenerConfig:
    """One endpoint, and the local service behind it."""

    endpoint: str = setting(
        kinds.ENDPOINT_ID,
        None,
        "ID that clients name the endpoint by. The same ID may be listed more than once, here and by other agents: "
        "requests are shared out.",
    )
    addr: ServiceAddress = setting(
        kinds.SERVICE_ADDRESS,
        None,
        "Where the service listens: a port on this machine, host:port, or an http or https URL.",
    )
    protocol: str = setting(kinds.one_of("http"), "http", "What the service speaks.")
    timeout: float = setting(kinds.duration(), "30s", "How long to wait for the first byte of the service's response.")
    rewrite_host: bool = setting(
        kinds.BOOLEAN,
        "false",
        "Whether the service gets its own address as `Host`, instead of the one that the client sent.",
    )


@attrs.frozen(kw_only=True)
class AgentAdminConfig:
    """The agent's own port for health checks and metrics."""

    bind_addr: Address | None = setting(
        kinds.BIND_ADDRESS_OR_OFF,
        "",
        "Address that serves /health and /metrics, such as 127.0.0.1:9000. Empty: none.",
    )


@attrs.frozen(kw_only=True)
class AgentLimitsConfig:
    """How much the agent takes on."""

    buffered_bytes: int = setting(
        kinds.size(least=_MIB, most=64 * _GIB),
        "256MiB",
        "Bytes held in memory for all calls together. Beyond it no stream gets a larger window, and new calls are "
        "refused. Windows above 256 KiB, for far links, share half of it.",
    )
    head_bytes: int = setting(
        kinds.size(least=_KIB, most=32 * _KIB),
        "32KiB",
        "Bytes of the head of a service's response. A longer one is a 502.",
    )
    head_fields: int = setting(
        kinds.count(least=8, most=1000), "100", "Header fields of a service's response. One more is a 502."
    )
    v1_body_bytes: int = setting(
        kinds.size(least=0, most=16 * _MIB),
        "16MiB",
        "Bytes of a response's body towards a node that speaks only version 1 of the protocol, which needs bodies "
        "whole. A longer one is a 502.",
    )


@attrs.frozen(kw_only=True)
class AgentConfig:
    """Everything that an agent is told."""

    connect: ConnectConfig = section(ConnectConfig, "How the agent reaches a node.")
    agent_id: str = setting(
        kinds.OPTIONAL_ID, "", "ID of this agent, its own in the cluster. Empty: one is made at each start."
    )
    listeners: tuple[ListenerConfig, ...] = listing(
        ListenerConfig,
        "The endpoints that this agent registers, and the service behind each. At least one, here or with --listen.",
    )
    admin: AgentAdminConfig = section(AgentAdminConfig, "The agent's own port for health checks and metrics.")
    limits: AgentLimitsConfig = section(AgentLimitsConfig, "How much the agent takes on before it refuses more.")
    log: LogConfig = section(LogConfig, "What is logged on stderr. Read again on SIGHUP.")
    grace_period: float = setting(
        kinds.duration(least_s=0.0),
        "1m",
        "How long the agent may take to end after SIGTERM while requests in progress finish; then they are cut.",
    )
