"""Which names speak of credentials, whose values are shown to nobody who did not ask for them."""

from __future__ import annotations

import re
from typing import Final

HIDDEN: Final = "(hidden)"
"""What is written in place of a credential."""

# Strangers can bring text before this pattern: it may not take more than linear time.
SECRET_NAME: Final = re.compile(
    r"token|secret|passw|authori[sz]ation|cookie|credential|signature|jwt"
    r"|(?:private|api|auth|access)[-_]?key|sess(?:ion)?[-_]?id|\b(?:auth|pwd|sig)\b",
    re.IGNORECASE,
)
"""Is found in the name of a field, a parameter or a key whose value is a credential."""


def hide_query_secrets(target: str) -> str:
    """A request target without the values of parameters whose names speak of credentials."""
    path, mark, query = target.partition("?")
    return path + mark + _hidden(query)


def hide_url_secrets(url: str) -> str:
    """A URL likewise, and without those behind `#`, where a login leads back to a page with its token."""
    rest, mark, fragment = url.partition("#")
    return hide_query_secrets(rest) + mark + _hidden(fragment)


def _hidden(parameters: str) -> str:
    if not SECRET_NAME.search(parameters):
        return parameters
    shown = []
    for parameter in parameters.split("&"):
        name, equals, value = parameter.partition("=")
        shown.append(f"{name}={HIDDEN}" if value and SECRET_NAME.search(name) else name + equals + value)
    return "&".join(shown)
