"""What no single key can tell: keys that contradict each other, and files that cannot be used.

Each fault comes with the other keys that it speaks of: when one of those has a fault of its own, the contradiction is
with a default that the operator did not ask for, and is not told.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from pico_twisted.config.access import AuthConfig
from pico_twisted.config.agent import AgentConfig, ListenerConfig, ServiceTlsConfig
from pico_twisted.config.cluster import ClusterConfig, ClusterTlsConfig
from pico_twisted.config.common import ServerTlsConfig
from pico_twisted.config.credentials import read_credentials, read_users
from pico_twisted.config.document import child
from pico_twisted.config.error_pages import read_error_pages
from pico_twisted.config.faults import MAX_FILE_NAME_SHOWN, Fault, shown, whose
from pico_twisted.config.kinds import CLUSTER_SECRET, SECRET, Kind
from pico_twisted.config.names import HostRule
from pico_twisted.config.node import NodeConfig, NodeLimitsConfig, ProxyConfig
from pico_twisted.config.values import Address
from pico_twisted.core.public_url import domain_of

if TYPE_CHECKING:  # both take longer to import than all of picoctl, and few configurations need them
    from cryptography import x509

    from pico_twisted.config.pem import UnusableCertificateError

_MAX_FILE_BYTES = 1 << 20

Contradiction = tuple[Fault, tuple[str, ...]]


def node_faults(config: NodeConfig) -> Iterator[Contradiction]:
    """What is wrong with a node's configuration as a whole."""
    for path, tls in tls_sections(config).items():
        yield from _certificate_faults(tls, path)
    for path, auth in auth_sections(config).items():
        yield from ((fault, ()) for fault in read_credentials(auth, path)[1])
        yield from _pem_faults(auth.jwt.jwks_ca, child(path, "jwt.jwks_ca"))
    yield from _shared_port_faults(
        {
            "proxy.bind_addr": config.proxy.bind_addr,
            "upstream.bind_addr": config.upstream.listen_addr,
            "admin.bind_addr": config.admin.listen_addr,
            "cluster.gossip.bind_addr": config.cluster.gossip_bind_addr,
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
    yield from _file_faults(connect.token_file, "connect.token_file")
    yield from _pem_faults(connect.tls.root_cas, "connect.tls.root_cas")
    for name, other in (("cert", "key"), ("key", "cert")):
        if getattr(connect.tls, other) and not getattr(connect.tls, name):
            yield _missing(child("connect.tls", name), child("connect.tls", other))
    yield from _pair_faults(connect.tls.cert, connect.tls.key, "connect.tls")
    for index, listener in enumerate(config.listeners):
        yield from _service_faults(listener, child("listeners", index))
    yield from ((fault, ("listeners",)) for fault in read_users(config.listeners)[1])
    if config.limits.v1_body_bytes > config.limits.buffered_bytes:
        yield _above("limits.v1_body_bytes", "limits.buffered_bytes")
    if not config.listeners:
        expected = "at least one, in the file or with a flag such as --listen my-endpoint=localhost:3000"
        yield Fault(path="listeners", found="none", expected=expected), ()


def _service_faults(listener: ListenerConfig, path: str) -> Iterator[Contradiction]:
    """What is wrong with how a listener's service is to be checked."""
    tls = listener.tls
    here = child(path, "tls")
    if tls != ServiceTlsConfig() and not listener.addr.https:
        fault = Fault(path=here, found="TLS for a service without", expected=f"an https URL as {child(path, 'addr')}")
        yield fault, (child(path, "addr"),)
    yield from _pem_faults(tls.ca, child(here, "ca"))
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
        unreadable = list(_file_faults(file_name, path))
        if unreadable:
            yield from unreadable
        elif path in without_secret:
            yield without_secret[path], ()


def auth_sections(config: NodeConfig | AgentConfig) -> dict[str, AuthConfig]:
    """The sections that say who may use a port, by their path."""
    if isinstance(config, AgentConfig):
        return {"admin.auth": config.admin.auth}
    return {"proxy.auth": config.proxy.auth, "upstream.auth": config.upstream.auth, "admin.auth": config.admin.auth}


def tls_sections(config: NodeConfig) -> dict[str, ServerTlsConfig | ClusterTlsConfig]:
    """The sections that name a certificate and its key, by their path."""
    return {
        "proxy.tls": config.proxy.tls,
        "upstream.tls": config.upstream.tls,
        "admin.tls": config.admin.tls,
        "cluster.tls": config.cluster.tls,
    }


def age_faults(config: NodeConfig | AgentConfig, now: datetime) -> Iterator[Contradiction]:
    """Certificates that nobody accepts at this time. A daemon starts with them all the same, since somebody may."""
    from pico_twisted.config.pem import refused_for

    for path, file_name, chain in _chains(config):
        if words := refused_for(chain, now):
            yield too_old(path, file_name, words), ()
    for path, file_name in _authorities(config):
        refused = [refused_for([one], now) for one in _readable(file_name)]
        if refused and all(refused):
            yield too_old(path, file_name, refused[0]), ()


def certificate_warnings(config: NodeConfig | AgentConfig, now: datetime) -> list[str]:
    """What an operator should know of the certificates, a line for each: those that expire, or have, odd chains, and a
    list of revoked ones that is out of date."""
    from pico_twisted.config.pem import UnusableCertificateError, day, doubts, load_revoked, refused_for

    found = [
        (path, file_name, words)
        for path, file_name, chain in _chains(config)
        for words in (refused_for(chain, now), *doubts(chain, now))
        if words
    ]
    if isinstance(config, NodeConfig) and config.cluster.tls.crl:
        crl = config.cluster.tls.crl
        with contextlib.suppress(UnusableCertificateError):
            until = load_revoked(crl, _readable(config.cluster.tls.ca)).until
            if until is not None and until <= now:
                found.append(("cluster.tls.crl", crl, f"is out of date since {day(until)}, and still counts"))
    return [f"{path}: {shown(file_name, MAX_FILE_NAME_SHOWN)} {words}" for path, file_name, words in found]


def too_old(path: str, file_name: str, words: str) -> Fault:
    """A certificate, by its key and file, that is refused at this time, for what the words of `refused_for` say."""
    found = f"{shown(file_name, MAX_FILE_NAME_SHOWN)}, which {words}"
    return Fault(path=path, found=found, expected="a certificate that is valid now")


def _chains(config: NodeConfig | AgentConfig) -> Iterator[tuple[str, str, Sequence[x509.Certificate]]]:
    """The key, the file and the content of each chain that can be read."""
    if isinstance(config, NodeConfig):
        for path, tls in tls_sections(config).items():
            if not tls.enabled:
                continue
            for place, cert_file, _ in _pairs(tls, path):
                if chain := _readable(cert_file):
                    yield child(place, "cert"), cert_file, chain
    elif (cert_file := config.connect.tls.cert) and (chain := _readable(cert_file)):
        yield "connect.tls.cert", cert_file, chain


def _authorities(config: NodeConfig | AgentConfig) -> Iterator[tuple[str, str]]:
    """The key and the file of each bundle of certificates to trust."""
    if isinstance(config, NodeConfig):
        path, file_name = "cluster.tls.ca", config.cluster.tls.ca
        for place, tls in tls_sections(config).items():
            if isinstance(tls, ServerTlsConfig) and tls.client_ca:
                yield child(place, "client_ca"), tls.client_ca
    else:
        path, file_name = "connect.tls.root_cas", config.connect.tls.root_cas
        for index, listener in enumerate(config.listeners):
            if listener.tls.ca:
                yield child(child("listeners", index), "tls.ca"), listener.tls.ca
    if file_name:
        yield path, file_name


def _readable(file_name: str) -> Sequence[x509.Certificate]:
    """The certificates of a file; none when it cannot be used, which is another fault."""
    from pico_twisted.config.pem import UnusableCertificateError, load_certificates

    try:
        return load_certificates(file_name)
    except UnusableCertificateError:
        return ()


def _certificate_faults(tls: ServerTlsConfig | ClusterTlsConfig, path: str) -> Iterator[Contradiction]:
    """The files of a `tls` section: all of them or none, all of them readable, and what a port can use."""
    names = ("cert", "key", "ca") if isinstance(tls, ClusterTlsConfig) else ("cert", "key")
    files: dict[str, str] = {child(path, name): getattr(tls, name) for name in names}
    given = [name for name, value in files.items() if value]
    for name, value in files.items():
        if given and not value:
            yield _missing(name, *given)
    if isinstance(tls, ClusterTlsConfig):
        yield from _pem_faults(tls.ca, child(path, "ca"))
        yield from _crl_faults(tls, child(path, "crl"))
    else:
        yield from _pem_faults(tls.client_ca, child(path, "client_ca"))
        if tls.client_auth == "required" and not tls.client_ca:
            yield _missing(child(path, "client_ca"), child(path, "client_auth"))
    for name in ("client_ca", "certificates", "allowed_names", "crl"):
        if getattr(tls, name, None) and not given:
            yield _missing(child(path, "cert"), child(path, name))
    for place, cert_file, key_file in _pairs(tls, path):
        yield from _pair_faults(cert_file, key_file, place)


def _pairs(tls: ServerTlsConfig | ClusterTlsConfig, path: str) -> Iterator[tuple[str, str, str]]:
    """The certificates of a section, each with its place and its key."""
    yield path, tls.cert, tls.key
    if isinstance(tls, ServerTlsConfig):
        for index, further in enumerate(tls.certificates):
            yield child(child(path, "certificates"), index), further.cert, further.key


def _pair_faults(cert_file: str, key_file: str, path: str) -> Iterator[Contradiction]:
    """A certificate and its key that, if they are named, can be used together."""
    faults = [*_pem_faults(cert_file, child(path, "cert")), *_pem_faults(key_file, child(path, "key"), key=True)]
    yield from faults
    if faults or not (cert_file and key_file):
        return
    from pico_twisted.config.pem import UnusableCertificateError, load_pair

    try:
        load_pair(cert_file, key_file)
    except UnusableCertificateError as error:
        yield unusable(error, child(path, "cert" if error.path == cert_file else "key")), ()


def _crl_faults(tls: ClusterTlsConfig, path: str) -> Iterator[Contradiction]:
    """A list of revoked certificates that, if one is named, can be used with the authorities."""
    unreadable = list(_file_faults(tls.crl, path))
    yield from unreadable
    if not tls.crl or unreadable or not (authorities := _readable(tls.ca)):
        return
    from pico_twisted.config.pem import UnusableCertificateError, load_revoked

    try:
        load_revoked(tls.crl, authorities)
    except UnusableCertificateError as error:
        yield unusable(error, path), ()


def _missing(path: str, *given: str) -> Contradiction:
    """A file that is not named, though keys are set that need it."""
    return Fault(path=path, found="nothing", expected=f"a file, because {given[0]} is set"), given


def _pem_faults(file_name: str, path: str, *, key: bool = False) -> Iterator[Contradiction]:
    """A file that, if one is named, is readable and holds certificates or a private key."""
    unreadable = list(_file_faults(file_name, path))
    yield from unreadable
    if unreadable or not file_name:
        return
    from pico_twisted.config.pem import UnusableCertificateError, load_certificates, load_key

    try:
        (load_key if key else load_certificates)(file_name)
    except UnusableCertificateError as error:
        yield unusable(error, path), ()


def unusable(error: UnusableCertificateError, path: str) -> Fault:
    """A PEM file that cannot be used, at its key."""
    found = f"{shown(error.path, MAX_FILE_NAME_SHOWN)}, which {error.reason}"
    return Fault(path=path, found=found, expected="a PEM file that can be used")


def _file_faults(file_name: str, path: str) -> Iterator[Contradiction]:
    if not file_name:
        return
    try:
        with open(file_name, "rb") as file:
            file.read(1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a file name"
        why = whose(file_name) if isinstance(error, PermissionError) else ""
        found = f"{shown(file_name, MAX_FILE_NAME_SHOWN)} ({reason}{why})"
        yield Fault(path=path, found=found, expected="a file that can be read"), ()


def _shared_port_faults(addresses: dict[str, Address]) -> Iterator[Contradiction]:
    seen: dict[str, Address] = {}
    for path, address in addresses.items():
        for other_path, other in seen.items():
            same_host = address.host == other.host or address.is_all or other.is_all
            if address.port and address.port == other.port and same_host:
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
