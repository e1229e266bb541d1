"""JWTs: which are somebody's, and why the others are refused."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pico_twisted.core.access.json_web_token import JwtPolicy, keys_for, looks_like_jwt, read_header, verify
from pico_twisted.core.access.revocations import MAX_NAME_BYTES
from pico_twisted.core.access.rules import Action, Rule
from pico_twisted.core.access.signing_keys import (
    BadKeys,
    SigningKey,
    read_key_set,
    read_public_keys,
    read_secret_key,
)
from pico_twisted.core.access.subject import CredentialKind, Reason, Refused, Subject
from tests.doubles.jwt import NOW, SECRET, handmade, jwk, key_set, part, private_key, public_pem, signed

PEM = read_public_keys(public_pem())
RS = {"alg": "RS256", "typ": "JWT"}


def shown(
    token: bytes,
    of_files: tuple[SigningKey, ...] = PEM,
    of_set: tuple[SigningKey, ...] = (),
    policy: JwtPolicy | None = None,
    now: float = NOW,
) -> Subject | Refused:
    """Who shows a token, as a gate finds it out."""
    header = read_header(token)
    if isinstance(header, Refused):
        return header
    keys = keys_for(header, of_files, of_set)
    return verify(token, header.algorithm, keys, policy or JwtPolicy(), now)


def reason(found: Subject | Refused) -> Reason | None:
    return found.reason if isinstance(found, Refused) else None


def rules(claims: dict[str, Any], policy: JwtPolicy | None = None) -> list[str]:
    found = shown(signed(claims), policy=policy)
    assert isinstance(found, Subject), found
    return list(map(str, found.rules))


@pytest.mark.parametrize(
    ("name", "algorithm"),
    [
        ("rsa", "RS256"), ("rsa", "RS512"), ("rsa", "PS256"), ("rsa", "PS384"), ("p256", "ES256"), ("p384", "ES384"),
        ("p521", "ES512"), ("ed25519", "EdDSA"), ("ed448", "EdDSA"),
    ],
)  # fmt: skip
def test_a_token_is_good_with_each_kind_of_key(name: str, algorithm: str) -> None:
    """From a PEM file and from a JWK set, and with one changed byte no more."""
    token = signed({"sub": "ci", "jti": "7", "pico": {"rules": ["listen:acme-*"]}}, private_key(name), algorithm)
    for of_files, of_set in ((read_public_keys(public_pem(name)), ()), ((), read_key_set(key_set(jwk(name))))):
        found = shown(token, of_files, of_set)
        assert isinstance(found, Subject)
        assert (found.name, found.kind, found.revocable_as) == ("ci", CredentialKind.JWT, frozenset(("ci", "7")))
        assert found.expires_at == NOW + 3600 and found.rule_for(Action.LISTEN, "acme-web")
        cut = token.rindex(b".") + 5
        other = token[:cut] + (b"A" if token[cut : cut + 1] != b"A" else b"B") + token[cut + 1 :]
        assert reason(shown(other, of_files, of_set)) is Reason.SIGNATURE


@pytest.mark.parametrize(("chars", "algorithms"), [(32, "HS256"), (48, "HS256 HS384"), (64, "HS256 HS384 HS512")])
def test_a_secret_is_good_for_the_hashes_that_are_no_longer_than_it(chars: int, algorithms: str) -> None:
    """RFC 7518 3.2."""
    secret = "s" * chars
    key = read_secret_key(secret.encode() + b"\n")
    assert key.algorithms == set(algorithms.split())
    assert isinstance(shown(signed({}, secret, "HS256"), (key,)), Subject)


def test_the_documented_examples_of_piko_are_good() -> None:
    """A JWT of an application, with the endpoints of an agent, and with or without exp, iat and iss."""
    key = read_secret_key(SECRET.encode())
    claims = {"piko": {"endpoints": ["Endpoint-123"]}}
    for more in ({}, {"iat": int(NOW) - 5}, {"exp": int(NOW) + 60, "iss": "app", "aud": ["x", "piko"]}):
        found = shown(jwt.encode({**claims, **more}, SECRET, "HS256").encode(), (key,))
        assert isinstance(found, Subject)
        assert found.rule_for(Action.LISTEN, "endpoint-123") and found.rule_for(Action.CONNECT, "endpoint-123")
        assert found.rule_for(Action.LISTEN, "endpoint-xyz") is None
        assert found.rule_for(Action.ADMIN_READ) is None


def test_a_token_without_rules_has_those_that_the_operator_gives_to_all() -> None:
    """By default none. An empty list of ours is a list; one of Piko's is none, as there."""
    everywhere = JwtPolicy(rules=(Rule.read("listen:*"),))
    nothing: tuple[dict[str, Any], ...] = (
        {},
        {"piko": {}},
        {"piko": {"endpoints": []}},
        {"piko": {"endpoints": None}},
        {"pico": {}},
    )
    for claims in nothing:
        assert rules(claims) == []
        assert rules(claims, everywhere) == ["listen:*"]
    assert rules({"pico": {"rules": []}}, everywhere) == []
    assert rules({"pico": {"rules": ["admin:read"]}, "piko": {"endpoints": ["a"]}}) == ["admin:read"]


@pytest.mark.parametrize(
    ("claims", "policy", "expected"),
    [
        ({"exp": NOW - 31}, {"leeway_s": 30}, Reason.EXPIRED),
        ({"exp": NOW - 29}, {"leeway_s": 30}, None),
        ({"exp": NOW}, {}, Reason.EXPIRED),
        ({"exp": 0}, {}, Reason.EXPIRED),
        ({"nbf": NOW + 31}, {"leeway_s": 30}, Reason.TOO_EARLY),
        ({"nbf": NOW + 29}, {"leeway_s": 30}, None),
        ({"iat": NOW + 31}, {"leeway_s": 30}, Reason.TOO_EARLY),
        ({"iss": "other"}, {"issuer": "us"}, Reason.ISSUER),
        ({"iss": "usa"}, {"issuer": "us"}, Reason.ISSUER),
        ({}, {"issuer": "us"}, Reason.ISSUER),
        ({"iss": "us"}, {"issuer": "us"}, None),
        ({"aud": "other"}, {"audience": "pico"}, Reason.AUDIENCE),
        ({"aud": "picopico"}, {"audience": "pico"}, Reason.AUDIENCE),
        ({}, {"audience": "pico"}, Reason.AUDIENCE),
        ({"aud": {"pico": 1}}, {"audience": "pico"}, Reason.AUDIENCE),
        ({"aud": [["pico"]]}, {"audience": "pico"}, Reason.AUDIENCE),
        ({"aud": "pico"}, {"audience": "pico"}, None),
        ({"aud": ["other", "pico"]}, {"audience": "pico"}, None),
        ({"aud": "anybody"}, {}, None),
    ],
)
def test_who_signed_for_whom_and_until_when(claims: dict[str, Any], policy: dict[str, Any], expected: Reason) -> None:
    """Each has its own reason. The subject ends with the leeway."""
    token = jwt.encode({"exp": NOW + 60, **claims}, private_key(), "RS256").encode()
    found = shown(token, policy=JwtPolicy(**policy))
    assert reason(found) is expected
    if isinstance(found, Subject):
        assert found.expires_at == claims.get("exp", NOW + 60) + policy.get("leeway_s", 0)


@pytest.mark.parametrize(
    "payload",
    [
        b"", b"[]", b'"x"', b"null", b"{", b"\xff", b'{"exp":NaN}', b'{"exp":Infinity}', b'{"exp":-Infinity}',
        b'{"exp":1e400}', b'{"exp":' + b"9" * 500 + b"}", b'{"exp":' + b"9" * 5000 + b"}", b'{"exp":-1}',
        b'{"exp":"1900000000"}', b'{"exp":true}', b'{"exp":null}', b'{"exp":[1900000000]}', b'{"nbf":"now"}',
        b'{"iat":{}}', b'{"sub":7}', b'{"sub":null}', b'{"sub":"a\\u0000"}', b'{"sub":"\\ud800"}', b'{"jti":["x"]}',
        b'{"sub":"' + b"a" * (MAX_NAME_BYTES + 1) + b'"}', b'{"sub":"a","sub":"b"}', b'{"exp":1900000000,"exp":99}',
        b'{"pico":{"rules":["listen:a"],"rules":["listen:*"]}}', b'{"pico":[]}', b'{"pico":"listen:*"}',
        b'{"pico":{"rules":"listen:*"}}', b'{"pico":{"rules":[1]}}', b'{"pico":{"rules":["listen:"]}}',
        b'{"pico":{"rules":["serve:a"]}}', b'{"piko":{"endpoints":["a*"]}}', b'{"piko":{"endpoints":["*"]}}',
        b'{"piko":{"endpoints":"a"}}', b'{"piko":{"endpoints":[""]}}',
        b'{"pico":{"rules":[' + b",".join([b'"listen:a"'] * 101) + b"]}}",
        b"[" * 3000 + b"]" * 3000, b'{"a":' * 1000 + b"1" + b"}" * 1000,
    ],
)  # fmt: skip
def test_claims_that_cannot_be_read_are_refused_though_the_signature_is_right(payload: bytes) -> None:
    """Whoever signs may be wrong, too. Nothing of it comes back to who shows it."""
    found = shown(handmade(RS, payload))
    assert isinstance(found, Refused) and found.reason is Reason.MALFORMED
    assert "secret" not in found.message and "serve:a" not in found.message


@pytest.mark.parametrize(
    "header",
    [
        b"", b"[]", b"{", b'{"alg":"none","alg":"RS256"}', b'{"typ":"JWT"}', b'{"alg":1}', b'{"alg":null}',
        b'{"alg":["RS256"]}', b'{"alg":"RS256","kid":1}', b'{"alg":"RS256","kid":{}}', b'{"alg":"RS256","crit":[]}',
        b'{"alg":"RS256","crit":["b64"],"b64":true}', b'{"alg":"RS256","b64":false}', b'{"alg":"RS256","x":NaN}',
        b"[" * 2000, b'{"alg":"RS256","x":' + b"1" * 5000 + b"}",
    ],
)  # fmt: skip
def test_headers_that_cannot_be_read_in_one_way_are_refused(header: bytes) -> None:
    """Before any signature is looked at."""
    assert reason(shown(handmade(header, b'{"sub":"a"}'))) is Reason.MALFORMED


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE", "HS256", "ES256", "EdDSA", "RS257", "", "rs256"])
def test_the_key_says_which_algorithms_count_and_not_the_token(algorithm: str) -> None:
    """Neither none at all, nor an HMAC with the public key as its secret, which everybody has."""
    unsigned = part({"alg": algorithm}) + b"." + part({"sub": "admin", "exp": NOW + 60})
    pem = public_pem()
    for secret in (pem, pem.strip(), base64.b64decode(b"".join(pem.splitlines()[1:-1]))):
        mac = part(hmac.digest(secret, unsigned, hashlib.sha256))
        for signature in (b"", mac):
            token = unsigned + b"." + signature
            header = read_header(token)
            assert not isinstance(header, Refused) and keys_for(header, PEM, read_key_set(key_set(jwk()))) == []


def test_a_key_that_a_token_brings_along_means_nothing() -> None:
    """`jwk`, `jku`, `x5u` and `x5c` are not looked at: it is good only with a key that the operator named."""
    brought: dict[str, Any] = {
        "jwk": jwk("rsa-evil"),
        "jku": "https://evil.example/",
        "x5u": "https://evil.example/",
        "x5c": ["MII"],
    }
    assert reason(shown(signed({}, private_key("rsa-evil"), **brought))) is Reason.SIGNATURE
    assert isinstance(shown(signed({}, **brought)), Subject)


def test_a_key_of_another_curve_is_not_tried() -> None:
    """A P-384 key signs with ES384 only, and a curve that JWTs do not have is no key at all."""
    header = read_header(part({"alg": "ES256"}) + b".e30.AAAA")
    assert not isinstance(header, Refused)
    assert keys_for(header, read_public_keys(public_pem("p384")), ()) == []
    with pytest.raises(BadKeys, match="of a kind that signs no JWT"):
        read_public_keys(public_pem("k256"))


def test_a_kid_chooses_among_the_keys_of_a_set() -> None:
    """The right key under another's name does not count; without a name only the one key that fits does."""
    both = read_key_set(key_set(jwk("rsa"), jwk("rsa-2"), jwk("p256")))
    assert isinstance(shown(signed({}, kid="rsa"), (), both), Subject)
    assert reason(shown(signed({}, kid="rsa-2"), (), both)) is Reason.SIGNATURE
    for kid in ("other", "../../rsa", "rsa' or 1=1", ""):
        header = read_header(signed({}, kid=kid))
        assert not isinstance(header, Refused) and keys_for(header, (), both) == []
    assert reason(shown(signed({}), (), both)) is Reason.SIGNATURE
    assert isinstance(shown(signed({}), (), read_key_set(key_set(jwk("rsa"), jwk("p256")))), Subject)
    nameless = read_key_set(key_set(jwk("rsa", kid=None)))
    assert isinstance(shown(signed({}), (), nameless), Subject)


def test_a_token_of_a_sets_key_has_to_end() -> None:
    """Who publishes keys issues tokens that expire; those of a key of a file may go on, as Piko's do."""
    token = jwt.encode({"sub": "a"}, private_key(), "RS256").encode()
    assert reason(shown(token, (), read_key_set(key_set(jwk())))) is Reason.MALFORMED
    found = shown(token)
    assert isinstance(found, Subject) and found.expires_at is None


@pytest.mark.parametrize(
    "member",
    [
        jwk("rsa", use="enc"), jwk("rsa", key_ops=["sign"]), jwk("rsa", alg="HS256"), jwk("rsa", alg="none"),
        jwk("rsa", d="AQAB"), jwk("rsa", kid=7), jwk("rsa", n="!"), jwk("rsa", e=1), jwk("rsa", e="AQ"),
        jwk("rsa", n=None),
        jwk("p256", crv="P-384"), jwk("p256", x="AAAA"), jwk("p256", y="A" * 43), jwk("ed25519", crv="X25519"),
        {"kty": "oct", "k": part(b"s" * 32).decode(), "kid": "a"}, {"kty": "RSA"}, {}, [], "rsa", 7, None,
    ],
)  # fmt: skip
def test_what_is_no_key_for_us_in_a_set_is_left_out(member: Any) -> None:
    """The others in it count (RFC 7517 5); a set of nothing else is none."""
    keys = read_key_set(json.dumps({"keys": [member, jwk("p384")]}).encode())
    assert [key.kid for key in keys] == ["p384"]
    with pytest.raises(BadKeys, match="has no key that can be used"):
        read_key_set(json.dumps({"keys": [member]}).encode())


def test_alg_in_a_set_leaves_one_algorithm() -> None:
    """Of those that its key could do."""
    assert read_key_set(key_set(jwk("rsa", alg="PS256")))[0].algorithms == {"PS256"}


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "no public keys"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", "a damaged key"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----", "a private key"),
        (b"-----BEGIN EC PARAMETERS-----\nAAAA\n-----END EC PARAMETERS-----", "no public keys"),
        (public_pem("rsa1024"), "an RSA key of 1024 bits"),
    ],
)
def test_a_file_without_a_public_key_is_told_what_it_holds(data: bytes, why: str) -> None:
    """It may hold the key that only who signs may have."""
    with pytest.raises(BadKeys, match=why):
        read_public_keys(data)


@pytest.mark.parametrize("data", [b"", b"short", b"\x00" * 40, b"a" * 31 + b"\n", public_pem(), b"a" * 40 + b"\nb"])
def test_a_file_without_a_secret_is_refused(data: bytes) -> None:
    """Public keys are no secrets, in any form."""
    for given_data in (data, json.dumps(jwk()).encode(), b"ssh-rsa " + b"A" * 100):
        with pytest.raises(BadKeys):
            read_secret_key(given_data)


@given(st.binary(max_size=300) | st.from_regex(rb"[A-Za-z0-9_-]{0,80}\.[A-Za-z0-9_-]{0,80}\.[A-Za-z0-9_-]{0,80}"))
def test_any_bytes_are_refused_and_never_raise(token: bytes) -> None:
    """Tokens and sets of keys."""
    assert isinstance(shown(token), Refused)
    looks_like_jwt(token)
    for read in (read_key_set, read_public_keys, read_secret_key):
        try:
            read(token)
        except BadKeys:
            pass


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(st.sampled_from(["exp", "nbf", "iat", "sub", "jti", "iss", "aud", "pico", "piko"]), _JSON)
    | st.fixed_dictionaries({"pico": st.fixed_dictionaries({"rules": _JSON})})
    | st.fixed_dictionaries({"piko": st.fixed_dictionaries({"endpoints": _JSON})})
)
def test_any_claims_make_a_subject_or_a_refusal(claims: dict[str, Any]) -> None:
    """With the right signature."""
    key = read_secret_key(SECRET.encode())
    payload = part(json.dumps(claims).encode())
    signing_input = part({"alg": "HS256"}) + b"." + payload
    token = signing_input + b"." + part(hmac.digest(SECRET.encode(), signing_input, hashlib.sha256))
    assert isinstance(shown(token, (key,), policy=JwtPolicy(audience="a", issuer="b")), Subject | Refused)


@given(
    st.dictionaries(st.sampled_from(["kty", "n", "e", "crv", "x", "y", "kid", "alg", "use", "key_ops"]), _JSON),
    st.sampled_from(["RSA", "EC", "OKP"]),
)
def test_any_set_is_keys_or_none(members: dict[str, Any], kind: str) -> None:
    """Whatever somebody serves."""
    try:
        keys = read_key_set(json.dumps({"keys": [{**jwk("p256"), **jwk("rsa"), **members, "kty": kind}]}).encode())
    except BadKeys:
        return
    assert len(keys) == 1
