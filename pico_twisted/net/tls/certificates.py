"""Certificates and keys in PEM files, the TLS settings that both sides share, and what OpenSSL says when it refuses."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL, crypto

CIPHERS: Final = b"ECDHE+AESGCM:ECDHE+CHACHA20"
"""Ciphers of TLS 1.2: forward secrecy and authenticated encryption, which every client of the last ten years has. TLS
1.3 has no others."""

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


def read_pem(path: str) -> bytes:
    """The bytes of a file.

    Raises:
        UnusableCertificateError: it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise UnusableCertificateError(path, f"cannot be read: {error.strerror}") from None


def load_certificates(path: str) -> list[x509.Certificate]:
    """The certificates in a PEM file, at least one, in their order.

    Raises:
        UnusableCertificateError: there is none, or one is damaged.
    """
    data = read_pem(path)
    if b"-----BEGIN CERTIFICATE-----" not in data:
        raise UnusableCertificateError(path, "holds no certificate in PEM form")
    try:
        return x509.load_pem_x509_certificates(data)
    except ValueError as error:
        raise UnusableCertificateError(path, f"holds a damaged certificate: {_first_line(error)}") from None


def load_key(path: str) -> PrivateKey:
    """The private key in a PEM file.

    Raises:
        UnusableCertificateError: there is none, or it is encrypted, damaged or of a kind that signs nothing.
    """
    data = read_pem(path)
    if b"PRIVATE KEY-----" not in data:
        raise UnusableCertificateError(path, "holds no private key in PEM form")
    try:
        key = load_pem_private_key(data, password=None)
    except TypeError:
        raise UnusableCertificateError(path, "is encrypted: a key without passphrase is needed") from None
    except ValueError:
        raise UnusableCertificateError(path, "holds a damaged key") from None
    if not isinstance(key, PrivateKey):
        raise UnusableCertificateError(path, "holds a key of a kind that no certificate has")
    return key


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def new_context() -> SSL.Context:
    """Settings of TLS 1.2 and 1.3, without certificates."""
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_CIPHER_SERVER_PREFERENCE)
    # There are many idle connections, and they give their buffers back.
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    # Sessions are resumed by tickets, which the client keeps. A cache on our side would grow to many megabytes.
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_cipher_list(CIPHERS)
    return context


def use_own(context: SSL.Context, cert_file: str, key_file: str) -> None:
    """Let a context show a certificate.

    Args:
        context: of a server, or of a client that proves who it is.
        cert_file: PEM, our own certificate first, then its chain.
        key_file: PEM, not encrypted.

    Raises:
        UnusableCertificateError: one of them cannot be used.
    """
    own, *above = load_certificates(cert_file)
    key = load_key(key_file)
    try:
        context.use_certificate(own)
        for certificate in above:
            context.add_extra_chain_cert(certificate)
    except SSL.Error as error:
        raise UnusableCertificateError(cert_file, "; ".join(openssl_reasons(error)) or "OpenSSL refuses it") from None
    try:
        context.use_privatekey(key)
        context.check_privatekey()
    except SSL.Error:
        raise UnusableCertificateError(key_file, f"is not the key of the certificate in {cert_file}") from None


def trust_only(context: SSL.Context, ca_file: str) -> None:
    """Let a context trust what is in a PEM file and nothing else, an intermediate authority too.

    Raises:
        UnusableCertificateError: it cannot be used.
    """
    store = context.get_cert_store()
    assert store is not None
    store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)
    for certificate in load_certificates(ca_file):
        store.add_cert(crypto.X509.from_cryptography(certificate))


def openssl_reasons(error: SSL.Error) -> list[str]:
    """What OpenSSL's error queue says, in lower case."""
    queue: Iterable[object] = error.args[0] if error.args and isinstance(error.args[0], list) else error.args
    return [str(entry[-1] if isinstance(entry, tuple) else entry).lower() for entry in queue]
