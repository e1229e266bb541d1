"""Certificates and keys in PEM files: what is in them, whether they belong together, and for how long they are good.

A daemon loads what it serves with through these functions, and so does a check of the configuration: what passes the
check is what the daemon takes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Final

import attrs
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

MAX_BYTES: Final = 4 << 20
"""Most bytes that are read of a PEM file. A system's bundle of authorities, the largest there is, has a quarter of a
megabyte."""
SOON: Final = timedelta(days=14)
"""How long before its end a certificate is warned of: renewals run a month before it, so by then one has failed."""

_CERTIFICATE: Final = b"-----BEGIN CERTIFICATE-----"
_CRL: Final = re.compile(rb"-----BEGIN X509 CRL-----.*?-----END X509 CRL-----", re.DOTALL)
_KEY: Final = re.compile(rb"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----")

PrivateKey = (
    dsa.DSAPrivateKey
    | ec.EllipticCurvePrivateKey
    | ed448.Ed448PrivateKey
    | ed25519.Ed25519PrivateKey
    | rsa.RSAPrivateKey
)


class UnusableCertificateError(ValueError):
    """A certificate, key or bundle that cannot be used.

    Attributes:
        path: the file.
        reason: what is wrong with it.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


@attrs.frozen(kw_only=True)
class Pair:
    """A certificate with those that certify it, and its key.

    Attributes:
        chain: the certificate first.
        key: of the certificate.
    """

    chain: tuple[x509.Certificate, ...]
    key: PrivateKey


@attrs.frozen(kw_only=True)
class Revoked:
    """Certificates that count no longer.

    Attributes:
        serials: of each the issuer in DER, and the number that it gave.
        until: when there should be a newer list; None when that was not said.
    """

    serials: frozenset[tuple[bytes, int]] = frozenset()
    until: datetime | None = None

    def __contains__(self, certificate: x509.Certificate) -> bool:
        return (certificate.issuer.public_bytes(), certificate.serial_number) in self.serials


def read_pem(path: str) -> bytes:
    """The bytes of a file.

    Raises:
        UnusableCertificateError: it cannot be read, or is too long for a PEM file.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UnusableCertificateError(path, f"cannot be read: {error.strerror}") from None
    if len(data) > MAX_BYTES:
        raise UnusableCertificateError(path, f"is longer than {MAX_BYTES >> 20} MiB")
    return data


def load_certificates(path: str) -> list[x509.Certificate]:
    """The certificates in a PEM file, at least one, in their order.

    Raises:
        UnusableCertificateError: there is none, or one is damaged.
    """
    data = read_pem(path)
    if _CERTIFICATE not in data:
        instead = "a private key and " if _KEY.search(data) else ""
        raise UnusableCertificateError(path, f"holds {instead}no certificate in PEM form")
    try:
        return x509.load_pem_x509_certificates(data)
    except ValueError as error:
        raise UnusableCertificateError(path, f"holds a damaged certificate: {_first_line(error)}") from None


def load_revoked(path: str, authorities: Sequence[x509.Certificate]) -> Revoked:
    """What the lists of revoked certificates (CRL, RFC 5280 5) in a PEM file say, at least one list.

    Args:
        path: the file.
        authorities: who may revoke.

    Raises:
        UnusableCertificateError: there is no list, one is damaged, or none of the authorities has signed it.
    """
    lists = _CRL.findall(read_pem(path))
    if not lists:
        raise UnusableCertificateError(path, "holds no list of revoked certificates in PEM form")
    serials: set[tuple[bytes, int]] = set()
    until: list[datetime] = []
    for pem in lists:
        try:
            found = x509.load_pem_x509_crl(pem)
            signed = any(_signed_by(found, one) for one in authorities)
            serials.update((found.issuer.public_bytes(), entry.serial_number) for entry in found)
        except ValueError as error:
            raise UnusableCertificateError(path, f"holds a damaged list: {_first_line(error)}") from None
        if not signed:
            issuer = found.issuer.rfc4514_string()
            raise UnusableCertificateError(path, f"holds a list that no authority of ca has signed (of {issuer})")
        if found.next_update_utc is not None:
            until.append(found.next_update_utc)
    return Revoked(serials=frozenset(serials), until=min(until, default=None))


def _signed_by(found: x509.CertificateRevocationList, authority: x509.Certificate) -> bool:
    if found.issuer != authority.subject:
        return False
    try:
        return found.is_signature_valid(authority.public_key())  # type: ignore[arg-type]  # others raise
    except (TypeError, UnsupportedAlgorithm):
        return False


def load_key(path: str) -> PrivateKey:
    """The private key in a PEM file.

    Raises:
        UnusableCertificateError: there is none, or it is encrypted, damaged or of a kind that signs nothing.
    """
    data = read_pem(path)
    if not _KEY.search(data):
        instead = "a certificate and " if _CERTIFICATE in data else ""
        raise UnusableCertificateError(path, f"holds {instead}no private key in PEM form")
    try:
        key = load_pem_private_key(data, password=None)
    except TypeError:
        raise UnusableCertificateError(path, "is encrypted: a key without passphrase is needed") from None
    except (ValueError, UnsupportedAlgorithm):
        raise UnusableCertificateError(path, "holds a damaged key") from None
    if not isinstance(key, PrivateKey):
        raise UnusableCertificateError(path, "holds a key of a kind that no certificate has")
    return key


def load_pair(cert_file: str, key_file: str) -> Pair:
    """A certificate, its chain and its key.

    Args:
        cert_file: PEM, the certificate first, then those that certify it.
        key_file: PEM, not encrypted.

    Raises:
        UnusableCertificateError: one of them cannot be used, or they do not belong together.
    """
    chain = load_certificates(cert_file)
    key = load_key(key_file)
    wanted = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    owners = [place for place, one in enumerate(chain, 1) if public_key_of(one) == wanted]
    if not owners:
        raise UnusableCertificateError(key_file, f"is not the key of the certificate in {cert_file}")
    if owners[0] > 1:
        reason = f"has its own certificate as number {owners[0]} of its chain, and has to begin with it"
        raise UnusableCertificateError(cert_file, reason)
    return Pair(chain=tuple(chain), key=key)


def public_key_of(certificate: x509.Certificate) -> bytes:
    """The public key of a certificate in DER; empty when it is of a kind that is not known."""
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return b""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def server_names(certificate: x509.Certificate) -> list[str]:
    """The host names that a certificate is for, as they stand in it; some may begin with `*.`."""
    return _alternative_names(certificate, x509.DNSName)


def node_names(certificate: x509.Certificate) -> list[str]:
    """The host names and URIs in a certificate, as they stand in it."""
    return [*server_names(certificate), *_alternative_names(certificate, x509.UniformResourceIdentifier)]


def _alternative_names(
    certificate: x509.Certificate, kind: type[x509.DNSName | x509.UniformResourceIdentifier]
) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return []
    return names.get_values_for_type(kind)


def good_until(certificates: Sequence[x509.Certificate]) -> datetime:
    """When the first of some certificates, at least one, expires."""
    return min(one.not_valid_after_utc for one in certificates)


def day(when: datetime) -> str:
    """The day of a moment, `2027-02-26`, in UTC."""
    return when.astimezone(UTC).strftime("%Y-%m-%d")


def refused_for(certificates: Sequence[x509.Certificate], now: datetime) -> str:
    """Why whoever looks at the clock refuses a chain, as words that follow the name of its file; else nothing."""
    if (until := good_until(certificates)) <= now:
        return f"expired on {day(until)}"
    if (since := max(one.not_valid_before_utc for one in certificates)) > now:
        return f"is not valid before {day(since)}"
    return ""


def doubts(certificates: Sequence[x509.Certificate], now: datetime) -> Iterator[str]:
    """What an operator should know of a chain that can be used, as words that follow the name of its file."""
    if now < (until := good_until(certificates)) <= now + SOON:
        yield f"expires on {day(until)}"
    for place, (below, above) in enumerate(pairwise(certificates), 2):
        if below.issuer != above.subject:
            yield f"has a certificate {place} that did not sign the one before it: some clients refuse such a chain"
            break


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
