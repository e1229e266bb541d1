"""`picoctl http` as a person has it: on a terminal of 60 or 80 columns, with Ctrl-C, and a window that is closed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest

from tests.system.exposing import home
from tests.system.requesting import GET, ask
from tests.system.service import Service
from tests.system.terminal import Terminal
from tests.system.test_restart import PLAIN, ends, opened, streams
from tools.stage.forwarders import PICOCTL
from tools.stage.nodes import Node
from tools.stage.ports import free_port
from tools.stage.processes import environment
from tools.stage.stage import Stage

Opens = Callable[..., Terminal]
URL_LINE = "Ctrl-C ends it"


@pytest.fixture
def node(stage: Stage) -> Node:
    """That everything goes to."""
    return stage.node()


@pytest.fixture
def opens(node: Node, service: Service, tmp_path: Path) -> Iterator[Opens]:
    """Opens a terminal with `picoctl http` for a service that has streams, and waits until it is reachable."""
    service.script = streams
    made = []

    def open_one(*words: str, columns: int = 80, **env: str) -> Terminal:
        folder = tmp_path / "empty"
        folder.mkdir(exist_ok=True)
        command = [*PICOCTL, "http", *(words or (f"web={service.port}",)), "--to", node.upstream_url]
        here = environment(**home(tmp_path), TERM="xterm", **env)
        here.pop("COLUMNS", None)
        made.append(Terminal(command, columns, here, folder))
        made[-1].wait(URL_LINE)
        return made[-1]

    yield open_one
    for terminal in made:
        terminal.close()
    assert not any((tmp_path / "empty").iterdir())  # nothing is written where it runs


@PLAIN
def test_the_window_is_closed(stage: Stage, node: Node, opens: Opens) -> None:
    """Whoever closes the window has ended the tunnel: nothing is served any more, though a WebSocket was open."""
    terminal = opens()
    assert ask(stage, node, GET).status == 200
    clients = opened(node)
    terminal.end()
    ends(clients)
    assert terminal.exit_status() == 0
    node.wait_endpoint("web", 0)


@PLAIN
@pytest.mark.parametrize("presses", [1, 2])
def test_ctrl_c_with_something_open(node: Node, opens: Opens, presses: int) -> None:
    """The first one says what is open and ends within moments, the second at once."""
    terminal = opens()
    clients = opened(node)
    terminal.wait("upgrade opened")
    terminal.wait("stream opened")
    terminal.press(b"\x03")
    terminal.wait("1 stream is open, 1 upgrade is open; Ctrl-C again to stop now")
    if presses == 2:
        terminal.press(b"\x03")
    ends(clients)
    assert terminal.exit_status() == 0
    assert "stopped" in terminal.text


@PLAIN
def test_ctrl_c_with_nothing_open(opens: Opens) -> None:
    """Nothing is said of what is open, and it is over."""
    terminal = opens()
    terminal.press(b"\x03")
    assert terminal.exit_status() == 0
    assert "Ctrl-C again" not in terminal.text


@PLAIN
@pytest.mark.parametrize("columns", [60, 80])
def test_it_fits(stage: Stage, node: Node, service: Service, opens: Opens, columns: int) -> None:
    """No line that it writes is wider than the terminal, and what failed is told in words."""
    terminal = opens(f"web={service.port}", f"dead={free_port()}", columns=columns)
    ask(stage, node, b"GET /" + b"a" * 200 + b" HTTP/1.1\r\nHost: web.example\r\n\r\n")
    assert ask(stage, node, GET.replace(b"web.", b"dead.")).status == 502
    terminal.wait("running?")
    terminal.press(b"\x03")
    terminal.exit_status()
    text = click.unstyle(terminal.text).replace("^C", "")
    assert max(len(line) for line in text.splitlines()) <= columns, text
    assert "nothing listens at" in " ".join(text.split())
    assert re.search(r"inspect: http://127\.0\.0\.1:[0-9]+/#key=\S+", text)


@PLAIN
def test_colour(stage: Stage, node: Node, opens: Opens) -> None:
    """There is colour on a terminal, and none if its owner wants none (no-color.org)."""
    for env, coloured in (({}, True), ({"NO_COLOR": "1"}, False)):
        terminal = opens(**env)
        ask(stage, node, GET)
        terminal.wait("200")
        assert ("\x1b[" in terminal.text) is coloured
        terminal.press(b"\x03")
        assert terminal.exit_status() == 0


@PLAIN
def test_a_qr_code(opens: Opens) -> None:
    """`--qr` draws the URL, no wider than a terminal of 60 columns."""
    terminal = opens("3000", "--qr", columns=60)
    drawn = [line for line in terminal.text.splitlines() if "█" in line]
    assert len(drawn) > 10
    assert max(map(len, drawn)) <= 60
