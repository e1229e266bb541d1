"""A browser that is told what to do: chromium without a window, over its DevTools protocol."""

from __future__ import annotations

import contextlib
import itertools
import json
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from websockets.sync.client import ClientConnection, connect

from tools.stage.asking import get
from tools.stage.processes import environment
from tools.stage.waiting import wait_until

QUIET: Final = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
"""Flags of chromium for programs."""


class Browser:
    """One page of a running browser.

    Args:
        socket: of the DevTools protocol.
    """

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)

    def tell(self, method: str, **parameters: object) -> Any:  # as the protocol has it
        """Send a command, and return its result."""
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            said = json.loads(self._socket.recv(timeout=30))
            if said.get("id") == number:
                return said.get("result", {})

    def run(self, script: str) -> Any:  # what JSON can hold
        """The value of an expression in the page; a promise is waited for. None when the page went away meanwhile."""
        told = self.tell("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        return told.get("result", {}).get("value")

    @property
    def text(self) -> str:
        """What a person reads in the page."""
        return self.run("document.body ? document.body.innerText : ''") or ""

    def open(self, url: str, shows: str) -> bool:
        """Open a page as a person does who types its address. Returns whether it came to show a text."""
        self.tell("Page.navigate", url=url)
        return self.comes(shows)

    def comes(self, shows: str) -> bool:
        """Whether the page comes to show a text."""
        try:
            wait_until(lambda: shows in self.text and self.run("document.readyState") == "complete", shows, 10)
        except TimeoutError:
            return False
        return True


@contextlib.contextmanager
def browser(profile: Path, flags: Sequence[str] = ()) -> Iterator[Browser]:
    """Start one with a profile of its own, and end it."""
    command = ["chromium", *QUIET, "--remote-debugging-port=0", f"--user-data-dir={profile}", *flags, "about:blank"]
    none = subprocess.DEVNULL
    process = subprocess.Popen(command, env=environment(), stdin=none, stdout=none, stderr=none)
    told = profile / "DevToolsActivePort"
    try:
        port = int(wait_until(lambda: told.read_text().split("\n")[0] if told.exists() else "", "the browser"))
        with connect(_page(port), max_size=None, proxy=None) as socket:
            yield Browser(socket)
    finally:
        process.terminate()
        process.wait(30)


def _page(port: int) -> str:
    pages = [one for one in json.loads(get(port, "/json").body) if one["type"] == "page"]
    url: str = pages[0]["webSocketDebuggerUrl"]
    return url
