"""Whether a peer's certificate is accepted, and why not, in words.

OpenSSL's own error says only "certificate verify failed". But it asks a callback about each certificate of the chain,
and there it is known which one is refused and why: the reason is put into words and ends the connection.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.x509.oid import NameOID
from OpenSSL import SSL, crypto
from twisted.internet.interfaces import ISSLTransport, ITransport
from twisted.logger import Logger

log = Logger()

Objection = Callable[[x509.Certificate, int, int], str]
"""Why a certificate is refused, as words; nothing when it is accepted. It is given the certificate, OpenSSL's error
number (0 when OpenSSL accepts it), and the place in the chain, where 0 is the peer's own."""


def no_objection(certificate: x509.Certificate, error: int, depth: int) -> str:
    """Accept whatever OpenSSL accepts; an `Objection`."""
    return ""


class RefusedCertificateError(Exception):
    """We refuse a peer's certificate. The text says why."""


def verify_peer(
    connection: SSL.Connection, objection: Objection, refuse: Callable[[str], None], *, required: bool = True
) -> None:
    """Ask a peer for its certificate, and look at it.

    Args:
        connection: before its handshake.
        objection: asked about each certificate of the chain, from the authority's down to the peer's own.
        refuse: told why, when one is refused; the handshake fails then.
        required: whether a client has to show one. A server always does.
    """

    def verify(_: SSL.Connection, certificate: crypto.X509, error: int, depth: int, ok: int) -> bool:
        try:
            words = objection(certificate.to_cryptography(), 0 if ok else error, depth)
        except Exception:
            # Raised in here it would be lost inside OpenSSL.
            log.failure("A certificate could not be checked")
            words = "the certificate could not be checked"
        if words:
            refuse(words)
        return not words

    connection.set_verify(SSL.VERIFY_PEER | (SSL.VERIFY_FAIL_IF_NO_PEER_CERT if required else 0), verify)


def client_certificate(transport: ITransport | None) -> bytes | None:
    """Return the certificate that the client of a connection showed, in DER; None when it showed none.

    Args:
        transport: of a protocol that a port serves. The certificate was verified in the handshake, against the
            `tls.client_ca` of the port and nothing else; a port without that asks for none.
    """
    tls = ISSLTransport(transport, None)
    shown = None if tls is None else tls.getPeerCertificate()
    return crypto.dump_certificate(crypto.FILETYPE_ASN1, shown) if isinstance(shown, crypto.X509) else None


_NOT_YET_VALID, _EXPIRED = 9, 10
_SELF_SIGNED, _SELF_SIGNED_IN_CHAIN = 18, 19
_UNKNOWN_ISSUER: Final = frozenset((2, 20, 21))
REVOKED: Final = 23
"""X509_V_ERR_CERT_REVOKED of OpenSSL."""
_OTHER_FAULTS: Final = {
    7: "its signature is wrong",
    22: "its chain is too long",
    REVOKED: "it was revoked",
    24: "one that signed it is no certificate authority",
    25: "its chain is longer than one of its issuers allows",
    26: "it was issued for another purpose: its extended key usage says for what",
    28: "one of its issuers is not trusted for this",
    47: "one of its issuers may not sign for this name",
    66: "its key is too weak",
    67: "the key of one that signed it is too weak",
    68: "its signature uses a weak digest",
}


def refusal_words(certificate: x509.Certificate, error: int, depth: int) -> str:
    """Why OpenSSL refuses a certificate; an `Objection`."""
    if not error:
        return ""
    subject, issuer = _common_name(certificate.subject), _common_name(certificate.issuer)
    which = f"the certificate ({subject})" if depth == 0 else f"a certificate of its chain ({subject})"
    if error == _EXPIRED:
        return f"{which} has expired on {_day(certificate.not_valid_after_utc)}"
    if error == _NOT_YET_VALID:
        return f"{which} is not valid before {_day(certificate.not_valid_before_utc)}; is this machine's clock right?"
    if error == _SELF_SIGNED:
        return f"{which} is self-signed and not among the trusted ones"
    if error == _SELF_SIGNED_IN_CHAIN:
        return f"the certificate was issued by an authority that is not trusted here ({subject})"
    if error in _UNKNOWN_ISSUER:
        return f"{which} was issued by an authority that is not known here ({issuer}), or its chain is incomplete"
    return f"{which} is refused: {_OTHER_FAULTS.get(error, f'OpenSSL error {error}')}"


def _day(when: datetime) -> str:
    return when.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def _common_name(name: x509.Name) -> str:
    for kind in (NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME):
        found = name.get_attributes_for_oid(kind)
        if found:
            return clean(str(found[0].value))
    return clean(name.rfc4514_string()) or "no name"


def clean(text: str) -> str:
    """What a peer's certificate says, fit for a line of text."""
    return re.sub(r"[^\x20-\x7e]", "?", text)[:100]
