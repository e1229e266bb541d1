"""The flags of both daemons as a list: for completions and man pages. `--help` says the same of each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import attrs

from pico_twisted.config.agent import AgentConfig
from pico_twisted.config.fields import all_keys
from pico_twisted.config.node import NodeConfig

DAEMONS: Final = {"pico-node": NodeConfig, "pico-agent": AgentConfig}
"""The commands of the daemons, and the class of each one's configuration."""


@attrs.frozen(kw_only=True)
class Flag:
    """A flag of a daemon.

    Attributes:
        name: without the dashes before it.
        help: what it is for: full sentences.
        kind: of its value, as the reference of keys has it; empty when it takes none.
        file: its value names a file.
        default: as it would be given; empty when there is none.
    """

    name: str
    help: str
    kind: str = ""
    file: bool = False
    default: str = ""


def daemon_flags(config: type[Any]) -> Iterator[Flag]:
    """The flags of the daemon with a configuration of this class.

    Args:
        config: `NodeConfig` or `AgentConfig`.
    """
    help = "Read this YAML file. Flags beat what it says, and it beats the defaults."
    yield Flag(name="config", help=help, kind="file", file=True)
    yield Flag(name="config.expand-env", help="Replace ${VAR} and ${VAR:default} in the file by the environment.")
    yield Flag(name="check", help="Check the file and the flags, say what is wrong with them, and exit.")
    yield Flag(name="version", help="Print the version and exit.")
    yield Flag(name="help", help="Print all flags and exit.")
    if config is AgentConfig:
        help = "Register an endpoint for the service at this address, as in web=3000. May be given more than once."
        yield Flag(name="listen", help=help, kind="ENDPOINT=ADDRESS")
    for key in all_keys(config):
        if key.kind is not None:
            yield Flag(
                name=key.flag,
                help=key.help,
                kind=key.kind.name,
                file=key.kind.file,
                default=key.default_text,
            )
