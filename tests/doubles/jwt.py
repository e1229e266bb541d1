"""Somebody who signs JWTs, well or badly."""

from __future__ import annotations

import base64
import functools
import hmac
import json
from collections.abc import Mapping
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import get_default_algorithms

NOW = 1_800_000_000.0
"""The time, in seconds since 1970, at which the tokens of tests are shown."""

SECRET = "0123456789abcdef0123456789abcdef"

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey


def private_key(name: str = "rsa") -> PrivateKey:
    """A key of a kind, the same each time; what stands behind a dash makes it another one."""
    return _made(name)


@functools.cache
def _made(name: str) -> PrivateKey:
    kind = name.partition("-")[0]
    if kind == "rsa":
        return rsa.generate_private_key(65537, 2048)
    if kind == "rsa1024":
        return rsa.generate_private_key(65537, 1024)
    curves = {"p256": ec.SECP256R1(), "p384": ec.SECP384R1(), "p521": ec.SECP521R1(), "k256": ec.SECP256K1()}
    if kind in curves:
        return ec.generate_private_key(curves[kind])
    return ed448.Ed448PrivateKey.generate() if kind == "ed448" else ed25519.Ed25519PrivateKey.generate()


def public_pem(name: str = "rsa") -> bytes:
    """The public key in a PEM file."""
    return private_key(name).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def jwk(name: str = "rsa", **members: Any) -> dict[str, Any]:
    """The public key in a JWK set, named `kid` after it unless told otherwise."""
    kind = name.partition("-")[0]
    algorithm = {"rsa": "RS256", "p256": "ES256", "p384": "ES384", "p521": "ES512"}.get(kind, "EdDSA")
    made: dict[str, Any] = get_default_algorithms()[algorithm].to_jwk(private_key(name).public_key(), as_dict=True)
    return {**made, "kid": name, **members}


def key_set(*keys: Mapping[str, Any]) -> bytes:
    """A JWK set."""
    return json.dumps({"keys": keys}).encode()


def signed(
    claims: Mapping[str, Any],
    key: PrivateKey | str | None = None,
    algorithm: str = "RS256",
    **header: Any,  # as JSON has it
) -> bytes:
    """A token with these claims, and as long as not told otherwise an `exp` in an hour."""
    payload = {"exp": int(NOW) + 3600, **claims}
    return jwt.encode(payload, key or private_key(), algorithm=algorithm, headers=header).encode()


def part(data: bytes | Mapping[str, Any]) -> bytes:
    """A part of a token: bytes, or an object as JSON."""
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


def handmade(header: bytes | Mapping[str, Any], payload: bytes, name: str = "rsa") -> bytes:
    """A token whose bytes no library would write, with the right RS256 signature of them."""
    signing_input = part(header) + b"." + part(payload)
    algorithm = get_default_algorithms()["RS256"]
    return signing_input + b"." + part(algorithm.sign(signing_input, private_key(name)))


def bad_tokens(now: float) -> dict[str, tuple[bytes, str]]:
    """What is refused where JWTs of the key `rsa` for `pico` by `us` count, and why; and `good`, which is not."""
    claims = {"sub": "ci", "iss": "us", "aud": "pico", "exp": now + 600, "pico": {"rules": ["listen:acme-*"]}}
    good = signed(claims)
    header, payload, signature = good.split(b".")
    hs = part({"alg": "HS256"}) + b"." + payload
    wider = part({**claims, "pico": {"rules": ["listen:*"]}})
    doubled = json.dumps(claims)[:-1].encode() + b', "pico": {"rules": ["listen:*"]}}'
    return {
        "good": (good, ""),
        "expired": (signed({**claims, "exp": now - 600}), "expired"),
        "not yet": (signed({**claims, "nbf": now + 600}), "too-early"),
        "another audience": (signed({**claims, "aud": ["other"]}), "audience"),
        "another issuer": (signed({**claims, "iss": "them"}), "issuer"),
        "another key": (signed(claims, private_key("rsa-evil")), "signature"),
        "a key of its own": (signed(claims, private_key("rsa-evil"), jwk=jwk("rsa-evil")), "signature"),
        "more rules": (header + b"." + wider + b"." + signature, "signature"),
        "no signature": (header + b"." + payload + b".", "signature"),
        "alg none": (part({"alg": "none"}) + b"." + payload + b".", "algorithm"),
        "the public key as a secret": (hs + b"." + part(hmac.digest(public_pem(), hs, "sha256")), "algorithm"),
        "another curve": (signed(claims, private_key("p256"), "ES256"), "algorithm"),
        "two claims of a name": (handmade({"alg": "RS256"}, doubled), "malformed"),
        "critical": (signed(claims, crit=["exp"]), "malformed"),
        "cut": (header + b"." + payload, "unknown"),
        "no JWT": (b"pico_1234567890123456789012345678901234567890123", "unknown"),
        "too long": (good + b"A" * 8192, "malformed"),
    }
