"""What of a call is a credential, what is shown in its place, and how an edited text gets it back.

Hidden are the values of cookies, of credentials in fields, and of query parameters whose names speak of one, also in
the URLs of Referer and Location. What stays is what a developer looks for: the names of cookies, the scheme of an
authorization. Bodies are shown as they are: what in them is a secret, nobody can tell from outside.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from pico_twisted.core.http1.fields import Fields
from pico_twisted.core.secret_names import HIDDEN, SECRET_NAME, hide_url_secrets

_AUTHORIZATIONS: Final = frozenset((b"authorization", b"proxy-authorization"))
_URLS: Final = frozenset((b"content-location", b"location", b"referer"))
_USER: Final = re.compile(r"\A([a-z][a-z0-9+.-]{0,20}://)[^/?#@]{0,500}@", re.IGNORECASE)


def text_of(data: bytes) -> str:
    """Bytes of a head as text: as UTF-8 if they are that, else as ISO-8859-1, the old way of fields."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def masked(lower_name: bytes, value: bytes) -> str:
    """The value of a field as it is shown to who did not ask for what it hides."""
    text = text_of(value)
    if lower_name in _URLS:
        return hide_url_secrets(_USER.sub(rf"\1{HIDDEN}@", text))
    if not SECRET_NAME.search(lower_name.decode("latin-1")) or not text:
        return text
    if lower_name == b"cookie":
        return "; ".join(_pair(part) for part in text.split(";"))
    if lower_name == b"set-cookie":
        pair, semicolon, attributes = text.partition(";")
        return _pair(pair) + semicolon + attributes
    if lower_name in _AUTHORIZATIONS:
        scheme, blank, _ = text.partition(" ")
        return f"{scheme} {HIDDEN}" if blank and scheme.isalnum() else HIDDEN
    return HIDDEN


def _pair(pair: str) -> str:
    name, equals, _ = pair.strip().partition("=")
    return f"{name}={HIDDEN}" if equals else HIDDEN


def unmasked_fields(edited: Sequence[tuple[str, str]], fields: Fields) -> list[tuple[bytes, bytes]]:
    """Fields that somebody has edited who saw them masked: where a value is still that of the mask, or of the text that
    was shown, it is the one of the original.

    Args:
        edited: (name, value).
        fields: of the original.
    """
    left = list(fields)
    result = []
    for name, value in edited:
        same = next((field for field in left if _is_left_so(field, name, value)), None)
        if same is not None:
            left.remove(same)
            result.append((same[1], same[2]))
        else:
            result.append((name.encode("utf-8"), value.encode("utf-8")))
    return result


def _is_left_so(field: tuple[bytes, bytes, bytes], name: str, value: str) -> bool:
    lower, _, original = field
    return lower.decode("latin-1") == name.lower() and value in (masked(lower, original), text_of(original))


def unmasked_target(edited: str, target: str) -> str:
    """A target that somebody has edited who saw it masked: parameters whose value is the mask get that of the original.

    Args:
        edited: the text.
        target: of the original.
    """
    hidden: dict[str, list[str]] = {}
    for parameter in target.partition("?")[2].split("&"):
        name, equals, value = parameter.partition("=")
        if equals:
            hidden.setdefault(name, []).append(value)
    path, mark, query = edited.partition("?")
    parameters = []
    for parameter in query.split("&"):
        name, equals, value = parameter.partition("=")
        if value == HIDDEN and hidden.get(name):
            value = hidden[name].pop(0)
        parameters.append(name + equals + value)
    return path + mark + "&".join(parameters)
