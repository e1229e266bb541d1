"""The inspector of a run: what passes, on a page of this machine, with a link that is short enough for a terminal."""

from __future__ import annotations

import secrets
from typing import Any, Final

from twisted.internet.error import CannotListenError

from pico_twisted import __version__
from pico_twisted.app.process.ports import CannotStart, reason_of
from pico_twisted.config import Address
from pico_twisted.net.admin.inspect import open_inspector
from pico_twisted.net.agent.inspect import Inspector

KEY_BYTES: Final = 16
"""Bytes of chance in the key that opens it: nobody guesses 128 bits."""


class Inspecting:
    """An inspector with its port, which is open.

    Args:
        reactor: of this process.
        address: where it listens, or at the next free port.

    Attributes:
        inspector: looks at the calls of the agent.
        url: the link for a developer to open, and for nobody else: a key is part of it.

    Raises:
        CannotStart: it cannot listen there.
    """

    def __init__(self, reactor: Any, address: Address) -> None:  # the reactor: whole, which has no one type
        self.inspector = Inspector(reactor)
        try:
            self._port = open_inspector(
                reactor,
                self.inspector.recordings,
                self.inspector.replay,
                version=__version__,
                address=address,
                key=secrets.token_urlsafe(KEY_BYTES),
            )
        except CannotListenError as error:
            raise CannotStart(f"--inspect: cannot listen on {address}: {reason_of(error)}") from None
        self.url = self._port.url

    async def stop(self) -> None:
        """Cut the replays that run, and show nothing more."""
        self.inspector.stop()
        await self._port.close()
