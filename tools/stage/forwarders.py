"""`picoctl forward` as a process."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tools.stage.nodes import Node
from tools.stage.processes import Process
from tools.stage.stage import Stage

PICOCTL: Final = (sys.executable, "-c", "from pico_twisted.ctl.main import main; main()")
"""The command, of this checkout."""


class Forwarder(Process):
    """A running `picoctl forward`, with any free port of 127.0.0.1 for each endpoint.

    Args:
        endpoints: that it forwards to.
        arguments: behind them.
        directory: where it runs and where its output goes.
        env: more for its environment.
    """

    def __init__(
        self, endpoints: Sequence[str], arguments: Sequence[str], directory: Path, env: Mapping[str, str] | None = None
    ) -> None:
        self._endpoints = endpoints
        pairs = [word for endpoint in endpoints for word in ("0", endpoint)]
        super().__init__("forward", [*PICOCTL, "forward", *pairs, *arguments], directory, env)

    def wait_ready(self) -> None:
        """Wait until it listens."""
        self.wait_until(lambda: len(self.ports) == len(self._endpoints), "forward to listen")

    @property
    def ports(self) -> dict[str, int]:
        """The port of each endpoint, as it was told."""
        found = re.findall(r"^127\.0\.0\.1:([0-9]+) -> (\S+) at ", self.output, re.MULTILINE)
        return {endpoint: int(port) for port, endpoint in found}

    def port(self, endpoint: str = "") -> int:
        """The port that leads to an endpoint; to the only one, or the first, when none is named."""
        return self.ports[endpoint or self._endpoints[0]]


def reaching(nodes: Sequence[Node]) -> list[str]:
    """The arguments with which picoctl reaches the proxy ports of nodes."""
    arguments = [word for node in nodes for word in ("--url", node.url("", "localhost"))]
    tls = nodes[0].tls
    return arguments if tls is None else [*arguments, "--ca", str(tls.authority.ca)]


def forwarder(
    stage: Stage,
    nodes: Node | Sequence[Node],
    endpoints: Sequence[str],
    *arguments: str,
    env: Mapping[str, str] | None = None,
) -> Forwarder:
    """Start one on a stage, and wait until it listens.

    Args:
        stage: stops it at the end.
        nodes: whose proxy ports it uses.
        endpoints: that it forwards to.
        arguments: more.
        env: more for its environment.
    """
    some = [nodes] if isinstance(nodes, Node) else list(nodes)
    given = [*reaching(some), *arguments]
    return stage.started(lambda: Forwarder(endpoints, given, stage.directory, env), Forwarder.wait_ready)
