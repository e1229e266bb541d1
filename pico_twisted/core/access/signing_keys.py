"""Keys that JWTs are checked with: what is read from files and JWK sets, and which algorithms each of them allows.

The algorithm is fixed by the key (RFC 8725 3.1). So a public key never becomes the secret of an HMAC, and a key of one
curve is never used with the hash of another.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Final, NoReturn

import attrs
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt.algorithms import ECAlgorithm, HMACAlgorithm, OKPAlgorithm, RSAAlgorithm
from jwt.exceptions import PyJWTError
from jwt.types import JWKDict

MOST_KEYS: Final = 100
"""Most keys of one file or JWK set. Those who sign have two or three."""

MAX_KID_CHARS: Final = 256
"""Most characters of the name of a key in a JWK set."""

PublicKey = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey | Ed448PublicKey

_MIN_RSA_BITS: Final = 2048  # RFC 7518 3.3
_MAX_RSA_BITS: Final = 8192  # what is beyond takes too long to check
_RSA: Final = frozenset(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"))
_CURVES: Final = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
_HMAC: Final = {32: "HS256", 48: "HS384", 64: "HS512"}  # by the fewest bytes of a secret (RFC 7518 3.2)
_SECRET: Final = re.compile(rb"[\x20-\x7e]{32,4096}")
_BLOCK: Final = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,40})-----.*?-----END \1-----", re.DOTALL)
_FROM_JWK: Final[Mapping[str, Callable[[JWKDict], object]]] = {
    "RSA": RSAAlgorithm.from_jwk,
    "EC": ECAlgorithm.from_jwk,
    "OKP": OKPAlgorithm.from_jwk,
}
_UNUSABLE: Final = (PyJWTError, UnsupportedAlgorithm, ValueError, TypeError, KeyError)


class BadKeys(Exception):
    """A file or an answer holds no keys that can be used; the text says why, and follows its name."""


@attrs.frozen(kw_only=True)
class SigningKey:
    """A key that JWTs are checked with.

    Attributes:
        key: public, or a secret.
        algorithms: those that it allows, as `alg` names them (RFC 7518 3.1).
        kid: its name in a JWK set; None when it has none.
        of_set: whether it is of a JWK set.
    """

    key: PublicKey | bytes = attrs.field(repr=False)
    algorithms: frozenset[str]
    kid: str | None = None
    of_set: bool = False


def read_json(data: bytes) -> object:
    """Read JSON that can be read in one way only (RFC 8259 4): no name twice, and only numbers that are some.

    Raises:
        ValueError: it is none, or too deep.
    """
    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=_each_once, parse_constant=_no_number)
    except RecursionError:
        raise ValueError("too deep") from None


def _each_once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name that is there twice")
    return found


def _no_number(_: str) -> NoReturn:
    raise ValueError("a number that is none")


def read_public_keys(data: bytes) -> tuple[SigningKey, ...]:
    """Read the public keys in a PEM file, also those in certificates. Raises BadKeys."""
    keys: list[SigningKey] = []
    for block in _BLOCK.finditer(data):
        label = block[1]
        if label.endswith(b"PRIVATE KEY"):
            raise BadKeys("holds a private key, which only who signs may have: openssl pkey -pubout writes the public")
        try:
            if label == b"CERTIFICATE":
                keys.append(_signing_key(x509.load_pem_x509_certificate(block[0]).public_key()))
            elif label.endswith(b"PUBLIC KEY"):
                keys.append(_signing_key(load_pem_public_key(block[0])))
        except _UNUSABLE:
            raise BadKeys("holds a damaged key") from None
    if not 1 <= len(keys) <= MOST_KEYS:
        raise BadKeys(f"holds {len(keys) or 'no'} public keys in PEM form")
    return tuple(keys)


def read_secret_key(data: bytes) -> SigningKey:
    """Read the secret in a file, without the line end behind it. Raises BadKeys."""
    secret = data.strip(b"\r\n")
    if not _SECRET.fullmatch(secret):
        raise BadKeys("holds no line of 32 to 4096 visible ASCII characters")
    try:
        HMACAlgorithm(HMACAlgorithm.SHA256).prepare_key(secret)
    except PyJWTError:
        raise BadKeys("holds a public key, which is no secret: it belongs to auth.jwt.keys") from None
    algorithms = frozenset(name for least, name in _HMAC.items() if len(secret) >= least)
    return SigningKey(key=secret, algorithms=algorithms)


def read_key_set(data: bytes) -> tuple[SigningKey, ...]:
    """Read a JWK set (RFC 7517 5). Keys in it that are not for us are left out, and so are secrets. Raises BadKeys."""
    try:
        found = read_json(data)
    except ValueError:
        raise BadKeys("is no JSON that can be read in one way") from None
    members = found.get("keys") if isinstance(found, dict) else None
    if not isinstance(members, list):
        raise BadKeys("is no JWK set: it has no list of keys")
    if len(members) > MOST_KEYS:
        raise BadKeys(f"has more than {MOST_KEYS} keys")
    keys = tuple(key for member in members if (key := _from_jwk(member)) is not None)
    if not keys:
        raise BadKeys("has no key that can be used")
    return keys


def _from_jwk(jwk: object) -> SigningKey | None:
    if not isinstance(jwk, dict) or "d" in jwk or jwk.get("use", "sig") != "sig":
        return None
    operations, kid, algorithm = jwk.get("key_ops", ["verify"]), jwk.get("kid"), jwk.get("alg")
    if not isinstance(operations, list) or "verify" not in operations:
        return None
    if kid is not None and not (isinstance(kid, str) and len(kid) <= MAX_KID_CHARS):
        return None
    read = _FROM_JWK.get(str(jwk.get("kty")))
    if read is None:
        return None
    try:
        key = _signing_key(read(jwk))
    except (BadKeys, *_UNUSABLE):
        return None
    algorithms = key.algorithms if algorithm is None else key.algorithms & {str(algorithm)}
    return attrs.evolve(key, algorithms=algorithms, kid=kid, of_set=True) if algorithms else None


def _signing_key(key: object) -> SigningKey:
    """A public key with what it allows. Raises BadKeys."""
    if isinstance(key, RSAPublicKey):
        if not _MIN_RSA_BITS <= key.key_size <= _MAX_RSA_BITS:
            raise BadKeys(f"holds an RSA key of {key.key_size} bits, and not {_MIN_RSA_BITS} to {_MAX_RSA_BITS}")
        return SigningKey(key=key, algorithms=_RSA)
    if isinstance(key, EllipticCurvePublicKey) and key.curve.name in _CURVES:
        return SigningKey(key=key, algorithms=frozenset((_CURVES[key.curve.name],)))
    if isinstance(key, Ed25519PublicKey | Ed448PublicKey):
        return SigningKey(key=key, algorithms=frozenset(("EdDSA",)))
    raise BadKeys("holds a key of a kind that signs no JWT: RSA, P-256, P-384, P-521, Ed25519 or Ed448 do")
