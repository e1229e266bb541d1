"""`pico-node` and `pico-agent`: the daemons as commands of their own.

`pipx install` and `uv tool install` put only a package's own commands on the PATH, and `twistd` is Twisted's. These two
are `twistd -n --pidfile= pico` and `twistd -n --pidfile= pico-agent`: in the foreground, without a pid file.
"""

from __future__ import annotations

import sys
from typing import Final

FOREGROUND: Final = ("--nodaemon", "--pidfile=")
"""Options of twistd that a service manager, a container and a terminal all want."""


def node() -> None:
    """Run a node until it ends; the command line has the options of `twistd pico`."""
    _run("pico")


def agent() -> None:
    """Run an agent until it ends; the command line has the options of `twistd pico-agent`."""
    _run("pico-agent")


def _run(plugin: str) -> None:
    from twisted.scripts.twistd import run

    sys.argv[1:1] = [*FOREGROUND, plugin]
    run()
