"""`picoctl http`, `tcp` and `file` as processes that speak JSON, each with a home of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tools.stage.forwarders import PICOCTL
from tools.stage.nodes import Node
from tools.stage.processes import Process
from tools.stage.stage import Stage
from tools.stage.waiting import wait_until


def home(directory: Path, name: str = "home") -> dict[str, str]:
    """The environment of a person who has just come, and has no node on this machine with the default ports."""
    folder = directory / name
    folder.mkdir(exist_ok=True)
    return {"HOME": str(folder), "XDG_CONFIG_HOME": str(folder / "config"), "PICO_URL": "", "PICO_TOKEN": ""}


class Exposer(Process):
    """One of these commands, running.

    Args:
        words: of its command line, behind `picoctl`.
        directory: where its output goes.
        env: more for its environment, which has a home.
    """

    def __init__(self, words: Sequence[str], directory: Path, env: Mapping[str, str]) -> None:
        super().__init__("picoctl", [*PICOCTL, *words, "--json"], directory, env)

    def events(self, kind: str) -> list[dict[str, Any]]:
        """What it told, of one kind."""
        return [record for record in self.records if record.get("event") == kind]

    def wait_event(self, kind: str, count: int = 1) -> dict[str, Any]:
        """Wait until it has told that often of something; the last time."""
        self.wait_until(lambda: len(self.events(kind)) >= count, f"{count} {kind}")
        return self.events(kind)[count - 1]

    @property
    def names(self) -> list[str]:
        """The endpoint IDs of what it serves."""
        return [event["endpoint"] for event in self.events("url")]


def exposing(stage: Stage, node: Node | None, *words: str, env: Mapping[str, str] | None = None) -> Exposer:
    """Start one, and wait until all is reachable.

    Args:
        stage: stops it at the end.
        node: that it goes to; None for one in its own process.
        words: of its command line.
        env: its home; a new one unless given.
    """
    to = ("--local",) if node is None else ("--to", node.upstream_url)
    given = env or home(stage.directory)
    return stage.started(
        lambda: Exposer([*words, *to], stage.directory, given), lambda process: process.wait_event("ready"), 1
    )


def over(process: Process) -> tuple[int | None, str]:
    """How a command ended that could not begin, and what it said."""
    wait_until(lambda: not process.running, f"the end of {process.name}")
    return process.exit_status, process.output
