"""Whether a node answers packets that are sent to an address: sends some, and tells at once when an answer came."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

from pico_twisted.core.gossip.probes import Probes
from pico_twisted.net.gossip.resolver import NamingReactor

ANSWERS_S: Final = 2.0
"""Seconds that a node has to answer."""
PACKETS: Final = 4
"""Packets that are sent meanwhile, since some may be lost."""


class Answers:
    """The nodes from which answers are awaited.

    Args:
        clock: the reactor.
        probes: of the gossip.
        step: has what the gossip wants sent leave.
    """

    def __init__(self, clock: NamingReactor, probes: Probes, step: Callable[[], object]) -> None:
        self._clock = clock
        self._probes = probes
        self._step = step
        self._awaited: dict[Deferred[bool], tuple[str, str]] = {}
        self._timers: dict[Deferred[bool], IDelayedCall] = {}

    def await_from(self, node_id: str, address: str) -> Deferred[bool]:
        """Send packets to an address.

        Args:
            node_id: of the node that is to answer.
            address: `host:port`.

        Returns:
            A Deferred of whether it did, which fires after `ANSWERS_S` at the latest.
        """
        answer: Deferred[bool] = Deferred()
        self._awaited[answer] = node_id, address
        self._send(answer, PACKETS)
        return answer

    def _send(self, answer: Deferred[bool], left: int) -> None:
        if not left:
            self._tell(answer, reached=False)
            return
        self._timers[answer] = self._clock.callLater(ANSWERS_S / PACKETS, partial(self._send, answer, left - 1))
        self._probes.send(self._awaited[answer][1], self._clock.seconds())
        self._step()

    def look(self) -> None:
        """A packet came: tell who answered."""
        for answer, (node_id, address) in list(self._awaited.items()):
            if self._probes.reached(address, node_id):
                self._tell(answer, reached=True)

    def stop(self) -> None:
        """Await no answer any longer. Idempotent."""
        for answer in list(self._awaited):
            self._tell(answer, reached=False)

    def _tell(self, answer: Deferred[bool], *, reached: bool) -> None:
        _, address = self._awaited.pop(answer)
        timer = self._timers.pop(answer)
        if timer.active():
            timer.cancel()
        if all(address != other for _, other in self._awaited.values()):
            self._probes.end(address)
        answer.callback(reached)
