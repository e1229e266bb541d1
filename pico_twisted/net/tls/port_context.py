"""What a TLS port shows and what it asks for: certificates by the name that a client wants, and whom it trusts.

Each certificate has an OpenSSL context of its own, and OpenSSL asks which one a client gets once it has read the name
that the client wants (SNI, RFC 6066 3). All contexts of a port differ in nothing but the certificate.

With `client_ca` no session is resumed: each connection shows its certificate, and each is verified as it is now. When
other authorities are trusted, the certificates of those that are open are looked at again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Final, Self
from weakref import WeakSet

import attrs
from cryptography import x509
from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLContextFactory, IOpenSSLServerConnectionCreator
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

from pico_twisted.config import ServerTlsConfig
from pico_twisted.config.pem import Revoked, good_until, public_key_of, server_names
from pico_twisted.net.socket.options import peer_text
from pico_twisted.net.tls.certificates import new_context, trust_only, use_own
from pico_twisted.net.tls.transport import TlsTransport
from pico_twisted.net.tls.verification import refusal_words, verify_peer

log = Logger()

HTTP_1_1: Final = b"http/1.1"
HTTP_2: Final = b"h2"
"""What is spoken on ports, by the names in ALPN (RFC 7301 6, RFC 9113 3.1)."""

REQUIRED: Final = "required"
"""The value of `tls.client_auth` with which a client without a certificate is refused."""


@attrs.frozen(kw_only=True)
class Loaded:
    """What was read of the files of a port.

    Attributes:
        default: for clients that want no name, or one that is in no certificate.
        by_name: for the others: host names in lower case, and `*.name`.
        chains: what is shown, by the file that it came from.
        trusted: the authorities of clients.
        revoked: certificates of clients that count no longer.
    """

    default: SSL.Context
    by_name: Mapping[str, SSL.Context]
    chains: Mapping[str, Sequence[x509.Certificate]]
    trusted: Sequence[x509.Certificate] = ()
    revoked: Revoked = attrs.field(factory=Revoked)

    def same_as(self, other: Loaded) -> bool:
        """Whether nothing has changed on which something depends."""
        mine, theirs = ((one.chains, one.trusted, one.revoked) for one in (self, other))
        return mine == theirs

    def for_name(self, name: bytes | None) -> SSL.Context:
        """The context for the name that a client wants: one that has the name before one that has a wildcard."""
        if name is None:
            return self.default
        wanted = name.decode("ascii", "replace").lower().rstrip(".")
        wider = "*." + wanted.partition(".")[2]
        return self.by_name.get(wanted) or self.by_name.get(wider) or self.default


@implementer(IOpenSSLContextFactory, IOpenSSLServerConnectionCreator)
class ServerContext:
    """The TLS of a port: version 1.2 or 1.3, by ALPN HTTP/1.1 and what else is spoken there.

    The files are read by `reload`, which a daemon calls at its start, or else for the first connection. A daemon that
    reads them again makes another one of the files that there are now, and has this one take its place with `become`.

    Args:
        tls: the files.
        protocols: by their names in ALPN, the one that is preferred first.
    """

    _loaded: Loaded | None = None

    def __init__(self, tls: ServerTlsConfig, protocols: Sequence[bytes] = (HTTP_1_1,)) -> None:
        self.tls = tls
        self.protocols = protocols
        self._open: WeakSet[SSL.Connection] = WeakSet()  # those whose peers show certificates

    def reload(self) -> None:
        """Read the files, for the connections that come after. When that fails what was read before stays in use.

        Raises:
            UnusableCertificateError: one of them cannot be used.
        """
        self._loaded = self._load()

    @property
    def files(self) -> Iterator[str]:
        """The names of all files that are read."""
        for pair in self._pairs():
            yield from pair
        if self.tls.client_ca:
            yield self.tls.client_ca

    @property
    def expiry(self) -> dict[str, datetime]:
        """When what was read expires, by its file."""
        return {name: good_until(chain) for name, chain in self.loaded.chains.items()}

    def again(self) -> Self:
        """Another one of the same files, which were not read yet."""
        return type(self)(self.tls, self.protocols)

    def become(self, other: ServerContext) -> None:
        """Use the files and what was read of them of another one, for the connections that come after. Those that are
        open end whose peers are of an authority that is trusted no longer."""
        trusted = self.loaded.trusted
        self.tls, self._loaded = other.tls, other.loaded
        if self.loaded.trusted != trusted:
            self._look_again()

    def _look_again(self) -> None:
        keys = {key for one in self.loaded.trusted if (key := public_key_of(one))}
        words = "its certificate is of an authority that is not trusted any more"
        self._end(lambda chain: words if keys.isdisjoint(map(public_key_of, chain)) else "")

    def _end(self, why: Callable[[Sequence[x509.Certificate]], str]) -> None:
        """End the open connections for which there is a reason, by the chains of certificates of their peers."""
        for connection in list(self._open):
            chain = connection.get_verified_chain(as_cryptography=True)
            words = why(chain) if chain else ""
            protocol = connection.get_app_data()
            if words and protocol.wrappedProtocol is not None:  # else it has ended
                log.warn("A connection ends: {reason}", reason=words, peer=peer_text(protocol))
                protocol.abortConnection()

    @property
    def loaded(self) -> Loaded:
        """What is in use."""
        if self._loaded is None:
            self.reload()
            assert self._loaded is not None
        return self._loaded

    def _load(self) -> Loaded:
        contexts: list[SSL.Context] = []
        by_name: dict[str, SSL.Context] = {}
        chains: dict[str, Sequence[x509.Certificate]] = {}
        trusted: Sequence[x509.Certificate] = ()
        for cert_file, key_file in self._pairs():
            context = new_context()
            context.set_alpn_select_callback(partial(_select_protocol, self.protocols))
            chains[cert_file] = chain = use_own(context, cert_file, key_file).chain
            if self.tls.client_ca:
                trusted = trust_only(context, self.tls.client_ca)
                # By these names clients choose which certificate to show.
                for authority in trusted:
                    context.add_client_ca(authority)
                context.set_options(SSL.OP_NO_TICKET)
            contexts.append(context)
            for name in server_names(chain[0]):
                by_name.setdefault(name.lower(), context)
        default = contexts[0]
        if len(contexts) > 1:
            default.set_tlsext_servername_callback(self._choose)
        return Loaded(default=default, by_name=by_name, chains=chains, trusted=trusted)

    def _pairs(self) -> Iterator[tuple[str, str]]:
        """The files of each certificate and its key, those of the default first."""
        if self.tls.cert:
            yield self.tls.cert, self.tls.key
        for further in self.tls.certificates:
            yield further.cert, further.key
        if self.tls.acme.enabled:
            yield self.tls.acme.certificate_file, self.tls.acme.certificate_file

    def _choose(self, connection: SSL.Connection) -> None:
        connection.set_context(self.loaded.for_name(connection.get_servername()))

    def getContext(self) -> SSL.Context:
        return self.loaded.default

    def serverConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        connection = SSL.Connection(self.getContext(), None)
        if self.tls.client_ca:
            assert isinstance(tlsProtocol, TlsTransport)
            verify_peer(connection, self.objection, tlsProtocol.refuse, required=self.tls.client_auth == REQUIRED)
            self._watch(connection, tlsProtocol)
        return connection

    def _watch(self, connection: SSL.Connection, protocol: TLSMemoryBIOProtocol) -> None:
        connection.set_app_data(protocol)
        self._open.add(connection)

    def objection(self, certificate: x509.Certificate, error: int, depth: int) -> str:
        """Why a client's certificate is refused; see `Objection`."""
        return refusal_words(certificate, error, depth)


class NoCommonProtocolError(SSL.Error):
    """The client offers protocols, and HTTP/1.1 is not among them. It has the form of what OpenSSL's queue gives."""


def _select_protocol(spoken: Sequence[bytes], _: SSL.Connection, offered: list[bytes]) -> bytes:
    """The protocol to speak. What is raised here makes OpenSSL send `no_application_protocol` (RFC 7301 3.2)."""
    for protocol in spoken:
        if protocol in offered:
            return protocol
    raise NoCommonProtocolError([("", "", "the client does not offer HTTP/1.1")])
