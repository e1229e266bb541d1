"""Certificates of our own: made and signed here, and written as PEM files."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DEFAULT_NAMES = ("localhost", "127.0.0.1", "*.pico.test", "pico.test")


@dataclass(frozen=True)
class Pair:
    """A certificate and its key as PEM files."""

    cert: Path
    key: Path


@dataclass(frozen=True, kw_only=True)
class Made:
    """A certificate with its key, in memory and as PEM files."""

    cert: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    cert_file: str
    key_file: str

    @property
    def pem(self) -> bytes:
        """The certificate alone."""
        return self.cert.public_bytes(serialization.Encoding.PEM)

    @property
    def pair(self) -> Pair:
        """Its files."""
        return Pair(Path(self.cert_file), Path(self.key_file))


def make(
    directory: Path,
    name: str,
    *,
    issuer: Made | None = None,
    names: tuple[str, ...] = ("localhost", "127.0.0.1"),
    authority: bool = False,
    days: tuple[float, float] = (-1, 7),
    client: bool = False,
) -> Made:
    """Make a certificate, and write it with its issuer's chain behind it.

    Args:
        directory: where its files go; older ones of the same name are overwritten.
        name: of the certificate and of its files.
        issuer: who signs it; None for itself.
        names: hosts, addresses and URIs that it is for.
        authority: it may sign others.
        days: from today, when its time begins and ends.
        client: it is for clients instead of servers.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    signing = issuer.key if issuer else key
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.cert.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + datetime.timedelta(days=days[0]))
        .not_valid_after(now + datetime.timedelta(days=days[1]))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key()), critical=False)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([_alternative(n) for n in names]), critical=False)
    if authority:
        may_sign = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
        builder = builder.add_extension(may_sign, critical=True)
    else:
        purpose = ExtendedKeyUsageOID.CLIENT_AUTH if client else ExtendedKeyUsageOID.SERVER_AUTH
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    cert = builder.sign(signing, hashes.SHA256())
    above = Path(issuer.cert_file).read_bytes() if issuer else b""
    cert_file, key_file = directory / f"{name}.pem", directory / f"{name}.key"
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    made = Made(cert=cert, key=key, cert_file=str(cert_file), key_file=str(key_file))
    cert_file.write_bytes(made.pem + above)
    return made


def _alternative(name: str) -> x509.GeneralName:
    if "://" in name:
        return x509.UniformResourceIdentifier(name)
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


class Authority:
    """A certificate authority that lives in one directory.

    Args:
        directory: where the PEM files go.
        name: tells authorities apart, in file names and in the certificate.
    """

    def __init__(self, directory: Path, name: str = "authority") -> None:
        self._directory = directory
        self._made = make(directory, name, names=(), authority=True)
        self.ca = Path(self._made.cert_file)

    def issue(self, name: str, names: tuple[str, ...] = DEFAULT_NAMES, *, client: bool = False) -> Pair:
        """A certificate for some host names, addresses and URIs, of a server or a client; overwrites an older one of
        the same name. The authority is not in its file."""
        made = make(self._directory, name, issuer=self._made, names=names, client=client)
        made.pair.cert.write_bytes(made.pem)
        return made.pair

    def revoke(self, *pairs: Pair, days: tuple[int, int] = (-1, 7)) -> Path:
        """Write the list of these certificates, as the authority's only list.

        Args:
            pairs: the certificates that count no longer.
            days: from today, when the list was made and when there should be a newer one.
        """
        now = datetime.datetime.now(datetime.UTC)
        made, until = (now + datetime.timedelta(days=one) for one in days)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._made.cert.subject)
            .last_update(made)
            .next_update(until)
        )
        for pair in pairs:
            serial = x509.load_pem_x509_certificate(pair.cert.read_bytes()).serial_number
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(made)
            builder = builder.add_revoked_certificate(entry.build())
        path = self.ca.with_suffix(".crl")
        path.write_bytes(builder.sign(self._made.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        return path

    def client_context(self) -> ssl.SSLContext:
        """What a client needs to trust this authority."""
        return ssl.create_default_context(cafile=str(self.ca))

    def server_context(self, pair: Pair) -> ssl.SSLContext:
        """What a server needs to show a certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.cert, pair.key)
        return context


@dataclass(frozen=True)
class Tls:
    """What is needed for TLS on every port."""

    authority: Authority
    pair: Pair
    context: ssl.SSLContext

    @classmethod
    def make(cls, directory: Path) -> Tls:
        """An authority, and one certificate for all ports of all nodes."""
        authority = Authority(directory)
        return cls(authority, authority.issue("server"), authority.client_context())

    @property
    def section(self) -> dict[str, str]:
        """A `tls` section of a node's configuration."""
        return {"cert": str(self.pair.cert), "key": str(self.pair.key)}
