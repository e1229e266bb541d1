"""A configuration as the doctor reads it: whose it is, its faults, its certificates, and the files that it names."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

from pico_twisted.config import AgentConfig, ConfigFaults, NodeConfig, load_agent, load_node
from pico_twisted.config.certificates import certificate_warnings
from pico_twisted.config.fields import own_keys
from pico_twisted.config.kinds import Many
from pico_twisted.ctl.check import only_the_others
from pico_twisted.ctl.doctor.lines import Line, green, red, yellow

_SECRET: Final = ("key", "token_file", "secret_files", "basic_auth_file")
"""Last parts of the keys whose files hold secrets."""
_WRITTEN: Final = ("access_log_file", "revocations_file", "storage")
"""Those of the keys whose files, or files below them, are written."""


def read_configuration(
    file: str, now: datetime, *, expand_env: bool
) -> tuple[NodeConfig | AgentConfig | None, list[Line]]:
    """Load the file of a node or an agent.

    Args:
        file: its name.
        now: for certificates.
        expand_env: whether `${VAR}` is replaced.

    Returns:
        What it says, None when it cannot be used; and a line for each fault or certificate that wants attention.
    """
    is_agents = bool(only_the_others(file, NodeConfig, AgentConfig))
    try:
        config = (load_agent if is_agents else load_node)(file, environ=os.environ, expand_env=expand_env, now=now)
    except ConfigFaults as error:
        cure = "put it right: until then it neither starts nor reloads"
        return None, [red("configuration", str(fault), cure) for fault in error.faults]
    cure = "renew it: its file is read again when it changes"
    old = [yellow("certificates", warning, cure) for warning in certificate_warnings(config, now)]
    of = "an agent" if is_agents else "a node"
    return config, [green("configuration", f"{file} is that of {of}, and valid"), *old]


def named_files(config: NodeConfig | AgentConfig) -> Iterator[tuple[str, bool]]:
    """The files that a configuration names to be read, and whether each holds a secret."""
    for key, value in _file_values(config):
        if key not in _WRITTEN and not value.startswith("https://"):
            yield value, key in _SECRET


def written_in(config: NodeConfig | AgentConfig) -> set[str]:
    """The directories in which a daemon with this configuration writes files."""
    found = {"/var/log", "/var/lib/pico"}
    for key, value in _file_values(config):
        if key in _WRITTEN:
            found.add(value if key == "storage" else os.path.dirname(value) or ".")
    return found


def _file_values(part: Any) -> Iterator[tuple[str, str]]:
    """The last parts of the keys that name files, and the names; nothing where there is none."""
    for key in own_keys(type(part)):
        value = getattr(part, key.path[-1])
        kind = key.kind.item if isinstance(key.kind, Many) else key.kind
        if kind is None:
            for inner in (value,) if key.section is not None else value:
                yield from _file_values(inner)
        elif kind.file:
            yield from ((key.path[-1], name) for name in ((value,) if isinstance(value, str) else value) if name)
