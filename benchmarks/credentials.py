"""What a load shows to a proxy port that authenticates, and the configuration that knows it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pico_twisted.core.access.credentials_file import hash_of

KINDS = ("token", "jwt")

_TOKEN = "pico_of-a-benchmark-and-as-long-as-others-are"
_RULE = "connect:*"
_VALID_S = 24 * 3600


@dataclass(frozen=True)
class Shown:
    """A credential.

    Attributes:
        auth: the section `proxy.auth` of nodes that know it.
        bearer: the token or JWT.
    """

    auth: Mapping[str, Any]
    bearer: str

    @property
    def field(self) -> str:
        """The line of a request that shows it."""
        return f"x-pico-authorization: Bearer {self.bearer}"


def make(kind: str, directory: Path) -> Shown:
    """Make a credential for all endpoints.

    Args:
        kind: one of `KINDS`.
        directory: for the files that nodes read.
    """
    if kind == "token":
        tokens = directory / "tokens"
        tokens.write_text(f"bench sha256:{hash_of(_TOKEN.encode()).hex()} {_RULE}\n")
        return Shown({"tokens_file": str(tokens)}, _TOKEN)
    import jwt
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    key = generate_private_key(SECP256R1())
    public = directory / "jwt.pem"
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    claims = {"sub": "bench", "exp": int(time.time()) + _VALID_S, "pico": {"rules": [_RULE]}}
    return Shown({"jwt": {"keys": [str(public)]}}, jwt.encode(claims, key, "ES256"))
