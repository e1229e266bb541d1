"""stdin and stdout in the place of a local connection, as ssh's ProxyCommand wants them."""

from __future__ import annotations

import enum

from twisted.internet.error import ConnectionAborted
from twisted.python.failure import Failure

from pico_twisted.net.forward.relay import Relay, RelayOwner


class _Output(enum.Enum):
    """How far stdout is."""

    OPEN = enum.auto()
    LAST = enum.auto()  # both streams have ended, and what is left is being written
    CLOSED = enum.auto()


class StdioRelay(Relay):
    """A relay whose local side is the process's own stdin and stdout.

    Twisted's transport for these has no way to drop them, and tells of no end once its output is closed.

    Args:
        owner: keeps it.
    """

    def __init__(self, owner: RelayOwner) -> None:
        super().__init__(owner)
        self._output = _Output.OPEN

    def writeConnectionLost(self) -> None:
        """stdout is closed."""
        last = self._output is _Output.LAST
        self._output = _Output.CLOSED
        if last:
            self._drop()
        elif not self._ended:
            self._owner.cut(self, "nobody reads stdout any more")
            self.reset()

    def session_cut(self, reason: str) -> None:
        """See `SessionUser.session_cut`: what came before is still written, since the exit status tells of the cut."""
        self._session = None
        self._owner.cut(self, reason)
        if self._output is _Output.OPEN:
            self.transport.unregisterProducer()
            self.transport.loseWriteConnection()
        self.session_closed()

    def session_closed(self) -> None:
        """See `SessionUser.session_closed`."""
        self._session = None
        if self._output is _Output.OPEN:
            self._output = _Output.LAST
        else:
            self._drop()

    def _drop(self) -> None:
        if self.transport is not None and self.transport.protocol is not None:
            self.transport.connectionLost(Failure(ConnectionAborted()))
