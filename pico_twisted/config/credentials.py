"""The files that say who may use a port: read whole, with every fault in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import attrs

from pico_twisted.config.access import AuthConfig
from pico_twisted.config.document import child
from pico_twisted.config.faults import MAX_FILE_NAME_SHOWN, Fault, shown
from pico_twisted.core.access.credentials_file import MAX_FILE_BYTES, LineFault, read_certificates, read_tokens
from pico_twisted.core.access.subject import Subject

T = TypeVar("T")


@attrs.frozen(kw_only=True)
class Credentials:
    """What the files of one port say.

    Attributes:
        tokens: the subjects by the hash of their token.
        certificates: the subjects by the name in their certificate.
    """

    tokens: Mapping[bytes, Subject] = attrs.field(factory=dict)
    certificates: Mapping[str, Subject] = attrs.field(factory=dict)


def read_credentials(auth: AuthConfig, path: str) -> tuple[Credentials, Sequence[Fault]]:
    """Read all files of a section `auth`.

    Args:
        auth: the section.
        path: of the section, such as `upstream.auth`.

    Returns:
        What they say, and what is wrong with them.
    """
    faults: list[Fault] = []
    tokens = _read(auth.tokens_file, child(path, "tokens_file"), read_tokens, faults)
    certificates = _read(auth.certificates_file, child(path, "certificates_file"), read_certificates, faults)
    return Credentials(tokens=tokens or {}, certificates=certificates or {}), faults


def _read(
    file_name: str, path: str, read: Callable[[str], tuple[T, Sequence[LineFault]]], faults: list[Fault]
) -> T | None:
    if not file_name:
        return None
    try:
        with open(file_name, "rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
        if len(content) > MAX_FILE_BYTES:
            raise ValueError(f"longer than {MAX_FILE_BYTES >> 20} MiB")
        text = content.decode("utf-8")
    except (OSError, ValueError) as error:
        why = "not UTF-8" if isinstance(error, UnicodeDecodeError) else getattr(error, "strerror", None) or str(error)
        found = f"{shown(file_name, MAX_FILE_NAME_SHOWN)} ({why})"
        faults.append(Fault(path=path, found=found, expected="a file that can be read"))
        return None
    value, wrong = read(text)
    faults += [
        Fault(path=path, found=fault.found, expected=fault.expected, where=f"{file_name}:{fault.line}")
        for fault in wrong
    ]
    return value
