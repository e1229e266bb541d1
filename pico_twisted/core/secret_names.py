"""Which names speak of credentials, whose values are shown to nobody who did not ask for them."""

from __future__ import annotations

import re
from typing import Final

HIDDEN: Final = "(hidden)"
"""What is written in place of a credential."""

# Strangers can bring text before this pattern: it may not take more than linear time.
SECRET_NAME: Final = re.compile(
    r"token|secret|passw|authori[sz]ation|cookie|credential|private[-_]?key|api[-_]?key|signature|jwt", re.IGNORECASE
)
"""Is found in the name of a field, a parameter or a key whose value is a credential."""


def hide_query_secrets(target: str) -> str:
    """A request target without the values of parameters whose names speak of credentials."""
    path, _, query = target.partition("?")
    if not SECRET_NAME.search(query):
        return target
    shown = []
    for parameter in query.split("&"):
        name, equals, value = parameter.partition("=")
        shown.append(f"{name}={HIDDEN}" if value and SECRET_NAME.search(name) else name + equals + value)
    return f"{path}?{'&'.join(shown)}"
