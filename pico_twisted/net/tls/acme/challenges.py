"""What an ACME server asks to see whose a name is (RFC 8555 8.3, RFC 8737), and the answers of any node.

The node that orders tells all nodes what is to be answered, as it tells them of endpoints: the server asks whichever
node the name leads to. What is told is no secret: everybody gets it who asks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Final

from cryptography import x509
from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLContextFactory, IOpenSSLServerConnectionCreator
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

from pico_twisted.net.tls.acme.storage import new_key, self_signed
from pico_twisted.net.tls.certificates import new_context

HTTP_01: Final = "http-01"
"""A challenge that is answered over HTTP, at port 80."""
TLS_ALPN_01: Final = "tls-alpn-01"
"""A challenge that is answered in a TLS handshake, at port 443."""

ACME_TLS: Final = b"acme-tls/1"
"""The only protocol that a server offers which validates in a TLS handshake."""

_ACME_IDENTIFIER: Final = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31")
"""The extension that the answer is in, of a certificate that is for nothing else (RFC 8737 3)."""

Told = Callable[[str], Sequence[tuple[str, str]]]
"""Gives the nodes that say something under a key, and what: in the same order at all nodes."""


def challenge_key(kind: str, asked_for: str) -> str:
    """The key under which a node tells an answer.

    Args:
        kind: `HTTP_01` or `TLS_ALPN_01`.
        asked_for: the token of the one, the host name of the other: what the server names when it asks.
    """
    # A host name may be longer than a key of the gossip, and a token is whatever the server calls one.
    return f"acme-{kind}:{hashlib.sha256(asked_for.encode('utf-8')).hexdigest()}"


class Challenges:
    """The answers of all nodes.

    Args:
        told: gives what the nodes say.
    """

    def __init__(self, told: Told) -> None:
        self._told = told

    def answer(self, kind: str, asked_for: str) -> str | None:
        """The key authorization (RFC 8555 8.1) to answer with; None when nobody has ordered with this challenge."""
        told = self._told(challenge_key(kind, asked_for))
        return told[0][1] if told else None


@implementer(IOpenSSLContextFactory, IOpenSSLServerConnectionCreator)
class ValidationContext:
    """The TLS of those who validate in a handshake: a certificate with the answer, for the name that they want.

    Args:
        challenges: says what is to be answered. For other names there is no certificate, and the handshake fails.
    """

    def __init__(self, challenges: Challenges) -> None:
        self._challenges = challenges
        self._key = new_key()

    def getContext(self) -> SSL.Context:
        context = new_context()
        context.set_alpn_select_callback(lambda _, offered: ACME_TLS)
        return context

    def serverConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        context = self.getContext()
        context.set_tlsext_servername_callback(self._choose)
        return SSL.Connection(context, None)

    def _choose(self, connection: SSL.Connection) -> None:
        name = (connection.get_servername() or b"").decode("ascii", "replace").lower()
        answer = self._challenges.answer(TLS_ALPN_01, name)
        if answer is not None:
            digest = hashlib.sha256(answer.encode("ascii", "replace")).digest()
            proof = x509.UnrecognizedExtension(_ACME_IDENTIFIER, b"\x04\x20" + digest)  # an OCTET STRING of 32 bytes
            context = self.getContext()
            context.use_certificate(self_signed(self._key, [name], timedelta(days=1), proof))
            context.use_privatekey(self._key)
            connection.set_context(context)
