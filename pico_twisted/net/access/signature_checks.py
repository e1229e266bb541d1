"""Signatures are checked beside the reactor, a few at a time.

What is needed. A check takes a tenth of a millisecond of the processor, or a few. A flood of bad tokens must neither
stop the reactor nor those who show good ones.

What was chosen. Threads of the reactor's pool do the work, `AT_ONCE` at most; the next one begins when the reactor has
heard of the end of one before, so there is a turn of the reactor between any two. Those who wait stand in line by their
address, and the addresses take turns: whoever sends thousands waits behind their own. Beyond `MOST_WAITING` of one
address somebody is told to come again; beyond `MOST_IN_ALL`, the last in the longest line.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from pico_twisted.core.text import network_of

AT_ONCE: Final = 2
"""Most checks at a time. They share the processor with the reactor."""
MOST_WAITING: Final = 128
"""Most checks of one address that wait. All sessions of an agent show one token, which is one check; many agents may be
behind one address."""
MOST_IN_ALL: Final = 1024
"""Most checks that wait, each with a token of 8 KiB."""

T = TypeVar("T")
_Line = deque[tuple[Callable[[], object], "Deferred[object]"]]
RunInThread = Callable[[Callable[[], object]], "Deferred[object]"]


class SignatureChecks:
    """Those of one process.

    Args:
        run_in_thread: does what it is given in a thread.
    """

    def __init__(self, run_in_thread: RunInThread) -> None:
        self._run_in_thread = run_in_thread
        self._running = 0
        self._lines: dict[str, _Line] = {}  # whose turn it is, first

    def check(self, address: str, work: Callable[[], T]) -> Deferred[T | None]:
        """Do some work in its turn.

        Args:
            address: of who makes it necessary, with or without a port.
            work: checks something. Runs in a thread, and shares nothing that changes.

        Returns:
            What it returns; None when too many wait.
        """
        network = _network(address)
        line = self._lines.setdefault(network, deque())
        done: Deferred[T | None] = Deferred()
        line.append((work, done))  # type: ignore[arg-type]  # each gets its own
        if len(line) > MOST_WAITING:
            self._send_away(network)
        elif sum(map(len, self._lines.values())) > MOST_IN_ALL:
            self._send_away(max(reversed(self._lines), key=lambda one: len(self._lines[one])))
        self._begin()
        return done

    def _send_away(self, network: str) -> None:
        """Tell the last of a line that too many wait."""
        _, done = self._lines[network].pop()
        if not self._lines[network]:
            del self._lines[network]
        done.callback(None)

    def _begin(self) -> None:
        while self._lines and self._running < AT_ONCE:
            address, line = next(iter(self._lines.items()))
            work, done = line.popleft()
            del self._lines[address]
            if line:
                self._lines[address] = line
            self._running += 1
            self._run_in_thread(work).addBoth(self._ended, done)

    def _ended(self, result: object, done: Deferred[object]) -> None:
        self._running -= 1
        if isinstance(result, Failure):
            done.errback(result)
        else:
            done.callback(result)
        self._begin()


def _network(address: str) -> str:
    """Whose line somebody stands in: that of all who have addresses like theirs."""
    host = address.rpartition(":")[0].strip("[]")
    return network_of(address.encode()) or network_of(host.encode()) or address
