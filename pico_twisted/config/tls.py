"""What a node is told of the certificates of its ports."""

from __future__ import annotations

import os
import re

import attrs

from pico_twisted.config import kinds
from pico_twisted.config.fields import listing, section, setting
from pico_twisted.config.kinds import Kind, matching
from pico_twisted.config.values import Address

_ACME_NAME = re.compile(r"(?=.{1,253}$)[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*")
_HTTPS_URL = re.compile(r"https://[A-Za-z0-9][A-Za-z0-9._-]*(?::[0-9]{1,5})?/[\x21-\x7e]{0,2000}", re.ASCII)
_CERTIFICATE_NAME = re.compile(r"[\x21-\x2b\x2d-\x7e]{1,2048}", re.ASCII)

ACME_NAME: Kind[str] = Kind(
    name="name",
    expected="a host name such as pico.example.com, in lower case and without *: a wildcard takes a challenge over "
    "DNS, which Pico does not answer",
    read=str,
    fits=matching(_ACME_NAME),
)
HTTPS_URL: Kind[str] = Kind(
    name="URL", expected="an https URL such as https://ca.example.com/directory", read=str, fits=matching(_HTTPS_URL)
)
CERTIFICATE_NAME: Kind[str] = Kind(
    name="name",
    expected="a DNS name or URI with * for any characters, such as node-*.cluster.example or spiffe://example/node/*",
    read=str,
    fits=matching(_CERTIFICATE_NAME),
)


@attrs.frozen(kw_only=True)
class CertificateConfig:
    """A certificate beside the first one of a port."""

    cert: str = setting(
        kinds.FILE_NAME, None, "Certificate chain, a PEM file with the certificate of the names itself first."
    )
    key: str = setting(kinds.FILE_NAME, None, "Private key of the certificate, a PEM file.")


@attrs.frozen(kw_only=True)
class AcmeConfig:
    """A certificate from an ACME server."""

    names: tuple[str, ...] = setting(
        kinds.Many(item=ACME_NAME),
        "",
        "Host names that the certificate is for. Each has to lead to this cluster. Empty: no certificate is ordered.",
    )
    directory: str = setting(
        HTTPS_URL,
        "https://acme-v02.api.letsencrypt.org/directory",
        "URL of the ACME server's directory.",
    )
    email: str = setting(kinds.TEXT, "", "Address that the server may write to.")
    agree_tos: bool = setting(
        kinds.BOOLEAN, "false", "Whether you agree to the terms of service of the ACME server. Nothing is ordered else."
    )
    storage: str = setting(
        kinds.FILE,
        "",
        "Directory for the account's key and the certificate, such as /var/lib/pico/acme. Pico makes it, and nobody "
        "else may read it. Nodes that share it share the certificate.",
    )
    challenge: str = setting(
        kinds.one_of("auto", "http-01", "tls-alpn-01"),
        "auto",
        "How the server sees that the names are yours: `http-01`, at port 80, or `tls-alpn-01`, at port 443. `auto`: "
        "`http-01` with `http_addr`, else `tls-alpn-01`.",
    )
    http_addr: Address | None = setting(
        kinds.BIND_ADDRESS_OR_OFF,
        "",
        "Address that listens for plain HTTP, such as :80. It answers ACME servers, and sends everybody else to https. "
        "Empty: no such port.",
    )
    ca: str = setting(
        kinds.FILE,
        "",
        "Authorities to trust for the ACME server itself, a PEM file. Empty: those of Python's certifi.",
    )

    @property
    def enabled(self) -> bool:
        """Whether a certificate is ordered."""
        return bool(self.names)

    @property
    def certificate_file(self) -> str:
        """The file of the key and the certificate. Another server has another one."""
        return os.path.join(self.storage, self.directory.split("/")[2].replace(":", "_"), f"{self.names[0]}.pem")

    @property
    def challenge_kind(self) -> str:
        """The challenge to choose."""
        if self.challenge != "auto":
            return self.challenge
        return "tls-alpn-01" if self.http_addr is None else "http-01"


@attrs.frozen(kw_only=True)
class ServerTlsConfig:
    """The certificate of a port; without one the port speaks plain text."""

    cert: str = setting(
        kinds.FILE,
        "",
        "Certificate chain of this port, a PEM file with the port's own certificate first. Set it together with "
        "`key`; without them the port speaks plain text.",
        live=True,
    )
    key: str = setting(kinds.FILE, "", "Private key of the certificate, a PEM file.", live=True)
    certificates: tuple[CertificateConfig, ...] = listing(
        CertificateConfig,
        "Further certificates of this port. A client gets the one that has the name that it asks for, rather than one "
        "that has a wildcard for it; `cert` when none has it.",
    )
    client_ca: str = setting(
        kinds.FILE,
        "",
        "Authority of the certificates of clients, a PEM file. With it the port asks each client for a certificate, "
        "and refuses one that this authority has not signed. Empty: none is asked for.",
        live=True,
    )
    client_auth: str = setting(
        kinds.one_of("optional", "required"),
        "optional",
        "With `client_ca`: whether a client has to have a certificate, or may come without and show a token instead.",
        live=True,
    )
    acme: AcmeConfig = section(AcmeConfig, "A certificate that the node orders and renews by itself.")

    @property
    def enabled(self) -> bool:
        """Whether the port speaks TLS."""
        return bool(self.cert and self.key) or self.acme.enabled
