"""JSON web tokens (RFC 7519, RFC 8725): which keys may have signed one, whether one did, and what it says.

What is needed. Whoever has the right signature is who the token says, until it says; everybody else is refused, with a
reason that helps who made a mistake. Nothing that somebody writes into a token raises, takes long, or chooses how it is
checked.

What was chosen. The header is read for two things, `alg` and `kid`; they choose among the keys that the operator named,
of which each fixes its algorithms. Keys and addresses of keys in the header mean nothing, and what says that it has to
be understood (`crit`) is refused. PyJWT checks the signature. Only then the claims are read, by the time that we are
told.
"""

from __future__ import annotations

import re
from binascii import a2b_base64
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import attrs
from cryptography.exceptions import UnsupportedAlgorithm
from jwt import PyJWS
from jwt.exceptions import InvalidSignatureError, PyJWTError

from pico_twisted.core.access.refusals import REFUSALS
from pico_twisted.core.access.revocations import MAX_NAME_BYTES
from pico_twisted.core.access.rules import MOST_RULES, Action, BadRule, Pattern, Rule
from pico_twisted.core.access.signing_keys import SigningKey, read_json
from pico_twisted.core.access.subject import CredentialKind, Reason, Refused, Subject
from pico_twisted.core.text import ENDPOINT_ID_PATTERN

_SHAPE: Final = re.compile(rb"([A-Za-z0-9_-]+)\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*")
_LATEST: Final = 2**53
_NAMELESS: Final = "a JWT without sub"
_JWS: Final = PyJWS(options={"verify_signature": True, "enforce_minimum_key_length": True})


class Header(NamedTuple):
    """What a token's header chooses by.

    Attributes:
        algorithm: `alg`.
        kid: the name of the key; None when there is none.
    """

    algorithm: str
    kid: str | None


@attrs.frozen(kw_only=True)
class JwtPolicy:
    """Which tokens count.

    Attributes:
        issuer: what `iss` has to be; empty for anything.
        audience: what `aud` has to be or hold; empty for anything.
        leeway_s: by how much clocks may differ.
        rules: of a token that names none.
    """

    issuer: str = ""
    audience: str = ""
    leeway_s: float = 0.0
    rules: tuple[Rule, ...] = ()


class _Bad(Exception):
    """A claim that cannot be read."""


def looks_like_jwt(bearer: bytes) -> bool:
    """Whether what somebody shows has the shape of a JWT: three parts (RFC 7515 7.1)."""
    return _SHAPE.fullmatch(bearer) is not None


def read_header(token: bytes) -> Header | Refused:
    """Read what a token says of its signature. No more is believed before that is checked."""
    match = _SHAPE.fullmatch(token)
    try:
        if match is None:
            raise ValueError
        header = read_json(a2b_base64(match[1].translate(_FROM_URL) + b"=" * (-len(match[1]) % 4), strict_mode=True))
    except ValueError:
        return REFUSALS[Reason.MALFORMED]
    if not isinstance(header, dict) or "crit" in header or "b64" in header:
        return REFUSALS[Reason.MALFORMED]
    algorithm, kid = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str) or not isinstance(kid, str | None):
        return REFUSALS[Reason.MALFORMED]
    return Header(algorithm, kid)


_FROM_URL: Final = bytes.maketrans(b"-_", b"+/")


def keys_for(header: Header, of_files: Iterable[SigningKey], of_set: Sequence[SigningKey]) -> list[SigningKey]:
    """The keys that may have signed a token: of files all whose algorithm it is, of a set also by their name.

    A token that names no key is of the only one in the set that fits, if there is only one (OpenID Connect Core 10.1).
    """
    named = [key for key in of_set if header.algorithm in key.algorithms and header.kid in (None, key.kid)]
    if header.kid is None and len(named) > 1:
        named = []
    return [*(key for key in of_files if header.algorithm in key.algorithms), *named]


def verify(
    token: bytes, algorithm: str, keys: Iterable[SigningKey], policy: JwtPolicy, now: float
) -> Subject | Refused:
    """Check a token.

    Args:
        token: as it came.
        algorithm: of its header, as `read_header` gives it.
        keys: those of `keys_for`.
        policy: which tokens count.
        now: in seconds since 1970.

    Returns:
        Who it is of. The subject ends with `exp` and the leeway behind it.
    """
    for key in keys:
        try:
            payload = _JWS.decode(token, key.key, algorithms=[algorithm])
        except InvalidSignatureError:
            continue
        except (PyJWTError, UnsupportedAlgorithm, ValueError, TypeError):
            return REFUSALS[Reason.MALFORMED]
        try:
            return _subject(read_json(payload), key, policy, now)
        except _Bad as error:
            return _malformed(str(error))
        except ValueError:
            return REFUSALS[Reason.MALFORMED]
    return REFUSALS[Reason.SIGNATURE]


def _subject(claims: object, key: SigningKey, policy: JwtPolicy, now: float) -> Subject | Refused:
    if not isinstance(claims, dict):
        raise _Bad("its claims are no JSON object")
    expires, not_before, issued = (_time(claims, name) for name in ("exp", "nbf", "iat"))
    reason: Reason | None = None
    if policy.issuer and claims.get("iss") != policy.issuer:
        reason = Reason.ISSUER
    elif policy.audience and not _holds(claims.get("aud"), policy.audience):
        reason = Reason.AUDIENCE
    elif expires is not None and now >= expires + policy.leeway_s:
        reason = Reason.EXPIRED
    elif max(not_before or 0.0, issued or 0.0) > now + policy.leeway_s:
        reason = Reason.TOO_EARLY
    if reason is not None:
        return REFUSALS[reason]
    if expires is None and key.of_set:
        raise _Bad("it has no exp, which is wanted with a key of a JWK set")
    names = {name: _text(claims, name) for name in ("sub", "jti")}
    return Subject(
        name=names["sub"] or names["jti"] or _NAMELESS,
        kind=CredentialKind.JWT,
        rules=_rules(claims, policy),
        expires_at=None if expires is None else expires + policy.leeway_s,
        revocable_as=frozenset(filter(None, names.values())),
    )


def _time(claims: dict[str, object], name: str) -> float | None:
    """A NumericDate (RFC 7519 2)."""
    if name not in claims:
        return None
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _LATEST:
        raise _Bad(f"its {name} is no time in seconds since 1970")
    return float(value)


def _text(claims: dict[str, object], name: str) -> str:
    value = claims.get(name, "")
    if not isinstance(value, str) or not value.isprintable() or len(value.encode("utf-8")) > MAX_NAME_BYTES:
        raise _Bad(f"its {name} is no text of up to {MAX_NAME_BYTES} printable bytes")
    return value


def _holds(audience: object, wanted: str) -> bool:
    return audience == wanted or (isinstance(audience, list) and wanted in audience)


def _rules(claims: dict[str, object], policy: JwtPolicy) -> tuple[Rule, ...]:
    """What a token allows: by `pico.rules`, else by Piko's `piko.endpoints`, else what the operator gives to all."""
    if (texts := _listed(claims, "pico", "rules")) is not None:
        try:
            return tuple(map(Rule.read, texts))
        except BadRule as error:
            raise _Bad(f"one of its pico.rules is none: {error}") from None
    rules: list[Rule] = []
    for endpoint in _listed(claims, "piko", "endpoints") or ():
        if not ENDPOINT_ID_PATTERN.fullmatch(endpoint):
            raise _Bad("one of its piko.endpoints is no endpoint ID")
        rules += (Rule(action, Pattern(endpoint.lower())) for action in (Action.LISTEN, Action.CONNECT))
    return tuple(rules) or policy.rules


def _listed(claims: dict[str, object], claim: str, name: str) -> list[str] | None:
    """The texts of a list in a claim of ours; None when it is not there."""
    if claim not in claims:
        return None
    holder = claims[claim]
    if not isinstance(holder, dict):
        raise _Bad(f"its {claim} is no JSON object")
    texts = holder.get(name)
    if texts is None:
        return None
    if not isinstance(texts, list) or len(texts) > MOST_RULES or not all(isinstance(text, str) for text in texts):
        raise _Bad(f"its {claim}.{name} is no list of up to {MOST_RULES} texts")
    return texts


def _malformed(why: str) -> Refused:
    return Refused(reason=Reason.MALFORMED, message=f"the JWT cannot be used: {why}")
