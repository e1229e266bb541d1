"""The command itself: help, version, and how quickly it starts."""

from __future__ import annotations

import subprocess
import sys

import pytest

import pico_twisted
from pico_twisted.core.text import escaped
from pico_twisted.ctl import tables
from tests.ctl.harness import PATIENCE_S, environment, picoctl


def test_version() -> None:
    """--version says it, on stdout."""
    done = picoctl("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"picoctl {pico_twisted.__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), ("Exit status", "status", "check", "bench", "Examples", "agents", "endpoint", "version", "help")),
        (("status",), ("--admin", "PICO_ADMIN", "--forward", "--json", "--ca", "--timeout", "nodes", "gossip")),
        (("status", "nodes"), ("--admin", "--json")),
        (("status", "node"), ("ID", "local")),
        (("check",), ("--agent", "--expand-env", "FILE")),
        (("token",), ("create", "list", "revoke")),
        (("token", "create"), ("NAME", "--rule", "--file", "--token-file", "--json")),
        (("revoke",), ("NAME", "--agent", "--for", "--undo", "--list", "--admin", "--json")),
        (("forward",), ("LOCAL", "ENDPOINT", "--url", "--token-file", "--patience", "unix:", "ProxyCommand")),
        (("bench",), ("--proxy", "--upstream", "--rate", "--churn", "--websocket", "--json", "stall")),
    ],
)
def test_help(arguments: tuple[str, ...], words: tuple[str, ...]) -> None:
    """Every command has its help, which fits 80 columns."""
    for flag in ("--help", "-h"):
        done = picoctl(*arguments, flag)
        assert (done.returncode, done.stderr) == (0, "")
        assert all(word in done.stdout for word in words)
        assert all(len(line) <= 80 for line in done.stdout.splitlines())


@pytest.mark.parametrize(
    ("arguments", "banned"),
    [
        (["--version"], {"twisted", "zope", "cattrs", "yaml", "http.client", "ssl"}),
        (["status", "--admin", "http://127.0.0.1:1"], {"twisted", "zope", "yaml"}),
        (["revoke", "ci", "--admin", "http://127.0.0.1:1"], {"twisted", "zope"}),
        (["check", "/dev/null"], {"twisted", "zope", "http.client"}),
        (["token", "list", "--file", "/nowhere"], {"twisted", "zope"}),
        (["bench", "--duration", "soon"], {"twisted", "zope"}),
        (["forward", "5432"], {"twisted", "zope"}),
        (["forward", "--help"], {"twisted", "zope", "yaml"}),
        (["bench", "--help"], {"twisted", "zope", "yaml", "http.client", "ssl"}),
    ],
)
def test_what_is_imported(arguments: list[str], banned: set[str]) -> None:
    """Nothing is imported that the command has no use for, and never a reactor: it starts quickly."""
    program = (
        "import sys; from pico_twisted.ctl.main import run; run(sys.argv[2:]); "
        "print('loaded:', *sorted(set(sys.argv[1].split(',')) & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, ",".join(banned), *arguments],
        env=environment(),
        capture_output=True,
        timeout=PATIENCE_S,
        check=False,
        encoding="utf-8",
    )
    assert done.stdout.splitlines()[-1] == "loaded:", done


def test_escaped() -> None:
    """Texts stay as they are, but for what a terminal acts upon."""
    assert escaped("nœud 1") == "nœud 1"
    assert escaped("a\x1b[31m\r\n\t\x7f\x9b") == r"a\x1b[31m\r\n\t\x7f\x9b"
    assert escaped("\u202eevil\u2028\ud800") == r"\u202eevil\u2028\ud800"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0, "0.0s"), (0.42, "0.4s"), (99.9, "99.9s"), (754.2, "13m"), (7200.0, "2h"), (1e6, "278h")]
)
def test_spans(seconds: float, text: str) -> None:
    """Times are short."""
    assert tables._span(seconds) == text


def test_counts() -> None:
    """How many nodes there are, and how they are."""
    assert tables.count_of(["active"]) == "1 active node"
    assert tables.count_of(["active"] * 3) == "3 active nodes"
    assert tables.count_of(["left", "active", "active"]) == "3 nodes: 2 active, 1 left"
