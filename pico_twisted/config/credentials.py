"""The files that say who may use a port: read whole, with every fault in them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, TypeVar

import attrs

from pico_twisted.config.access import AuthConfig, JwtConfig
from pico_twisted.config.agent import ListenerConfig
from pico_twisted.config.document import child
from pico_twisted.config.faults import MAX_FILE_NAME_SHOWN, Fault, shown, whose
from pico_twisted.core.access.credentials_file import (
    MAX_FILE_BYTES,
    LineFault,
    hash_of,
    read_certificates,
    read_tokens,
)
from pico_twisted.core.access.htpasswd import read_htpasswd
from pico_twisted.core.access.refusals import REFUSALS
from pico_twisted.core.access.subject import Reason, Refused, Subject

if TYPE_CHECKING:  # they take longer to import than all of picoctl, and few configurations need them
    from pico_twisted.core.access.json_web_token import JwtPolicy
    from pico_twisted.core.access.signing_keys import SigningKey

MAX_KEY_FILE_BYTES: Final = 256 << 10
"""Most bytes of a file of keys."""

KEPT_FILES: Final = 3
"""Most files of each kind that are not taken apart again as long as they are the same: one for each port."""

T = TypeVar("T")

Users = Mapping[bytes, bytes]
"""The hashes of passwords, by the name of their user."""


@attrs.frozen(kw_only=True)
class Credentials:
    """What the files of one port say.

    Attributes:
        tokens: the subjects by the hash of their token.
        certificates: the subjects by the name in their certificate.
        jwt: which JWTs count.
        of_files: keys of those who sign JWTs, each of a file.
        of_set: those of a JWK set in a file.
    """

    tokens: Mapping[bytes, Subject] = attrs.field(factory=dict)
    certificates: Mapping[str, Subject] = attrs.field(factory=dict)
    jwt: JwtConfig = JwtConfig()
    of_files: tuple[SigningKey, ...] = ()
    of_set: tuple[SigningKey, ...] = ()


# A start and a reload each read a file twice, once to check it, and mostly it is the one that is in force.
_tokens_in = functools.lru_cache(KEPT_FILES)(read_tokens)
_certificates_in = functools.lru_cache(KEPT_FILES)(read_certificates)


def policy_of(jwt: JwtConfig) -> JwtPolicy:
    """Which tokens count, of those that have a good signature."""
    from pico_twisted.core.access.json_web_token import JwtPolicy

    return JwtPolicy(issuer=jwt.issuer, audience=jwt.audience, leeway_s=jwt.leeway, rules=jwt.rules)


def owner_of(bearer: bytes, credentials: Credentials, now: float) -> Subject | Refused:
    """Whose a token or JWT is by the files of one port alone: a JWK set at a URL is not asked.

    Args:
        bearer: as it is shown.
        credentials: what the files say.
        now: in seconds since 1970.
    """
    found = credentials.tokens.get(hash_of(bearer))
    if found is not None or not credentials.jwt.any_keys:
        return found or REFUSALS[Reason.UNKNOWN]
    from pico_twisted.core.access.json_web_token import keys_for, looks_like_jwt, read_header, verify

    header = read_header(bearer) if looks_like_jwt(bearer) else REFUSALS[Reason.UNKNOWN]
    if isinstance(header, Refused):
        return header
    keys = keys_for(header, credentials.of_files, credentials.of_set)
    if not keys:
        return REFUSALS[Reason.UNKNOWN]
    return verify(bearer, header.algorithm, keys, policy_of(credentials.jwt), now)


def read_credentials(auth: AuthConfig, path: str) -> tuple[Credentials, Sequence[Fault]]:
    """Read all files of a section `auth`.

    Args:
        auth: the section.
        path: of the section, such as `upstream.auth`.

    Returns:
        What they say, and what is wrong with them.
    """
    faults: list[Fault] = []
    tokens = _read_lines(auth.tokens_file, child(path, "tokens_file"), _tokens_in, faults)
    certificates = _read_lines(auth.certificates_file, child(path, "certificates_file"), _certificates_in, faults)
    of_files, of_set = _read_jwt_keys(auth.jwt, child(path, "jwt"), faults)
    found = Credentials(
        tokens=tokens or {}, certificates=certificates or {}, jwt=auth.jwt, of_files=of_files, of_set=of_set
    )
    return found, faults


def _read_lines(
    file_name: str, path: str, read: Callable[[str], tuple[T, Sequence[LineFault]]], faults: list[Fault]
) -> T | None:
    content = _read(file_name, path, MAX_FILE_BYTES, faults)
    if content is None:
        return None
    try:
        value, wrong = read(content.decode("utf-8"))
    except UnicodeDecodeError:
        faults.append(_unusable(file_name, path, "is not UTF-8", "a text"))
        return None
    faults += [
        Fault(path=path, found=fault.found, expected=fault.expected, where=f"{file_name}:{fault.line}")
        for fault in wrong
    ]
    return value


def _read_jwt_keys(
    jwt: JwtConfig, path: str, faults: list[Fault]
) -> tuple[tuple[SigningKey, ...], tuple[SigningKey, ...]]:
    """The keys of all files: those that hold some, and those of a JWK set."""
    if not jwt.any_keys:
        return (), ()
    from pico_twisted.core.access.signing_keys import BadKeys, read_key_set, read_public_keys, read_secret_key

    sources: list[tuple[str, str, Callable[[bytes], tuple[SigningKey, ...]], str]] = []
    for index, name in enumerate(jwt.keys):
        where = child(child(path, "keys"), index)
        sources.append((name, where, read_public_keys, "a PEM file with public keys of those who sign"))
    for index, name in enumerate(jwt.secret_files):
        where = child(child(path, "secret_files"), index)
        sources.append((name, where, lambda data: (read_secret_key(data),), "a file with one secret"))
    if jwt.jwks and not jwt.jwks_url:
        sources.append((jwt.jwks, child(path, "jwks"), read_key_set, "a JWK set with public keys"))
    found: dict[bool, list[SigningKey]] = {False: [], True: []}
    for name, where, read, expected in sources:
        content = _read(name, where, MAX_KEY_FILE_BYTES, faults)
        try:
            found[read is read_key_set] += read(content) if content is not None else ()
        except BadKeys as error:
            faults.append(_unusable(name, where, str(error), expected))
    return tuple(found[False]), tuple(found[True])


def _read(file_name: str, path: str, most: int, faults: list[Fault]) -> bytes | None:
    if not file_name:
        return None
    why = f"is longer than {most >> 10} KiB"
    try:
        with open(file_name, "rb") as file:
            content = file.read(most + 1)
        if len(content) <= most:
            return content
    except (OSError, ValueError) as error:
        why = f"cannot be read: {getattr(error, 'strerror', None) or 'not a file name'}"
        why += whose(file_name) if isinstance(error, PermissionError) else ""
    faults.append(_unusable(file_name, path, why, "a file that can be read"))
    return None


def _unusable(file_name: str, path: str, why: str, expected: str) -> Fault:
    return Fault(path=path, found=f"{shown(file_name, MAX_FILE_NAME_SHOWN)}, which {why}", expected=expected)


def read_users(listeners: Sequence[ListenerConfig]) -> tuple[Mapping[str, Users], Sequence[Fault]]:
    """Read the files of all listeners with users and passwords.

    Returns:
        The users of each file, by its name, and what is wrong.
    """
    found: dict[str, Users] = {}
    faults: list[Fault] = []
    for index, listener in enumerate(listeners):
        name = listener.basic_auth_file
        if name and name not in found:
            path = child(child("listeners", index), "basic_auth_file")
            found[name] = _read_lines(name, path, read_htpasswd, faults) or {}
    return found, faults
