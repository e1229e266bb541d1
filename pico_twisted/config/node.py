"""The configuration of a node."""

from __future__ import annotations

import attrs

from pico_twisted.config import kinds
from pico_twisted.config.access import AuthConfig
from pico_twisted.config.common import (
    MOST_HEAD_BYTES,
    LogConfig,
    ServerTlsConfig,
    admin_hosts_setting,
    drain_streams_setting,
)
from pico_twisted.config.endpoints import EndpointLimitsConfig
from pico_twisted.config.fields import listing, section, setting
from pico_twisted.config.values import GOSSIP_PORT, Address, Network

_KIB, _MIB, _GIB = 1 << 10, 1 << 20, 1 << 30


def _default_address(port: int, *, everywhere: bool) -> Address:
    return Address("" if everywhere else "127.0.0.1", port)


@attrs.frozen(kw_only=True)
class ProxyConfig:
    """The port of the proxy clients."""

    bind_addr: Address = setting(
        kinds.BIND_ADDRESS,
        ":8000",
        "Address that the proxy port listens on. Without a host: every interface. Port 0 takes a free port.",
    )
    advertise_addr: Address | None = setting(
        kinds.ADVERTISE_ADDRESS,
        "",
        "Address at which others reach the proxy port. Empty: the bound IP, or the host's own address when bound "
        "to all interfaces.",
    )
    timeout: float = setting(
        kinds.duration(),
        "30s",
        "How long to wait for the first byte of a response, counted from the last time the request's body made "
        "progress. The client gets a 504 one second later: within that second an agent whose listener has a `timeout` "
        "of its own can still send its own error, which says more.",
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
    trusted_proxies: tuple[Network, ...] = setting(
        kinds.Many(item=kinds.NETWORK),
        "",
        "Addresses or ranges (CIDR) of all proxies in front of this port: load balancers, and a CDN before them. What "
        "they tell of the client in X-Forwarded-* or Forwarded is believed; what anybody else tells is dropped.",
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
    tls: ServerTlsConfig = section(ServerTlsConfig, "Serve HTTPS instead of HTTP to the proxy clients.")
    auth: AuthConfig = section(AuthConfig, "Which clients may send requests, and to which endpoints: rules `connect:`.")

    @property
    def listen_addr(self) -> Address:
        """Where the port listens."""
        return self.bind_addr


@attrs.frozen(kw_only=True)
class UpstreamConfig:
    """The port of the agents."""

    bind_addr: Address | None = setting(
        kinds.BIND_ADDRESS_OR_DEFAULT,
        "",
        "Address that the upstream port listens on. Without a host: every interface. Port 0 takes a free port. Empty: "
        "`:8002` if `upstream.auth` says who may connect, otherwise `127.0.0.1:8002`.",
    )
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
        return self.bind_addr or _default_address(8002, everywhere=self.auth.enabled)


@attrs.frozen(kw_only=True)
class AdminConfig:
    """The port of the operators."""

    bind_addr: Address | None = setting(
        kinds.BIND_ADDRESS_OR_DEFAULT,
        "",
        "Address that the admin port listens on. Empty: `:8001` if `admin.auth` says who may use it, otherwise "
        "`127.0.0.1:8001`. Without `admin.auth` it shows the node's state to anybody who can reach it: keep it off the "
        "Internet. Other nodes ask it, too.",
    )
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
        return self.bind_addr or _default_address(8001, everywhere=self.auth.enabled)

    @property
    def names(self) -> tuple[str, ...]:
        """The hosts by which it may be asked, IP addresses and empty ones among them."""
        advertised = "" if self.advertise_addr is None else self.advertise_addr.host
        return (*self.hosts, self.listen_addr.host, advertised)


@attrs.frozen(kw_only=True)
class ClusterTlsConfig:
    """Mutual TLS between nodes; without it node links are plain text."""

    cert: str = setting(
        kinds.FILE,
        "",
        "Certificate chain of this node, a PEM file with the node's own certificate first. The node shows it on "
        "links in both directions. Set it together with `key` and `ca`.",
        live=True,
    )
    key: str = setting(kinds.FILE, "", "Private key of the certificate, a PEM file.", live=True)
    ca: str = setting(
        kinds.FILE,
        "",
        "Authority of the cluster, a PEM file. Any peer with a certificate signed by it counts as a node, so let it "
        "sign nothing else, or say with `allowed_names` which certificates are of nodes.",
        live=True,
    )
    allowed_names: tuple[str, ...] = setting(
        kinds.Many(item=kinds.CERTIFICATE_NAME),
        "",
        "Names of nodes: DNS names and URIs as they stand in certificates. `*` is for any characters but dots in a DNS "
        "name, and but slashes in a URI. A peer whose certificate has none of them is refused. Empty: any name.",
        live=True,
    )
    crl: str = setting(
        kinds.FILE,
        "",
        "Certificates that the authority has revoked, a PEM file with its lists (CRL). Peers that show one are "
        "refused, and links that are open end. A list that is out of date is told, and still counts.",
        live=True,
    )

    @property
    def enabled(self) -> bool:
        """Whether node links use TLS."""
        return bool(self.cert and self.key and self.ca)


@attrs.frozen(kw_only=True)
class GossipConfig:
    """The port of the nodes, and how they talk there."""

    bind_addr: Address | None = setting(
        kinds.BIND_ADDRESS_OR_DEFAULT,
        "",
        "Address of the gossip port, for packets (UDP) and node links (TCP). Empty: `:8003` if `cluster.join`, "
        "secrets or `cluster.gossip.advertise_addr` are set, otherwise `127.0.0.1:8003`. Port 0 takes a free port.",
    )
    advertise_addr: Address | None = setting(
        kinds.ADVERTISE_ADDRESS,
        "",
        "Address at which other nodes reach the gossip port, over UDP and TCP. Empty: the bound IP, or the host's "
        "own address towards `cluster.join` when bound to all interfaces.",
    )
    interval: float = setting(
        kinds.duration(least_s=0.1, most_s=60.0),
        "500ms",
        "How often this node talks to another node. It should be about the same on all nodes. A node that is silent "
        "for several intervals counts as unreachable.",
    )
    max_packet_size: int = setting(
        kinds.size(least=576, most=65000),
        "1400",
        "Size of the largest packet that is sent. Packets that are too large for the network to carry in one piece "
        "are lost more easily.",
    )


@attrs.frozen(kw_only=True)
class ClusterConfig:
    """Which cluster the node is in, and who it is there."""

    name: str = setting(
        kinds.CLUSTER_NAME, "pico", "Name of the cluster. Nodes of a cluster with another name are ignored."
    )
    node_id: str = setting(
        kinds.OPTIONAL_ID,
        "",
        "ID of this node, unique in the cluster. Empty: `cluster.node_id_prefix` and random characters, different at "
        "each start.",
    )
    node_id_prefix: str = setting(
        kinds.ID_PREFIX, "", "What a generated node ID begins with. Not used with `cluster.node_id`."
    )
    join: tuple[Address, ...] = setting(
        kinds.Many(item=kinds.JOIN_ADDRESS),
        "",
        "Nodes to join: names or IPs, with the gossip port if it is not 8003. One that is up is enough. A name may "
        "have several addresses. The list may include this node. Empty: a cluster of one, until others join.",
    )
    join_timeout: float = setting(
        kinds.duration(), "1m", "How long the node tries to join before `cluster.abort_if_join_fails` decides."
    )
    abort_if_join_fails: bool = setting(
        kinds.BOOLEAN,
        "true",
        "Whether a node that could not join in time exits with status 1. Otherwise it serves alone and keeps trying.",
    )
    secrets: tuple[str, ...] = setting(
        kinds.Many(item=kinds.CLUSTER_SECRET),
        "",
        "Secrets that only the nodes of the cluster know; with one, packets are encrypted and links are "
        "authenticated. The first is used and all are accepted, so a secret can be replaced while the cluster runs. "
        "Prefer `cluster.secret_files`: every user of the machine can see a flag.",
        live=True,
    )
    secret_files: tuple[str, ...] = setting(
        kinds.Many(item=kinds.FILE_NAME),
        "",
        "Files that hold one secret each. These come after the ones in `cluster.secrets`.",
        live=True,
    )
    revocations_file: str = setting(
        kinds.FILE,
        "",
        "File that the node keeps what is revoked in, for a start at which it finds no other node. The node writes it. "
        "Empty: `revocations` in the directory that systemd makes for the node (`StateDirectory=`); without one it is "
        "kept nowhere.",
    )
    workers: int = setting(
        kinds.count_or_auto(most=64),
        "1",
        "How many processes share the ports of this host. Each is a node of the cluster with its own ID, "
        "`<node_id>-w0` and so on, and each uses the gossip port after the one before. `auto`: one for each core "
        "that the process may use. Everything under `limits` applies to each of them.",
    )
    tls: ClusterTlsConfig = section(ClusterTlsConfig, "Mutual TLS on node links. Set it on all nodes or on none.")
    gossip: GossipConfig = section(GossipConfig, "The gossip port: nodes only, never the Internet.")

    @property
    def gossip_bind_addr(self) -> Address:
        """Where the gossip port listens: this machine alone, unless something says that there are other nodes."""
        if self.gossip.bind_addr is not None:
            return self.gossip.bind_addr
        others = self.join or self.secrets or self.secret_files or self.gossip.advertise_addr is not None
        return _default_address(GOSSIP_PORT, everywhere=bool(others))


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
    drain_streams: float = drain_streams_setting()
    grace_period: float = setting(
        kinds.duration(least_s=0.0),
        "1m",
        "How long the node may take to stop after SIGTERM while requests in progress finish. After that they are cut.",
    )
