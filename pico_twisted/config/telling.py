"""A configuration as it is told to operators: each key with its value as a file would say it, and no secret."""

from __future__ import annotations

import re
from typing import Any, Final

from pico_twisted.config.fields import own_keys
from pico_twisted.config.kinds import Many
from pico_twisted.core.secret_names import HIDDEN, hide_query_secrets

_USER_INFO: Final = re.compile(r"(?<=//)[^/@\s]*@")  # a URL's user name and password


def told_values(config: Any) -> dict[str, str]:
    """The values that are not empty, by their paths.

    Args:
        config: an instance of a configuration class.

    Returns:
        Their texts. Of secrets it is told how many there are, and of URLs neither user nor password, nor
        what parameters hold whose names speak of credentials.
    """
    found: dict[str, str] = {}
    _tell(config, "", found)
    return found


def _tell(part: Any, path: str, found: dict[str, str]) -> None:
    for key in own_keys(type(part)):
        here, value = f"{path}{key.path[-1]}", getattr(part, key.path[-1])
        if key.section is not None:
            _tell(value, f"{here}.", found)
        elif key.item is not None:
            for index, inner in enumerate(value):
                _tell(inner, f"{here}[{index}].", found)
        elif key.kind is not None and key.kind.secret:
            if value:
                found[here] = f"{len(value)} {HIDDEN}" if isinstance(key.kind, Many) else HIDDEN
        elif key.kind is not None and (text := key.kind.to_text(value)):
            found[here] = hide_query_secrets(_USER_INFO.sub(f"{HIDDEN}@", text))
