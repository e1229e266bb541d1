"""TLS for the connections that an agent makes, and why it failed.

The server's certificate and name are checked as OpenSSL and `service_identity` do it. `explain_tls` finds the words for
a failure.
"""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from cryptography import x509
from cryptography.x509.oid import ExtensionOID
from OpenSSL import SSL
from service_identity import CertificateError, VerificationError
from service_identity.hazmat import (
    DNS_ID,
    CertificatePattern,
    DNSPattern,
    IPAddress_ID,
    IPAddressPattern,
    verify_service_identity,
)
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from pico_twisted.config.pem import UnusableCertificateError
from pico_twisted.net.tls.certificates import new_context, openssl_reasons, trust_only, use_own
from pico_twisted.net.tls.verification import (
    Objection,
    RefusedCertificateError,
    clean,
    no_objection,
    refusal_words,
    verify_peer,
)

log = Logger()

HTTP1_ONLY: Final = (b"http/1.1",)
"""What a server is offered that is to speak HTTP/1.1."""


@implementer(IOpenSSLClientConnectionCreator)
class ClientTls:
    """TLS to one server. See `client_tls`."""

    def __init__(
        self, hostname: str, context: SSL.Context, verify: bool, further: Objection, alpn: Sequence[bytes]
    ) -> None:
        self._further = further
        self._alpn = list(alpn)
        self.hostname = hostname
        self._context = context
        self._verify = verify
        self._is_address = isIPAddress(hostname) or isIPv6Address(hostname)

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        connection = SSL.Connection(self._context, None)
        connection.set_alpn_protos(self._alpn)
        if not self._is_address:
            connection.set_tlsext_host_name(_idna(self.hostname))
        if not self._verify:
            connection.set_verify(SSL.VERIFY_NONE)
            return connection

        verify_peer(
            connection,
            self._objection,
            lambda words: tlsProtocol.failVerification(Failure(RefusedCertificateError(words))),
        )
        return connection

    def _objection(self, certificate: x509.Certificate, error: int, depth: int) -> str:
        if words := refusal_words(certificate, error, depth) or self._further(certificate, error, depth):
            return words
        if depth > 0:
            return ""
        wanted = IPAddress_ID(self.hostname) if self._is_address else DNS_ID(_idna(self.hostname).decode("ascii"))
        usable, others = _names(certificate)
        try:
            verify_service_identity(list(usable.values()), [wanted], [])
        except (VerificationError, CertificateError):
            held = f"for {_listed(usable)}" if usable else "without any name"
            beside = f" (but {_listed(others)}: too wide, or no name, and not used)" if others else ""
            return f"the certificate is {held}{beside}, not for {self.hostname}"
        return ""


def client_tls(
    hostname: str,
    root_cas: str = "",
    *,
    verify: bool = True,
    cert: str = "",
    key: str = "",
    further: Objection = no_objection,
    alpn: Sequence[bytes] = HTTP1_ONLY,
) -> ClientTls:
    """How to speak TLS to a server: TLS 1.2 or 1.3, its certificate and name checked.

    Files that have changed are read again. Those that cannot be used are told once, and what was read before counts.

    Args:
        hostname: a name or an IP address, as in the URL and without brackets.
        root_cas: a PEM file with the certificates to trust; the system's when empty.
        verify: whether the certificate is looked at. Without that anybody can be the server.
        cert: a PEM file with our own certificate and its chain, which we show to a server that asks for one.
        key: a PEM file with its key.
        further: asked about each certificate that OpenSSL accepts.
        alpn: the protocols that the server is offered, the best one first (RFC 7301).

    Raises:
        UnusableCertificateError: a file cannot be used, and never could.
    """
    files = tuple(filter(None, (root_cas, cert, key)))
    try:
        context = _context(root_cas, cert, key, tuple(_stamp(name) for name in files))
        _doubtful.discard(files)
    except UnusableCertificateError as error:
        before = _last_good.get(files)
        if before is None:
            raise
        context = before
        if files not in _doubtful:
            _doubtful.add(files)
            log.error("Files have changed and are not used, those before stay: {fault}", fault=str(error))
    _last_good[files] = context
    return ClientTls(hostname, context, verify, further, alpn)


_last_good: dict[tuple[str, ...], SSL.Context] = {}
"""What was read last that could be used, by the names of the files: as many as a configuration names."""
_doubtful: set[tuple[str, ...]] = set()
"""Those of which it was told that they cannot be used now."""


def _stamp(path: str) -> tuple[int, int, int]:
    try:
        found = os.stat(path)
    except OSError as error:
        raise UnusableCertificateError(path, f"cannot be read: {error.strerror}") from None
    return found.st_ino, found.st_mtime_ns, found.st_size


@functools.lru_cache(maxsize=8)
def _context(root_cas: str, cert: str, key: str, stamps: tuple[tuple[int, int, int], ...]) -> SSL.Context:
    """The settings for some files. They are kept, since reading a system's hundred roots takes milliseconds."""
    context = new_context()
    if root_cas:
        trust_only(context, root_cas)
    else:
        context.set_default_verify_paths()
    if cert:
        use_own(context, cert, key)
    return context


def _idna(hostname: str) -> bytes:
    name = hostname.rstrip(".")
    try:
        return name.encode("ascii")
    except UnicodeEncodeError:
        return name.encode("idna")


def _names(certificate: x509.Certificate) -> tuple[dict[str, CertificatePattern], list[str]]:
    """The names that a certificate is for, and those in it that cannot be used, such as `*.lan`.

    One of the latter says nothing about the others (RFC 9525 6.3: a name of an unknown form is skipped).
    """
    try:
        names = certificate.extensions.get_extension_for_oid(ExtensionOID.SUBJECT_ALTERNATIVE_NAME).value
    except x509.ExtensionNotFound:
        return {}, []
    assert isinstance(names, x509.SubjectAlternativeName)
    usable: dict[str, CertificatePattern] = {}
    others: list[str] = []
    for name in names.get_values_for_type(x509.DNSName):
        try:
            usable[name] = DNSPattern.from_bytes(name.encode("utf-8"))
        except CertificateError:
            others.append(name)
    for address in names.get_values_for_type(x509.IPAddress):
        if isinstance(address, IPv4Address | IPv6Address):  # the type has networks too, for constraints
            usable[str(address)] = IPAddressPattern(address)
    return usable, others


def _listed(names: Iterable[str]) -> str:
    return ", ".join(clean(name) for name in itertools.islice(names, 10))


_EXPLAINED: Final = {
    "the server does not speak TLS on this port (plain HTTP?)": (
        "http request",
        "wrong version number",
        "packet length too long",
        "record layer failure",
    ),
    "no common TLS version: 1.2 or 1.3 is needed": (
        "unsupported protocol",
        "alert protocol version",
        "no protocols available",
        "version too low",
    ),
    "no common ground in the TLS handshake (ciphers or certificates)": (
        "handshake failure",
        "no shared cipher",
        "no ciphers available",
    ),
    "the server does not offer HTTP/1.1": ("no application protocol",),
    "the server wants a client certificate": ("alert certificate required", "alert bad certificate"),
    "the server has no certificate for this name": ("unrecognized name",),
    "the server closed the connection during the TLS handshake": ("unexpected eof",),
    "the server's certificate was refused": ("certificate verify failed",),
}
"""Our words for a failure of TLS, with what OpenSSL says in those cases."""


def explain_tls(failure: Failure) -> str | None:
    """Why TLS failed, in words for a log line; None when the failure is not about TLS.

    Args:
        failure: of a connection, or of a request whose failure holds the connection's in `reasons`.
    """
    return _explain(failure.value)


def _explain(error: BaseException | None) -> str | None:
    if isinstance(error, RefusedCertificateError | UnusableCertificateError):
        return str(error)
    if isinstance(error, VerificationError):
        return "the certificate is for another name"
    if isinstance(error, SSL.Error):
        reasons = openssl_reasons(error)
        for words, signs in _EXPLAINED.items():
            if any(sign in reason for reason in reasons for sign in signs):
                return words
        return f"TLS failed: {'; '.join(reasons)}" if reasons else "TLS failed"
    reasons_inside = getattr(error, "reasons", None)
    if isinstance(reasons_inside, list | tuple):
        for reason in reasons_inside:
            words_inside = _explain(reason.value if isinstance(reason, Failure) else reason)
            if words_inside is not None:
                return words_inside
    return None
