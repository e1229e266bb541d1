"""Certificates and keys that a configuration names: files that cannot be used, and those that soon can be no more."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from pico_twisted.config.agent import AgentConfig
from pico_twisted.config.cluster import ClusterTlsConfig
from pico_twisted.config.document import child
from pico_twisted.config.faults import MAX_FILE_NAME_SHOWN, Contradiction, Fault, shown, whose
from pico_twisted.config.node import NodeConfig
from pico_twisted.config.tls import AcmeConfig, ServerTlsConfig
from pico_twisted.config.values import Address

if TYPE_CHECKING:  # both take longer to import than all of picoctl, and few configurations need them
    from cryptography import x509

    from pico_twisted.config.pem import UnusableCertificateError


def tls_sections(config: NodeConfig) -> dict[str, ServerTlsConfig | ClusterTlsConfig]:
    """The sections that name a certificate and its key, by their path."""
    return {
        "proxy.tls": config.proxy.tls,
        "upstream.tls": config.upstream.tls,
        "admin.tls": config.admin.tls,
        "cluster.tls": config.cluster.tls,
    }


def acme_sections(config: NodeConfig) -> dict[str, AcmeConfig]:
    """The sections that order a certificate, by their path."""
    sections = {child(path, "acme"): getattr(tls, "acme", None) for path, tls in tls_sections(config).items()}
    return {path: acme for path, acme in sections.items() if acme is not None and acme.enabled}


def plain_http_addresses(config: NodeConfig) -> dict[str, Address]:
    """Where a node listens for plain HTTP in front of https, each address once, by its key."""
    found: dict[Address, str] = {}
    for path, acme in acme_sections(config).items():
        if acme.http_addr is not None:
            found.setdefault(acme.http_addr, child(path, "http_addr"))
    return {path: address for address, path in found.items()}


def certificate_faults(tls: ServerTlsConfig | ClusterTlsConfig, path: str) -> Iterator[Contradiction]:
    """The files of a `tls` section: all of them or none, all of them readable, and what a port can use."""
    names = ("cert", "key", "ca") if isinstance(tls, ClusterTlsConfig) else ("cert", "key")
    files: dict[str, str] = {child(path, name): getattr(tls, name) for name in names}
    given = [name for name, value in files.items() if value]
    for name, value in files.items():
        if given and not value:
            yield missing(name, *given)
    if isinstance(tls, ClusterTlsConfig):
        yield from pem_faults(tls.ca, child(path, "ca"))
        yield from _crl_faults(tls, child(path, "crl"))
    else:
        yield from _acme_faults(tls.acme, child(path, "acme"))
        yield from pem_faults(tls.client_ca, child(path, "client_ca"))
        if tls.client_auth == "required" and not tls.client_ca:
            yield missing(child(path, "client_ca"), child(path, "client_auth"))
    for name in ("client_ca", "certificates", "allowed_names", "crl"):
        if getattr(tls, name, None) and not given and not tls.enabled:
            yield missing(child(path, "cert"), child(path, name))
    for place, cert_file, key_file in _pairs(tls, path):
        yield from pair_faults(cert_file, key_file, place)


def _pairs(tls: ServerTlsConfig | ClusterTlsConfig, path: str) -> Iterator[tuple[str, str, str]]:
    """The certificates of a section, each with its place and its key."""
    if tls.cert or tls.key:
        yield path, tls.cert, tls.key
    if isinstance(tls, ServerTlsConfig):
        for index, further in enumerate(tls.certificates):
            yield child(child(path, "certificates"), index), further.cert, further.key


def pair_faults(cert_file: str, key_file: str, path: str) -> Iterator[Contradiction]:
    """A certificate and its key that, if they are named, can be used together."""
    faults = [*pem_faults(cert_file, child(path, "cert")), *pem_faults(key_file, child(path, "key"), key=True)]
    yield from faults
    if faults or not (cert_file and key_file):
        return
    from pico_twisted.config.pem import UnusableCertificateError, load_pair

    try:
        load_pair(cert_file, key_file)
    except UnusableCertificateError as error:
        yield unusable(error, child(path, "cert" if error.path == cert_file else "key")), ()


def _acme_faults(acme: AcmeConfig, path: str) -> Iterator[Contradiction]:
    """A section that orders a certificate: what it needs besides the names."""
    names = child(path, "names")
    if acme.enabled and not acme.agree_tos:
        expected = f"true, because {names} is set, and nobody agrees to the terms of a server for you"
        yield Fault(path=child(path, "agree_tos"), found="false", expected=expected), (names,)
    if acme.enabled and not acme.storage:
        fault = Fault(path=child(path, "storage"), found="nothing", expected=f"a directory, because {names} is set")
        yield fault, (names,)
    if acme.http_addr is not None and not acme.enabled:
        fault = Fault(path=names, found="nothing", expected=f"host names, because {child(path, 'http_addr')} is set")
        yield fault, (child(path, "http_addr"),)
    yield from pem_faults(acme.ca, child(path, "ca"))


def _crl_faults(tls: ClusterTlsConfig, path: str) -> Iterator[Contradiction]:
    """A list of revoked certificates that, if one is named, can be used with the authorities."""
    unreadable = list(file_faults(tls.crl, path))
    yield from unreadable
    if not tls.crl or unreadable or not (authorities := _readable(tls.ca)):
        return
    from pico_twisted.config.pem import UnusableCertificateError, load_revoked

    try:
        load_revoked(tls.crl, authorities)
    except UnusableCertificateError as error:
        yield unusable(error, path), ()


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


def unusable(error: UnusableCertificateError, path: str) -> Fault:
    """A PEM file that cannot be used, at its key."""
    found = f"{shown(error.path, MAX_FILE_NAME_SHOWN)}, which {error.reason}"
    return Fault(path=path, found=found, expected="a PEM file that can be used")


def _chains(config: NodeConfig | AgentConfig) -> Iterator[tuple[str, str, Sequence[x509.Certificate]]]:
    """The key, the file and the content of each chain that can be read."""
    if isinstance(config, NodeConfig):
        for path, tls in tls_sections(config).items():
            if not tls.enabled:
                continue
            for place, cert_file, _ in _pairs(tls, path):
                if chain := _readable(cert_file):
                    yield child(place, "cert"), cert_file, chain
    else:
        shown = {"connect.tls.cert": config.connect.tls.cert}
        for index, listener in enumerate(config.listeners):
            shown[child(child("listeners", index), "tls.cert")] = listener.tls.cert
        for path, cert_file in shown.items():
            if cert_file and (chain := _readable(cert_file)):
                yield path, cert_file, chain


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


def missing(path: str, *given: str) -> Contradiction:
    """A file that is not named, though keys are set that need it."""
    return Fault(path=path, found="nothing", expected=f"a file, because {given[0]} is set"), given


def pem_faults(file_name: str, path: str, *, key: bool = False) -> Iterator[Contradiction]:
    """A file that, if one is named, is readable and holds certificates or a private key."""
    unreadable = list(file_faults(file_name, path))
    yield from unreadable
    if unreadable or not file_name:
        return
    from pico_twisted.config.pem import UnusableCertificateError, load_certificates, load_key

    try:
        (load_key if key else load_certificates)(file_name)
    except UnusableCertificateError as error:
        yield unusable(error, path), ()


def file_faults(file_name: str, path: str) -> Iterator[Contradiction]:
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
