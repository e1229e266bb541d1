"""Mutual TLS of node links: a certificate of the cluster's own authority means a node of the cluster.

Both ends show a certificate, and both check that the authority of `cluster.tls.ca` signed the other's. Names in
certificates are not checked: nodes are dialled by whatever address gossip has for them, and which node answers is told,
and with a secret proven, in the handshake of the link. A certificate's purpose is not checked either: one that was
issued for servers alone serves both roles. So the authority must sign nothing but nodes of this cluster.
"""

from __future__ import annotations

from typing import Final, Self

from cryptography import x509
from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from pico_twisted.config import ClusterTlsConfig, ServerTlsConfig
from pico_twisted.net.tls.port_context import REQUIRED, ServerContext
from pico_twisted.net.tls.verification import RefusedCertificateError, verify_peer

_WRONG_PURPOSE: Final = 26
"""X509_V_ERR_INVALID_PURPOSE of OpenSSL."""


@implementer(IOpenSSLClientConnectionCreator)
class LinkTls(ServerContext):
    """The TLS of a node's links, in both roles.

    Args:
        cluster: the files. Whatever is in `ca` is trusted.
    """

    def __init__(self, cluster: ClusterTlsConfig) -> None:
        self.cluster = cluster
        super().__init__(
            ServerTlsConfig(cert=cluster.cert, key=cluster.key, client_ca=cluster.ca, client_auth=REQUIRED)
        )

    def again(self) -> Self:
        """See `ServerContext.again`."""
        return type(self)(self.cluster)

    def become(self, other: ServerContext) -> None:
        """See `ServerContext.become`."""
        super().become(other)
        assert isinstance(other, LinkTls)
        self.cluster = other.cluster

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        connection = SSL.Connection(self.getContext(), None)
        verify_peer(
            connection,
            self.objection,
            lambda words: tlsProtocol.failVerification(Failure(RefusedCertificateError(words))),
        )
        return connection

    def objection(self, certificate: x509.Certificate, error: int, depth: int) -> str:
        """Why a node's certificate is refused; see `Objection`."""
        if depth == 0 and error == _WRONG_PURPOSE:
            return ""
        return super().objection(certificate, error, depth)
