"""The man pages and completions that packages install are as the code is."""

from __future__ import annotations

import re

import pytest

from pico_twisted.app.cli.options import AgentOptions, NodeOptions
from pico_twisted.config.command_line import DAEMONS, daemon_flags
from pico_twisted.ctl.main import COMMANDS
from tools.man_pages import Page, escaped, files, stale
from tools.stage.processes import ROOT


def test_they_are_current() -> None:
    """After a change of a command, an option or a key: `make man-pages`."""
    assert stale(ROOT) == []


def test_each_command_has_a_page() -> None:
    """picoctl, each of its commands, both daemons and both files; what is named below SEE ALSO is there."""
    wanted = {"picoctl.1", *(f"picoctl-{name}.1" for name in COMMANDS), "pico-node.8", "pico-agent.8"}
    wanted |= {"pico.yaml.5", "pico-agent.yaml.5"}
    pages = {name.rpartition("/")[2]: text for name, text in files() if "/man/" in name}
    assert pages.keys() == wanted
    for text in pages.values():
        for name, section in re.findall(r"([\w.\\-]+)\((\d)\)", text.partition(".SH SEE ALSO")[2]):
            assert f"{name.replace(chr(92), '')}.{section}" in pages


@pytest.mark.parametrize(("command", "options"), [("pico-node", NodeOptions), ("pico-agent", AgentOptions)])
def test_flags_are_those_of_the_daemons(command: str, options: type[NodeOptions | AgentOptions]) -> None:
    """What is completed and described is what the daemons take."""
    shown = set(re.findall(r"^  --(\S+)", options().getUsage(1000), re.MULTILINE))
    assert {flag.name for flag in daemon_flags(DAEMONS[command])} == shown


def test_texts_are_no_requests() -> None:
    """A line that begins with a point, and a backslash, are text."""
    assert escaped(".x\n'y\n\\-é") == "\\&.x\n\\&'y\n\\e\\-\\[u00E9]"
    page = Page("a", 1, "B.")
    page.paragraph(".b `c-d`")
    assert "\n\\&.b \\fBc\\-d\\fR\n" in page.written()
