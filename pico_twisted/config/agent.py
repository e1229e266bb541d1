"""The configuration of an agent."""

from __future__ import annotations

import attrs

from pico_twisted.config import kinds
from pico_twisted.config.access import AuthConfig
from pico_twisted.config.common import MOST_HEAD_BYTES, LogConfig, admin_hosts_setting, drain_streams_setting
from pico_twisted.config.fields import listing, section, setting
from pico_twisted.config.health import HealthConfig
from pico_twisted.config.inspect import InspectConfig
from pico_twisted.config.observing import AgentTracingConfig
from pico_twisted.config.port_kinds import FORWARD_PROXY, HOST_HEADER, PORT_ADDRESS_OR_OFF, socket_mode_setting
from pico_twisted.config.values import Address, Network, ServiceAddress

_KIB, _MIB, _GIB = 1 << 10, 1 << 20, 1 << 30


@attrs.frozen(kw_only=True)
class ClientTlsConfig:
    """How a node's certificate is checked, and which one the agent shows."""

    root_cas: str = setting(
        kinds.FILE,
        "",
        "Certificate authorities to trust for a node's certificate, a PEM file. Empty: those of the system. Used "
        "with https and wss URLs.",
    )
    cert: str = setting(
        kinds.FILE,
        "",
        "Certificate that the agent shows to a node that asks for one, with its chain, a PEM file. A file that changes "
        "is used from then on.",
        live=True,
    )
    key: str = setting(kinds.FILE, "", "Private key of `cert`, a PEM file.", live=True)


@attrs.frozen(kw_only=True)
class ConnectConfig:
    """How the agent reaches a node."""

    url: tuple[str, ...] = setting(
        kinds.Many(item=kinds.NODE_URL, at_least=1),
        "http://localhost:8002",
        "URL of a node's upstream port (http, https, ws or wss, or unix:/path on this machine), or a list of them, "
        "which is tried in random order.",
    )
    connections: int = setting(
        kinds.count_or_auto(most=16),
        "auto",
        "Sessions that each listener keeps, on different nodes if there are enough, so that losing a node interrupts "
        "nothing: 1 to 16, or `auto`: one, and a second once the cluster has more than one node.",
    )
    token: str = setting(
        kinds.SECRET,
        "",
        "Token that the agent shows to the node. Prefer `connect.token_file`: every user of the machine can see a "
        "flag.",
        live=True,
    )
    token_file: str = setting(
        kinds.FILE,
        "",
        "File that holds the token. It is read again when it changes, and nodes are shown the new token on sessions "
        "that are open.",
        live=True,
    )
    timeout: float = setting(
        kinds.duration(),
        "10s",
        "How long one attempt to connect may take: looking up the name, connecting, TLS and the handshake together.",
    )
    proxy: str = setting(
        FORWARD_PROXY,
        "",
        "Proxy through which nodes are reached, with CONNECT: an http or https URL, such as "
        "http://user:password@proxy.example.com:3128. Prefer a file or the environment for a password: every user of "
        "the machine can see a flag. Empty: as the variables `HTTPS_PROXY` (for https and wss) and `ALL_PROXY` of the "
        "environment say, and `NO_PROXY`. `none`: no proxy.",
    )
    tls: ClientTlsConfig = section(
        ClientTlsConfig, "How a node's certificate is checked, and which one the agent shows."
    )


@attrs.frozen(kw_only=True)
class ServiceTlsConfig:
    """How the certificate of an https service is checked, and which one the agent shows."""

    ca: str = setting(
        kinds.FILE,
        "",
        "Certificates to trust, a PEM file: those of an authority of your own, or the service's own. Empty: the "
        "authorities of the system, or those that the variable `SSL_CERT_FILE` of the agent's environment names.",
    )
    server_name: str = setting(
        kinds.SERVER_NAME,
        "",
        "Name that the certificate must be for, and that the service is asked for (SNI), when it is not the host of "
        "`addr`.",
    )
    verify: bool = setting(
        kinds.BOOLEAN,
        "true",
        "Whether the certificate is checked. With `false`, anybody on the way to the service can read and change what "
        "goes there; the agent warns of it. Prefer `ca` with the service's own certificate.",
    )
    cert: str = setting(
        kinds.FILE,
        "",
        "Certificate that the agent shows to a service that asks for one, with its chain, a PEM file. A file that "
        "changes is used for new connections.",
    )
    key: str = setting(kinds.FILE, "", "Private key of `cert`, a PEM file.")


@attrs.frozen(kw_only=True)
class HeaderEditsConfig:
    """What is changed in the headers of each message."""

    set: tuple[str, ...] = setting(
        kinds.Many(item=kinds.HEADER), "", "Headers, such as `X-Frame-Options: DENY`, in place of all of their name."
    )
    add: tuple[str, ...] = setting(kinds.Many(item=kinds.HEADER), "", "Headers beside those of their name.")
    remove: tuple[str, ...] = setting(kinds.Many(item=kinds.HEADER_NAME), "", "Names of headers that are taken away.")


@attrs.frozen(kw_only=True)
class ListenerConfig:
    """One endpoint, and the local service behind it."""

    endpoint: str = setting(
        kinds.ENDPOINT_ID,
        None,
        "ID that clients use to name the endpoint. Other listeners and agents may have the same ID; requests are "
        "shared among them.",
    )
    addr: ServiceAddress = setting(
        kinds.SERVICE_ADDRESS,
        None,
        "Where the service listens: a port on this machine, host:port, an http, https or h2c URL, or a unix socket as "
        "unix:/path (https+unix:/path with TLS, h2c+unix:/path for HTTP/2; @name in place of a path for one without "
        "a file).",
    )
    protocol: str = setting(
        kinds.one_of("http", "grpc", "tcp"),
        "http",
        "What the service speaks. `grpc`: HTTP/2 in any case, even if `addr` is not an h2c URL. `tcp`: anything over "
        "TCP; clients reach it with `picoctl forward`, not by HTTP.",
    )
    proxy_protocol: str = setting(
        kinds.one_of("none", "v1", "v2"),
        "none",
        "Whether each connection to the service begins with a PROXY protocol header of version 1 or 2, which tells the "
        "client's address; its port is not known and told as 0. A connection then serves one client's requests alone. "
        "Not for services that speak HTTP/2.",
    )
    timeout: float | None = setting(
        kinds.duration(or_none=True),
        "",
        "How long to wait for the first byte of the service's response, if that is to be less than the node waits for "
        "it (`proxy.timeout`). Empty: as long as the node waits.",
    )
    keepalive_timeout: float = setting(
        kinds.duration(least_s=0.0),
        "55s",
        "How long a connection to the service is kept when it is idle. It is less if the service says so "
        "(`Keep-Alive: timeout=5`). A request that cannot be sent twice, such as a POST, gets a new connection after a "
        "second, or sooner if the service closes idle connections sooner. 0s: none is kept.",
    )
    reuse: str = setting(
        kinds.one_of("never", "safe", "always"),
        "safe",
        "When a connection to the service serves another request. `safe`: not after one that the service may take for "
        "two, since it has a body though its method has none as a rule (GET, HEAD, OPTIONS, DELETE, TRACE), or was "
        "answered before its body was sent. `always`: after these, too. `never`: each request has a connection of its "
        "own; NTLM and Negotiate do not work then.",
    )
    share: bool = setting(
        kinds.BOOLEAN,
        "true",
        "Whether other agents may serve the endpoint too. If not, nodes refuse this agent while another one serves it, "
        "and others while this one does, as far as they know of them.",
    )
    affinity: str = setting(
        kinds.one_of("none", "cookie", "address"),
        "none",
        "What ties a client to one of several agents of the endpoint, at whichever node it arrives, for services that "
        "keep in memory what a client said before. `cookie`: a cookie of the node, which the service does not get. "
        "`address`: the address of the client, all of a /64 of IPv6 alike; for TCP this alone. Lasts over a restart of "
        "the agent only with an `agent_id`. Give all agents of the endpoint the same.",
    )
    rewrite_host: bool = setting(
        kinds.BOOLEAN,
        "false",
        "Whether the service gets its own address as `Host` instead of the `Host` that the client sent.",
    )
    host_header: str = setting(
        HOST_HEADER,
        "",
        "What the service gets as `Host`, such as localhost:3000: for services that answer only to names that they "
        "know. Empty: as `rewrite_host` says.",
    )
    lenient: bool = setting(
        kinds.BOOLEAN,
        "false",
        "Whether the service may break some rules of HTTP, as small devices do: lines that end in LF alone, empty "
        "lines before the status line, statuses from 600 to 999, and the same `Content-Length` more than once. "
        "Otherwise these make the answer a 502.",
    )
    allow: tuple[Network, ...] = setting(
        kinds.Many(item=kinds.NETWORK),
        "",
        "Addresses or ranges (CIDR) of clients that may use the endpoint, as the node tells them; others get a 403. "
        "Empty: everybody.",
    )
    deny: tuple[Network, ...] = setting(
        kinds.Many(item=kinds.NETWORK), "", "Addresses or ranges of clients that may not, though `allow` has them."
    )
    basic_auth_file: str = setting(
        kinds.FILE,
        "",
        "File with the users that may use the endpoint and their passwords, as `htpasswd -B` writes it (bcrypt); "
        "others get a 401. Read again on a reload.",
    )
    basic_auth_realm: str = setting(
        kinds.REALM, "", "What browsers show when they ask for the password. Empty: the endpoint ID."
    )
    authorization: str = setting(
        kinds.one_of("drop", "pass"),
        "drop",
        "What becomes of the user and the password with `basic_auth_file`: whether the service gets them, too.",
    )
    max_in_flight: int | None = setting(
        kinds.count(or_none=True), "", "Requests in progress at once. Further ones are answered 503. Empty: no limit."
    )
    rate: float | None = setting(
        kinds.RATE, "", "Requests in a time, such as 200/s. Further ones are answered 429. Empty: no limit."
    )
    max_connections: int | None = setting(
        kinds.count(or_none=True),
        "",
        "Connections to the service at once. Requests and TCP sessions beyond them wait, up to 1,000 of them, their "
        "clients in turn; those that wait for too long, or find too many waiting, are answered 503. Empty: no limit.",
    )
    max_wait: float = setting(
        kinds.duration(most_s=3600.0), "10s", "How long a request may wait for a connection with `max_connections`."
    )
    health: HealthConfig = section(HealthConfig, "Checks of the service, beside what its calls show.")
    request_headers: HeaderEditsConfig = section(
        HeaderEditsConfig, "What is changed in the headers of a request, before the service gets it."
    )
    response_headers: HeaderEditsConfig = section(
        HeaderEditsConfig, "What is changed in the headers of a response of the service."
    )
    tls: ServiceTlsConfig = section(
        ServiceTlsConfig,
        "How the certificate is checked when `addr` is an https URL, and which one the agent shows.",
    )


@attrs.frozen(kw_only=True)
class AgentAdminConfig:
    """The agent's own port for health checks and metrics."""

    bind_addr: Address | None = setting(
        PORT_ADDRESS_OR_OFF,
        "",
        "Address that serves /ready, /health, /status and /metrics, such as 127.0.0.1:9000 or `unix:/path`. Empty: no "
        "such port.",
    )
    socket_mode: int = socket_mode_setting()
    hosts: tuple[str, ...] = admin_hosts_setting()
    auth: AuthConfig = section(AuthConfig, "Which operators may look (`admin:read`) and change (`admin:operate`).")

    @property
    def names(self) -> tuple[str, ...]:
        """The hosts by which it may be asked, IP addresses and empty ones among them."""
        return (*self.hosts, "" if self.bind_addr is None else self.bind_addr.host)


@attrs.frozen(kw_only=True)
class AgentLimitsConfig:
    """How much the agent takes on."""

    buffered_bytes: int = setting(
        kinds.size(least=_MIB, most=64 * _GIB),
        "256MiB",
        "Bytes held in memory for all calls together. Beyond that no stream gets a larger window, and new calls are "
        "refused. Windows above 256 KiB, for links with long round trips, share half of it.",
    )
    head_bytes: int = setting(
        kinds.size(least=_KIB, most=MOST_HEAD_BYTES),
        "32KiB",
        "Size of the head of a service's response. A longer one makes the answer a 502. Nodes of earlier versions "
        "take up to their own `limits.head_bytes`.",
    )
    head_fields: int = setting(
        kinds.count(least=8, most=1000),
        "100",
        "Header fields in a service's response. A response with more makes the answer a 502.",
    )
    v1_body_bytes: int = setting(
        kinds.size(least=0, most=16 * _MIB),
        "16MiB",
        "Size of a response's body for a node that speaks only version 1 of the protocol, in which a body is sent in "
        "one piece. A longer one makes the answer a 502.",
    )


@attrs.frozen(kw_only=True)
class AgentConfig:
    """Everything that an agent is told."""

    connect: ConnectConfig = section(ConnectConfig, "How the agent reaches a node.")
    agent_id: str = setting(
        kinds.OPTIONAL_ID, "", "ID of this agent, unique in the cluster. Empty: a new one is made at each start."
    )
    listeners: tuple[ListenerConfig, ...] = listing(
        ListenerConfig,
        "The endpoints that this agent registers, and the service behind each. At least one is needed, here or with "
        "--listen.",
    )
    admin: AgentAdminConfig = section(AgentAdminConfig, "The agent's own port for health checks and metrics.")
    inspect: InspectConfig = section(InspectConfig, "A page of what passes, for the developer of a service.")
    limits: AgentLimitsConfig = section(AgentLimitsConfig, "How much the agent takes on before it refuses more.")
    access_log: str = setting(
        kinds.one_of("auto", "true", "false"),
        "auto",
        "Whether to log one line for each request. `auto`: on a terminal, and when there is a file for them.",
        live=True,
    )
    access_log_file: str = setting(
        kinds.FILE,
        "",
        "File that these lines are appended to. Opened again on SIGUSR1 and SIGHUP. Empty: they go with the log.",
    )
    log: LogConfig = section(LogConfig, "What is logged on stderr.")
    tracing: AgentTracingConfig = section(AgentTracingConfig, "Traces of requests, for OpenTelemetry.")
    drain_streams: float = drain_streams_setting()
    grace_period: float = setting(
        kinds.duration(least_s=0.0),
        "1m",
        "How long the agent may take to stop after SIGTERM while requests in progress finish. After that they are cut.",
    )
