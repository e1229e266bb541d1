"""The section `inspect` of an agent."""

from __future__ import annotations

import attrs

from pico_twisted.config import kinds
from pico_twisted.config.fields import setting
from pico_twisted.config.port_kinds import LOOPBACK_ADDRESS
from pico_twisted.config.values import Address


@attrs.frozen(kw_only=True)
class InspectConfig:
    """A page of what passes, for the developer of a service."""

    enabled: bool = setting(
        kinds.BOOLEAN,
        "false",
        "Whether the agent keeps the newest requests and responses, and shows them on a page of its own.",
    )
    bind_addr: Address = setting(
        LOOPBACK_ADDRESS,
        "127.0.0.1:4040",
        "Where the page is served: on loopback alone. If the port is taken, the next free one is used.",
    )
    key_file: str = setting(
        kinds.FILE,
        "",
        "File with the key that opens the page. Empty: a new key at each start, as part of the link that is shown on a "
        "terminal, and never in the log.",
    )
