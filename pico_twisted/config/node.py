"""The configuration of a node."""

from __future__ import annotations

import attrs

from pico_twisted.config import kinds
from pico_twisted.config.access import AuthConfig
from pico_twisted.config.cluster import ClusterConfig
from pico_twisted.config.common import (
    MOST_HEAD_BYTES,
    LogConfig,
    admin_hosts_setting,
    drain_streams_setting,
)
from pico_twisted.config.endpoints import EndpointLimitsConfig
from pico_twisted.config.fields import listing, section, setting
from pico_twisted.config.names import HOSTS, PUBLIC_URL, HostRule
from pico_twisted.config.observing import MetricsConfig, TracingConfig
from pico_twisted.config.port_kinds import PORT_ADDRESS, PORT_ADDRESS_OR_DEFAULT, TRUSTED_PROXY, socket_mode_setting
from pico_twisted.config.tls import ServerTlsConfig
from pico_twisted.config.values import Address, TrustedProxy, default_address

_KIB, _MIB, _GIB = 1 << 10, 1 << 20, 1 << 30


@attrs.frozen(kw_only=True)
class Http2Config:
    """HTTP/2 on the proxy port."""

    enabled: bool = setting(
        kinds.BOOLEAN,
        "true",
        "Whether clients may speak HTTP/2: over TLS if they ask for it (ALPN), else if they begin with it. It needs "
        "the extra `http2`; without that they get HTTP/1.1.",
    )
    streams: int = setting(
        kinds.count(most=1000),
        "128",
        "How many requests a connection may have in progress at once. One that its client gives up counts for another "
        "second; further ones wait until there is a place.",
    )


@attrs.frozen(kw_only=True)
class TcpConfig:
    """Clients of TCP endpoints."""

    idle_timeout: float | None = setting(
        kinds.duration(or_none=True),
        "",
        "How long no byte may move either way in a TCP session before it is cut. Empty: any length of time, as pools "
        "keep connections to databases for hours; peers that are gone are found by TCP keepalive.",
    )
    origins: tuple[str, ...] = setting(
        kinds.Many(item=kinds.ORIGIN),
        "",
        "Origins of pages, such as https://app.example.com, whose scripts may open TCP sessions without a token of "
        "their own. Those of other pages are refused, as they could speak with whatever a browser reaches.",
    )


@attrs.frozen(kw_only=True)
class ProxyConfig:
    """The port of the proxy clients."""

    bind_addr: Address = setting(
        PORT_ADDRESS,
        ":8000",
        "Address that the proxy port listens on. Without a host: every interface. Port 0 takes a free port. "
        "`unix:/path`: a unix socket, for a proxy on the same machine; see `proxy.trusted_proxies`.",
    )
    socket_mode: int = socket_mode_setting()
    advertise_addr: Address | None = setting(
        kinds.ADVERTISE_ADDRESS,
        "",
        "Address at which others reach the proxy port. Empty: the bound IP, or the host's own address when bound "
        "to all interfaces.",
    )
    public_url: str = setting(
        PUBLIC_URL,
        "",
        "Where clients reach endpoints: `https://*.tunnel.example.com`. It is told to agents and shown wherever an "
        "endpoint is. Then the first label of a host name counts only in place of the `*`; without `*`, and elsewhere, "
        "`x-pico-endpoint` or `proxy.hosts` names the endpoint. Empty: the first label of every host name counts.",
        live=True,
    )
    hosts: tuple[HostRule, ...] = setting(
        HOSTS,
        "",
        'Further names of endpoints, as a mapping in a file: `shop.example.com: shop`, `"*.example.org": shop`, '
        "`shop.example.com/api: shop-api`. A `*` in an endpoint stands for what `*` in the host stands for: "
        '`"*.acme.example.com": acme-*`.',
        live=True,
    )
    timeout: float = setting(
        kinds.duration(),
        "30s",
        "How long to wait for the first byte of a response, counted from the last time the request's body made "
        "progress. The client gets a 504 one second later: within that second an agent whose listener has a `timeout` "
        "of its own can still send its own error, which says more. Calls of gRPC have deadlines of their own: they may "
        "wait for `proxy.idle_timeout`, if that is longer.",
    )
    head_timeout: float = setting(
        kinds.duration(),
        "10s",
        "How long a client may take to send the head of a request. Bytes that trickle in do not extend it.",
    )
    keepalive_timeout: float = setting(
        kinds.duration(), "5m", "How long a client's connection stays open between two requests."
    )
    idle_timeout: float = setting(
        kinds.duration(),
        "5m",
        "How long a request or response that has begun may stand still before it is given up. Upgraded connections "
        "may be silent for any length of time.",
    )
    min_body_rate: int = setting(
        kinds.size(least=0, most=_GIB),
        "240",
        "Bytes in a second that a client has to send of a request's body on average, until the response begins. What "
        "the node does not read does not count, and each request has 30 s ahead. A slower one is answered 408. 0: any "
        "rate will do.",
        live=True,
    )
    trusted_proxies: tuple[TrustedProxy, ...] = setting(
        kinds.Many(item=TRUSTED_PROXY),
        "",
        "Addresses or ranges (CIDR) of all proxies in front of this port: load balancers, and a CDN before them; "
        "`unix` for whoever connects to a unix socket. What they tell of the client in X-Forwarded-* or Forwarded is "
        "believed; what anybody else tells is dropped.",
    )
    proxy_protocol: bool = setting(
        kinds.BOOLEAN,
        "false",
        "Whether the connections of `proxy.trusted_proxies` begin with a PROXY protocol header (version 1 or 2), which "
        "tells the client's address and comes before TLS. Then each of them has to. Anybody else's is refused.",
    )
    via: bool = setting(
        kinds.BOOLEAN,
        "false",
        "Whether the node names itself in Via, in requests and in responses. Some services do not compress their "
        "responses when a request has a Via, and its value shows the ID of the node.",
    )
    error_pages: str = setting(
        kinds.FILE,
        "",
        "Directory of your own pages for errors that the node answers browsers with: `502.html` and the like, and "
        "`default.html` for the others. `$status`, `$reason`, `$code`, `$message`, `$hint`, `$endpoint`, `$request_id` "
        "and `$node` are replaced in them. Empty: a plain page.",
        live=True,
    )
    access_log: bool = setting(kinds.BOOLEAN, "true", "Whether to log one line for each request.", live=True)
    access_log_file: str = setting(
        kinds.FILE,
        "",
        "File that these lines are appended to. Opened again on SIGUSR1 and SIGHUP. Empty: they go with the log.",
    )
    http2: Http2Config = section(Http2Config, "HTTP/2 beside HTTP/1.1.")
    tls: ServerTlsConfig = section(ServerTlsConfig, "Serve HTTPS instead of HTTP to the proxy clients.")
    tcp: TcpConfig = section(TcpConfig, "Clients of TCP endpoints.")
    auth: AuthConfig = section(AuthConfig, "Which clients may send requests, and to which endpoints: rules `connect:`.")

    @property
    def listen_addr(self) -> Address:
        """Where the port listens."""
        return self.bind_addr


@attrs.frozen(kw_only=True)
class UpstreamConfig:
    """The port of the agents."""

    bind_addr: Address | None = setting(
        PORT_ADDRESS_OR_DEFAULT,
        "",
        "Address that the upstream port listens on, or `unix:/path`. Without a host: every interface. Port 0 takes a "
        "free port. Empty: `:8002` if `upstream.auth` says who may connect, otherwise `127.0.0.1:8002`.",
    )
    socket_mode: int = socket_mode_setting()
    advertise_addr: Address | None = setting(
        kinds.ADVERTISE_ADDRESS,
        "",
        "Address at which agents reach the upstream port. Empty: the bound IP, or the host's own address when "
        "bound to all interfaces.",
    )
    tls: ServerTlsConfig = section(ServerTlsConfig, "Let agents connect with wss instead of ws.")
    auth: AuthConfig = section(AuthConfig, "Which agents may connect, and with which endpoints: rules `listen:`.")

    @property
    def listen_addr(self) -> Address:
        """Where the port listens: this machine alone, unless the port authenticates or something else is configured."""
        return self.bind_addr or default_address(8002, everywhere=self.auth.enabled)


@attrs.frozen(kw_only=True)
class AdminConfig:
    """The port of the operators."""

    bind_addr: Address | None = setting(
        PORT_ADDRESS_OR_DEFAULT,
        "",
        "Address that the admin port listens on, or `unix:/path`. Empty: `:8001` if `admin.auth` says who may use it, "
        "otherwise `127.0.0.1:8001`. Without `admin.auth` it shows the node's state to anybody who can reach it: keep "
        "it off the Internet. Other nodes ask it, too.",
    )
    socket_mode: int = socket_mode_setting()
    advertise_addr: Address | None = setting(
        kinds.ADVERTISE_ADDRESS,
        "",
        "Address at which operators reach the admin port. Empty: the bound IP, or the host's own address when "
        "bound to all interfaces.",
    )
    hosts: tuple[str, ...] = admin_hosts_setting()
    tls: ServerTlsConfig = section(ServerTlsConfig, "Serve HTTPS instead of HTTP to the operators.")
    auth: AuthConfig = section(AuthConfig, "Which operators may look (`admin:read`) and change (`admin:operate`).")

    @property
    def listen_addr(self) -> Address:
        """Where the port listens, as of `UpstreamConfig.listen_addr`."""
        return self.bind_addr or default_address(8001, everywhere=self.auth.enabled)

    @property
    def names(self) -> tuple[str, ...]:
        """The hosts by which it may be asked, IP addresses and empty ones among them."""
        advertised = "" if self.advertise_addr is None else self.advertise_addr.host
        return (*self.hosts, self.listen_addr.host, advertised)


@attrs.frozen(kw_only=True)
class NodeLimitsConfig:
    """How much the node takes on. Beyond a limit it refuses, and goes on with what it has."""

    calls: int = setting(kinds.count(), "20000", "Requests in progress at once. Further ones are answered 503.")
    calls_per_session: int = setting(
        kinds.count(most=100_000),
        "2000",
        "Requests in progress at once on one agent's session. Further ones go elsewhere or are answered 503.",
    )
    sessions: int = setting(kinds.count(), "20000", "Agent sessions at once. Further ones are refused.")
    links: int = setting(kinds.count(), "2048", "Links from other nodes to this one at once. Further ones are refused.")
    connections: int = setting(kinds.count(), "20000", "Connections of proxy clients at once. Further ones are closed.")
    connections_per_address: int | None = setting(
        kinds.count(or_none=True),
        "",
        "Connections of proxy clients at once from one address (IPv6: from one /64). Further ones are closed. Those of "
        "`proxy.trusted_proxies` are not counted, unless `proxy.proxy_protocol` tells whose they are. Empty: no limit.",
        live=True,
    )
    requests_per_address: float | None = setting(
        kinds.RATE,
        "",
        "Requests in a time from one address (IPv6: from one /64), such as 50/s. Further ones are answered 429. Behind "
        "`proxy.trusted_proxies` the address is the one that they tell. Many people may share one. Empty: no limit.",
        live=True,
    )
    buffered_bytes: int = setting(
        kinds.size(least=_MIB, most=64 * _GIB),
        "256MiB",
        "Bytes held in memory for all calls together. Beyond that no stream gets a larger window, and new calls are "
        "answered 503. Windows above 256 KiB, for links with long round trips, share half of it.",
    )
    head_bytes: int = setting(
        kinds.size(least=_KIB, most=MOST_HEAD_BYTES),
        "32KiB",
        "Size of the head of a request. A longer one is answered 431. Agents of earlier versions take up to 48 KiB.",
    )
    head_fields: int = setting(
        kinds.count(least=8, most=1000), "100", "Header fields in one HTTP head. A head with more is answered 431."
    )
    uri_bytes: int = setting(
        kinds.size(least=64, most=32 * _KIB), "8KiB", "Size of a request's URI. A longer one is answered 414."
    )
    v1_body_bytes: int = setting(
        kinds.size(least=0, most=16 * _MIB),
        "16MiB",
        "Size of a body to or from an agent that speaks only version 1 of the protocol, in which a body is sent in "
        "one piece. A longer request is answered 413, a longer response 502.",
    )


@attrs.frozen(kw_only=True)
class NodeConfig:
    """Everything that a node is told."""

    proxy: ProxyConfig = section(ProxyConfig, "The proxy port: clients send their requests here.")
    upstream: UpstreamConfig = section(UpstreamConfig, "The upstream port: agents connect here.")
    admin: AdminConfig = section(AdminConfig, "The admin port: operators and Prometheus only, never the Internet.")
    cluster: ClusterConfig = section(
        ClusterConfig, "Which cluster this node belongs to, its ID there, and how it reaches the others."
    )
    limits: NodeLimitsConfig = section(
        NodeLimitsConfig,
        "How much the node takes on before it refuses more. With `cluster.workers`, these apply to each worker.",
    )
    endpoints: tuple[EndpointLimitsConfig, ...] = listing(
        EndpointLimitsConfig,
        "Ceilings of endpoints, at each node (or worker) where a request or an agent comes in; see limits.md.",
    )
    log: LogConfig = section(LogConfig, "What is logged on stderr.")
    metrics: MetricsConfig = section(MetricsConfig, "What the metrics show.")
    tracing: TracingConfig = section(TracingConfig, "Traces of requests, for OpenTelemetry.")
    drain_streams: float = drain_streams_setting()
    grace_period: float = setting(
        kinds.duration(least_s=0.0),
        "1m",
        "How long the node may take to stop after SIGTERM while requests in progress finish. After that they are cut. "
        "So it is with those of a session whose credential has ended, and of a client that is revoked.",
    )
