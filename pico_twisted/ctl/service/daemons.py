"""What differs between a node and an agent as services of a machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import attrs


@attrs.frozen(kw_only=True)
class Daemon:
    """A kind of service.

    Attributes:
        kind: what a person calls it: `node` or `agent`.
        unit: its name under systemd, without `.service`, which is also that of its user and of its unit's sample.
        config: name of its configuration, and of the sample of that.
        check: what `picoctl check` is told to check it.
        next_steps: what an operator does once it runs; `{config}` stands for the configuration's path.
    """

    kind: str
    unit: str
    config: str
    check: tuple[str, ...]
    next_steps: str


DAEMONS: Final[Mapping[str, Daemon]] = {
    "node": Daemon(
        kind="node",
        unit="pico",
        config="pico.yaml",
        check=(),
        next_steps=(
            "The node is ready.\n"
            "  look at it      picoctl status --admin unix:/run/pico/admin; journalctl -u pico -o cat -f\n"
            "  configure it    {config}, then systemctl reload pico\n"
            "  serve something picoctl service install agent, here or on another machine"
        ),
    ),
    "agent": Daemon(
        kind="agent",
        unit="pico-agent",
        config="pico-agent.yaml",
        check=("--agent",),
        next_steps=(
            "The agent runs.\n"
            "  look at it      systemctl status pico-agent; journalctl -u pico-agent -o cat -f\n"
            "  configure it    {config} (connect.url, listeners), then systemctl restart pico-agent"
        ),
    ),
}
"""The kinds, by what a person calls them."""
