"""Mutual TLS of node links: a certificate of the cluster's own authority means a node of the cluster.

Both ends show a certificate, and both check that the authority of `cluster.tls.ca` signed the other's. Names in
certificates are not checked: nodes are dialled by whatever address gossip has for them, and which node answers is told,
and with a secret proven, in the handshake of the link. A certificate's purpose is not checked either: one that was
issued for servers alone serves both roles. So the authority must sign nothing but nodes of this cluster.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from cryptography import x509
from OpenSSL import SSL, crypto
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from pico_twisted.net.tls.certificates import new_context, trust_only, use_own
from pico_twisted.net.tls.client import RefusedCertificateError, refusal_words
from pico_twisted.net.tls.server import ServerContext

log = Logger()

_WRONG_PURPOSE: Final = 26
"""X509_V_ERR_INVALID_PURPOSE of OpenSSL."""


@implementer(IOpenSSLClientConnectionCreator)
class LinkTls(ServerContext):
    """The TLS of a node's links, in both roles.

    Args:
        cert_file: PEM, the node's own certificate first, then its chain.
        key_file: PEM, not encrypted.
        ca_file: PEM; whatever is in it is trusted.
    """

    def __init__(self, cert_file: str, key_file: str, ca_file: str) -> None:
        self.ca_file = ca_file
        self._trusted: Sequence[x509.Certificate] = ()
        super().__init__(cert_file, key_file)

    def become(self, other: ServerContext) -> None:
        """See `ServerContext.become`."""
        super().become(other)
        if isinstance(other, LinkTls):
            self.ca_file = other.ca_file
            self._trusted = other._trusted

    @property
    def in_use(self) -> Sequence[x509.Certificate]:
        """All certificates on which something depends: those that are shown, and those that are trusted."""
        return (*self.chain, *self._trusted)

    def _load(self) -> SSL.Context:
        context = new_context()
        pair = use_own(context, self.cert_file, self.key_file)
        self._trusted = trust_only(context, self.ca_file)
        self.chain = pair.chain
        # Without an ID of its own OpenSSL refuses to resume a session in which the client showed a certificate.
        context.set_session_id(b"pico node link")
        return context

    def serverConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        def refuse(words: str) -> None:
            # OpenSSL tells the peer, who needs it more: with TLS 1.3 the peer believes that all went well.
            log.info("A node's certificate is refused: {reason}", reason=words, peer=str(tlsProtocol.getPeer()))

        return self._connection(refuse)

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        def refuse(words: str) -> None:
            tlsProtocol.failVerification(Failure(RefusedCertificateError(words)))

        return self._connection(refuse)

    def _connection(self, refuse: Callable[[str], None]) -> SSL.Connection:
        connection = SSL.Connection(self.getContext(), None)

        def verify(_: SSL.Connection, certificate: crypto.X509, error: int, depth: int, ok: int) -> bool:
            if ok or (depth == 0 and error == _WRONG_PURPOSE):
                return True
            refuse(refusal_words(certificate.to_cryptography(), error, depth))
            return False

        connection.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, verify)
        return connection
