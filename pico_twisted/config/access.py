"""Who may use a port."""

from __future__ import annotations

import attrs

from pico_twisted.config import kinds
from pico_twisted.config.fields import section, setting
from pico_twisted.core.access.revocations import MOST_LEEWAY_S
from pico_twisted.core.access.rules import Rule


@attrs.frozen(kw_only=True)
class JwtConfig:
    """Which JWTs count."""

    keys: tuple[str, ...] = setting(
        kinds.Many(item=kinds.FILE_NAME),
        "",
        "Files with the public keys of those who sign (PEM: RSA, elliptic curves, Ed25519). The key says which "
        "algorithms count: RS256 and PS256 and their like, ES256 and its like, EdDSA.",
        live=True,
    )
    secret_files: tuple[str, ...] = setting(
        kinds.Many(item=kinds.FILE_NAME),
        "",
        "Files that hold one secret each, of at least 32 characters, for HS256; 48 for HS384, and 64 for HS512.",
        live=True,
    )
    jwks: str = setting(
        kinds.FILE_OR_URL,
        "",
        "Keys as a JWK set (RFC 7517): a file, or an https URL. A URL is asked again every 5 minutes, and for a key "
        "that is not in the set, every 30 s at most; while it is away the last set counts.",
        live=True,
    )
    jwks_ca: str = setting(
        kinds.FILE,
        "",
        "Authorities for the https URL, a PEM file. Empty: those of the system.",
        live=True,
    )
    issuer: str = setting(kinds.TEXT, "", "What `iss` must be. Empty: anything.", live=True)
    audience: str = setting(kinds.TEXT, "", "What `aud` must be or hold. Empty: anything.", live=True)
    leeway: float = setting(
        kinds.duration(least_s=0.0, most_s=MOST_LEEWAY_S),
        "30s",
        "By how much the clocks of those who sign may differ from this machine's.",
        live=True,
    )

    rules: tuple[Rule, ...] = setting(
        kinds.Many(item=kinds.RULE),
        "",
        "Rules of a JWT that names none, in `pico.rules` or `piko.endpoints`. Empty: it may do nothing.",
        live=True,
    )

    @property
    def jwks_url(self) -> str:
        """`jwks`, if it is a URL; else nothing."""
        return self.jwks if "://" in self.jwks else ""

    @property
    def any_keys(self) -> bool:
        """Whether any JWT counts."""
        return bool(self.keys or self.secret_files or self.jwks)


@attrs.frozen(kw_only=True)
class AuthConfig:
    """Who may use a port; without any of them the port does not authenticate."""

    tokens_file: str = setting(
        kinds.FILE,
        "",
        "File with a line for each token: its name, the hash of the token, and its rules. `picoctl token create` "
        "writes it.",
        live=True,
    )
    certificates_file: str = setting(
        kinds.FILE,
        "",
        "File with a line for each client certificate: its URI or DNS name, and its rules. Needs `tls.client_ca` of "
        "this port.",
        live=True,
    )
    jwt: JwtConfig = section(JwtConfig, "JWTs that count, and who signs them.")

    @property
    def enabled(self) -> bool:
        """Whether the port authenticates."""
        return bool(self.tokens_file or self.certificates_file or self.jwt.any_keys)
