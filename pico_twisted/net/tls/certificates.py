"""The TLS settings that both sides share, certificates in them, and what OpenSSL says when it refuses."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from cryptography import x509
from OpenSSL import SSL, crypto

from pico_twisted.config.pem import Pair, UnusableCertificateError, load_certificates, load_pair

CIPHERS: Final = b"ECDHE+AESGCM:ECDHE+CHACHA20"
"""Ciphers of TLS 1.2: forward secrecy and authenticated encryption, which every client of the last ten years has. TLS
1.3 has no others."""


def new_context() -> SSL.Context:
    """Settings of TLS 1.2 and 1.3, without certificates."""
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION | SSL.OP_CIPHER_SERVER_PREFERENCE)
    # There are many idle connections, and they give their buffers back.
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    # Sessions are resumed by tickets, which the client keeps. A cache on our side would grow to many megabytes.
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_cipher_list(CIPHERS)
    return context


def use_own(context: SSL.Context, cert_file: str, key_file: str) -> Pair:
    """Let a context show a certificate.

    Args:
        context: of a server, or of a client that proves who it is.
        cert_file: PEM, our own certificate first, then its chain.
        key_file: PEM, not encrypted.

    Returns:
        What it shows.

    Raises:
        UnusableCertificateError: one of them cannot be used.
    """
    pair = load_pair(cert_file, key_file)
    own, *above = pair.chain
    try:
        context.use_certificate(own)
        for certificate in above:
            context.add_extra_chain_cert(certificate)
        context.use_privatekey(pair.key)
    except SSL.Error as error:
        raise UnusableCertificateError(cert_file, "; ".join(openssl_reasons(error)) or "OpenSSL refuses it") from None
    return pair


def trust_only(context: SSL.Context, ca_file: str) -> list[x509.Certificate]:
    """Let a context trust what is in a PEM file and nothing else, an intermediate authority too.

    Returns:
        What it trusts.

    Raises:
        UnusableCertificateError: it cannot be used.
    """
    store = context.get_cert_store()
    assert store is not None
    store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)
    trusted = load_certificates(ca_file)
    for certificate in trusted:
        store.add_cert(crypto.X509.from_cryptography(certificate))
    return trusted


def openssl_reasons(error: SSL.Error) -> list[str]:
    """What OpenSSL's error queue says, in lower case."""
    queue: Iterable[object] = error.args[0] if error.args and isinstance(error.args[0], list) else error.args
    return [str(entry[-1] if isinstance(entry, tuple) else entry).lower() for entry in queue]
