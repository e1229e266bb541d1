"""Mutual TLS of node links: a certificate of the cluster's own authority means a node of the cluster.

Both ends show a certificate, and both check that the authority of `cluster.tls.ca` signed the other's, that no list in
`cluster.tls.crl` revokes it, and that it has one of `cluster.tls.allowed_names`, if there are any. Nothing ties a name
to an address or a node ID: nodes are dialled by whatever address gossip has for them, and which node answers is told,
and with a secret proven, in the handshake of the link. A certificate's purpose is not checked either: one that was
issued for servers alone serves both roles.

A link lasts for weeks. So when other files are used, the certificates of those that are open are looked at again.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Final, Self

import attrs
from cryptography import x509
from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from pico_twisted.config import ClusterTlsConfig, ServerTlsConfig
from pico_twisted.config.pem import load_revoked, node_names
from pico_twisted.net.tls.port_context import REQUIRED, Loaded, ServerContext
from pico_twisted.net.tls.transport import TlsTransport
from pico_twisted.net.tls.verification import REVOKED, RefusedCertificateError, clean, refusal_words, verify_peer

_WRONG_PURPOSE: Final = 26
"""X509_V_ERR_INVALID_PURPOSE of OpenSSL."""


@implementer(IOpenSSLClientConnectionCreator)
class LinkTls(ServerContext):
    """The TLS of a node's links, in both roles.

    Args:
        cluster: the files, and which names are of nodes. Whatever is in `ca` is trusted.
    """

    def __init__(self, cluster: ClusterTlsConfig) -> None:
        self.cluster = cluster
        self._allowed = [_pattern(name) for name in cluster.allowed_names]
        super().__init__(
            ServerTlsConfig(cert=cluster.cert, key=cluster.key, client_ca=cluster.ca, client_auth=REQUIRED)
        )

    @property
    def files(self) -> Iterator[str]:
        """See `ServerContext.files`."""
        yield from super().files
        if self.cluster.crl:
            yield self.cluster.crl

    @property
    def expiry(self) -> dict[str, datetime]:
        """See `ServerContext.expiry`."""
        until = self.loaded.revoked.until
        return super().expiry if until is None else {**super().expiry, self.cluster.crl: until}

    def again(self) -> Self:
        """See `ServerContext.again`."""
        return type(self)(self.cluster)

    def become(self, other: ServerContext) -> None:
        """See `ServerContext.become`. Links end whose peers would be refused now."""
        assert isinstance(other, LinkTls)
        self.cluster, self._allowed = other.cluster, other._allowed
        super().become(other)
        self._look_again()

    def _look_again(self) -> None:
        self._end(lambda chain: next(filter(None, (self.objection(one, 0, at) for at, one in enumerate(chain))), ""))

    def _load(self) -> Loaded:
        loaded = super()._load()
        if not self.cluster.crl:
            return loaded
        return attrs.evolve(loaded, revoked=load_revoked(self.cluster.crl, loaded.trusted))

    def serverConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        assert isinstance(tlsProtocol, TlsTransport)
        return self._connection(tlsProtocol, tlsProtocol.refuse)

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        return self._connection(
            tlsProtocol, lambda words: tlsProtocol.failVerification(Failure(RefusedCertificateError(words)))
        )

    def _connection(self, protocol: TLSMemoryBIOProtocol, refuse: Callable[[str], None]) -> SSL.Connection:
        connection = SSL.Connection(self.getContext(), None)
        verify_peer(connection, self.objection, refuse)
        self._watch(connection, protocol)
        return connection

    def objection(self, certificate: x509.Certificate, error: int, depth: int) -> str:
        """Why a node's certificate is refused; see `Objection`."""
        if words := self.revocation(certificate, 0 if depth == 0 and error == _WRONG_PURPOSE else error, depth):
            return words
        if depth or not self._allowed:
            return ""
        names = node_names(certificate)
        if any(pattern.fullmatch(name) for name in names for pattern in self._allowed):
            return ""
        held = ", ".join(clean(name) for name in itertools.islice(names, 10)) or "no name"
        return f"the certificate is for {held}, which cluster.tls.allowed_names does not have"

    def revocation(self, certificate: x509.Certificate, error: int, depth: int) -> str:
        """Why a certificate of the same authority is refused that need not be of a node; see `Objection`."""
        if not error and certificate in self.loaded.revoked:
            error = REVOKED
        return refusal_words(certificate, error, depth)


def _pattern(name: str) -> re.Pattern[str]:
    """A name with `*` for any characters of one label of a DNS name, or of one segment of a URI."""
    uri = "://" in name
    part = "[^/]*" if uri else "[^.]*"
    return re.compile(part.join(map(re.escape, name.split("*"))), re.NOFLAG if uri else re.IGNORECASE)
