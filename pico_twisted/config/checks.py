"""What no single key can tell: keys that contradict each other, and files that cannot be used.

Each fault comes with the other keys that it speaks of: when one of those has a fault of its own, the contradiction is
with a default that the operator did not ask for, and is not told.
"""

from __future__ import annotations

from collections.abc import Iterator

from pico_twisted.config.access import AuthConfig
from pico_twisted.config.agent import AgentConfig, ClientTlsConfig, ListenerConfig, ServiceTlsConfig
from pico_twisted.config.certificates import (
    certificate_faults,
    file_faults,
    missing,
    pair_faults,
    pem_faults,
    plain_http_addresses,
    tls_sections,
)
from pico_twisted.config.cluster import ClusterConfig
from pico_twisted.config.credentials import read_credentials, read_users
from pico_twisted.config.document import child
from pico_twisted.config.error_pages import read_error_pages
from pico_twisted.config.faults import Contradiction, Fault, shown
from pico_twisted.config.inspect import InspectConfig
from pico_twisted.config.kinds import CLUSTER_SECRET, SECRET, Kind
from pico_twisted.config.names import HostRule
from pico_twisted.config.node import NodeConfig, NodeLimitsConfig, ProxyConfig
from pico_twisted.config.values import Address
from pico_twisted.core.public_url import domain_of

_MAX_FILE_BYTES = 1 << 20

_OF_HTTP = (
    "keepalive_timeout",
    "reuse",
    "rewrite_host",
    "host_header",
    "lenient",
    "basic_auth_file",
    "basic_auth_realm",
    "authorization",
    "request_headers",
    "response_headers",
    "tls",
)
"""Settings of a listener that mean nothing where no HTTP is spoken."""


def node_faults(config: NodeConfig) -> Iterator[Contradiction]:
    """What is wrong with a node's configuration as a whole."""
    for path, tls in tls_sections(config).items():
        yield from certificate_faults(tls, path)
    for path, auth in auth_sections(config).items():
        yield from ((fault, ()) for fault in read_credentials(auth, path)[1])
        yield from pem_faults(auth.jwt.jwks_ca, child(path, "jwt.jwks_ca"))
    yield from _shared_port_faults(
        {
            "proxy.bind_addr": config.proxy.bind_addr,
            "upstream.bind_addr": config.upstream.listen_addr,
            "admin.bind_addr": config.admin.listen_addr,
            "cluster.gossip.bind_addr": config.cluster.gossip_bind_addr,
            **plain_http_addresses(config),
        }
    )
    yield from _cluster_faults(config.cluster)
    if config.proxy.proxy_protocol and not config.proxy.trusted_proxies:
        expected = "addresses of load balancers, because proxy.proxy_protocol is set"
        yield Fault(path="proxy.trusted_proxies", found="none", expected=expected), ("proxy.proxy_protocol",)
    yield from ((fault, ()) for fault in read_error_pages(config.proxy.error_pages)[1])
    yield from _name_faults(config.proxy)
    yield from _limit_faults(config.limits)
    seen: dict[str, int] = {}
    for index, entry in enumerate(config.endpoints):
        path = child(child("endpoints", index), "match")
        if entry.match in seen:
            expected = f"a pattern that is not {child(child('endpoints', seen[entry.match]), 'match')} already"
            yield Fault(path=path, found=shown(entry.match), expected=expected), ("endpoints",)
        seen.setdefault(entry.match, index)


def agent_faults(config: AgentConfig) -> Iterator[Contradiction]:
    """What is wrong with an agent's configuration as a whole."""
    for path, auth in auth_sections(config).items():
        yield from ((fault, ()) for fault in read_credentials(auth, path)[1])
    connect = config.connect
    if connect.token and connect.token_file:
        yield (
            Fault(path="connect.token_file", found="a file beside connect.token", expected="one of the two"),
            ("connect.token",),
        )
    yield from file_faults(connect.token_file, "connect.token_file")
    yield from pem_faults(connect.tls.root_cas, "connect.tls.root_cas")
    yield from _own_certificate_faults(connect.tls, "connect.tls")
    yield from _inspect_faults(config.inspect)
    for index, listener in enumerate(config.listeners):
        yield from _service_faults(listener, child("listeners", index))
    yield from ((fault, ("listeners",)) for fault in read_users(config.listeners)[1])
    if config.limits.v1_body_bytes > config.limits.buffered_bytes:
        yield _above("limits.v1_body_bytes", "limits.buffered_bytes")
    if not config.listeners:
        expected = "at least one, in the file or with a flag such as --listen my-endpoint=localhost:3000"
        yield Fault(path="listeners", found="none", expected=expected), ()


def _inspect_faults(inspect: InspectConfig) -> Iterator[Contradiction]:
    unreadable = list(file_faults(inspect.key_file, "inspect.key_file"))
    yield from unreadable
    if inspect.key_file and not unreadable and read_secret(inspect.key_file, CLUSTER_SECRET) is None:
        expected = f"a file with one line of {CLUSTER_SECRET.expected}"
        yield Fault(path="inspect.key_file", found="a file that holds no key", expected=expected), ()


def _own_certificate_faults(tls: ClientTlsConfig | ServiceTlsConfig, path: str) -> Iterator[Contradiction]:
    """What is wrong with the certificate that the agent shows."""
    for name, other in (("cert", "key"), ("key", "cert")):
        if getattr(tls, other) and not getattr(tls, name):
            yield missing(child(path, name), child(path, other))
    yield from pair_faults(tls.cert, tls.key, path)


def _http_faults(listener: ListenerConfig, path: str) -> Iterator[Contradiction]:
    """What means something for HTTP alone, at a listener of TCP. A password is asked for by HTTP, too."""
    protocol = child(path, "protocol")
    if listener.health.path:
        here = child(path, "health.path")
        yield Fault(path=here, found="a path", expected=f"none, as {protocol} is tcp"), (protocol,)
    if listener.addr.scheme != "http":
        found = f"{listener.addr.scheme} for a listener of TCP"
        yield Fault(path=child(path, "addr"), found=found, expected="host:port or unix:/path"), (protocol,)
    if listener.affinity == "cookie":
        fault = Fault(path=child(path, "affinity"), found="a cookie for a listener of TCP", expected="address or none")
        yield fault, (protocol,)
    plain = ListenerConfig(endpoint=listener.endpoint, addr=listener.addr)
    for name in _OF_HTTP:
        if getattr(listener, name) != getattr(plain, name):
            fault = Fault(path=child(path, name), found="a setting of HTTP", expected=f"none, as {protocol} is tcp")
            yield fault, (protocol,)


def _engine_faults(path: str, key: str) -> Iterator[Contradiction]:
    """What is wrong if HTTP/2 has to be spoken."""
    from pico_twisted.core.http2.engine import AVAILABLE  # a library of C, which few configurations ask for

    if not AVAILABLE:
        expected = "ngh2: pip install 'pico_twisted[http2]'"
        yield Fault(path=child(path, key), found="HTTP/2 without its library", expected=expected), ()


def _service_faults(listener: ListenerConfig, path: str) -> Iterator[Contradiction]:
    """What is wrong with how a listener's service is reached and checked."""
    if listener.protocol == "tcp":
        yield from _http_faults(listener, path)
        return
    speaks_http2 = listener.addr.scheme == "h2c" or listener.protocol == "grpc"
    if speaks_http2:
        yield from _engine_faults(path, "protocol" if listener.protocol == "grpc" else "addr")
    if listener.proxy_protocol != "none" and speaks_http2:
        found = f"{listener.proxy_protocol} for a service that speaks HTTP/2, whose connection all clients share"
        fault = Fault(path=child(path, "proxy_protocol"), found=found, expected="none")
        yield fault, (child(path, "addr"), child(path, "protocol"))
    tls = listener.tls
    here = child(path, "tls")
    if tls != ServiceTlsConfig() and not listener.addr.https:
        fault = Fault(path=here, found="TLS for a service without", expected=f"an https URL as {child(path, 'addr')}")
        yield fault, (child(path, "addr"),)
    yield from pem_faults(tls.ca, child(here, "ca"))
    yield from _own_certificate_faults(tls, here)
    if tls.ca and not tls.verify:
        fault = Fault(
            path=child(here, "ca"), found="a file that is not used", expected=f"{child(here, 'verify')}: true"
        )
        yield fault, (child(here, "verify"),)


def read_cluster_secrets(cluster: ClusterConfig) -> tuple[tuple[str, ...], tuple[Fault, ...]]:
    """All secrets of a cluster, each once: those that stand in the configuration, then those of the files.

    Returns:
        The secrets, and a fault for each file that gives none.
    """
    found = list(cluster.secrets)
    faults: list[Fault] = []
    for index, file_name in enumerate(cluster.secret_files):
        path = child("cluster.secret_files", index)
        secret = read_secret(file_name, CLUSTER_SECRET)
        if secret is not None:
            found.append(secret)
        else:
            expected = f"a file with one line of {CLUSTER_SECRET.expected}"
            faults.append(Fault(path=path, found="a file that holds no secret", expected=expected))
    return tuple(dict.fromkeys(found)), tuple(faults)


def read_secret(file_name: str, kind: Kind[str] = SECRET) -> str | None:
    """The secret in a file, without the line end behind it; None when there is none that could be used."""
    try:
        with open(file_name, encoding="ascii") as file:
            text = file.read(_MAX_FILE_BYTES).strip()
    except (OSError, ValueError):
        return None
    return text if text and kind.fits(text) else None


def _cluster_faults(cluster: ClusterConfig) -> Iterator[Contradiction]:
    _, faults = read_cluster_secrets(cluster)
    without_secret = {fault.path: fault for fault in faults}
    for index, file_name in enumerate(cluster.secret_files):
        path = child("cluster.secret_files", index)
        unreadable = list(file_faults(file_name, path))
        if unreadable:
            yield from unreadable
        elif path in without_secret:
            yield without_secret[path], ()


def auth_sections(config: NodeConfig | AgentConfig) -> dict[str, AuthConfig]:
    """The sections that say who may use a port, by their path."""
    if isinstance(config, AgentConfig):
        return {"admin.auth": config.admin.auth}
    return {"proxy.auth": config.proxy.auth, "upstream.auth": config.upstream.auth, "admin.auth": config.admin.auth}


def _shared_port_faults(addresses: dict[str, Address]) -> Iterator[Contradiction]:
    seen: dict[str, Address] = {}
    for path, address in addresses.items():
        for other_path, other in seen.items():
            same_host = address.host == other.host or address.is_all or other.is_all
            same = bool(address.path) and address.path == other.path
            if same or (address.port and address.port == other.port and same_host):
                expected = f"another port than {other_path}, which has {other}"
                yield Fault(path=path, found=shown(str(address)), expected=expected), (other_path,)
                break
        seen[path] = address


def _name_faults(proxy: ProxyConfig) -> Iterator[Contradiction]:
    """Names that lead to two endpoints."""
    known: dict[tuple[str, str], HostRule] = {}
    for rule in proxy.hosts:
        other = known.setdefault(rule[:2], rule)
        if other is not rule:
            found = f"{shown(str(other))} and {shown(str(rule))}"
            yield Fault(path="proxy.hosts", found=found, expected="each host and path once"), ()
    domain = domain_of(proxy.public_url)
    everything = known.get((f"*.{domain}", ""))
    if domain and everything is not None:
        found = f"{shown(str(everything))}, which leaves no name to proxy.public_url"
        fault = Fault(path="proxy.hosts", found=found, expected="another host, or a path behind it")
        yield fault, ("proxy.public_url",)


def _limit_faults(limits: NodeLimitsConfig) -> Iterator[Contradiction]:
    if limits.uri_bytes > limits.head_bytes:
        yield _above("limits.uri_bytes", "limits.head_bytes")
    if limits.v1_body_bytes > limits.buffered_bytes:
        yield _above("limits.v1_body_bytes", "limits.buffered_bytes")


def _above(path: str, other_path: str) -> Contradiction:
    return Fault(path=path, found=f"more than {other_path}", expected=f"at most {other_path}"), (other_path,)
