"""Whether the process of an agent lacks CPU, told to the nodes that ask."""

from __future__ import annotations

from collections.abc import Callable

from pico_twisted.core.agent.cpu_shortage import CpuShortage
from pico_twisted.core.rpc.call import Call
from pico_twisted.core.rpc.frames import PROTOCOL
from pico_twisted.core.rpc.own_health import QUESTION, encode_lacked
from pico_twisted.core.sweep import Sweep
from pico_twisted.net.observe.cpu_limit import stopped_s
from pico_twisted.net.tunnel.interfaces import ICallee


class OwnHealth:
    """Watches whether this process lacks CPU, and answers those who ask.

    Args:
        sweep: the process's coarse timer.
        stopped_s: tells for how long a limit has stopped it.
    """

    def __init__(self, sweep: Sweep, stopped_s: Callable[[], float] = stopped_s) -> None:
        self._sweep = sweep
        self._stopped_s = stopped_s
        self._shortage = CpuShortage(sweep.now, stopped_s())
        sweep.each(self._turn)

    def _turn(self, now: float) -> None:
        self._shortage.turn(self._sweep.lag_s)
        if self._shortage.is_due(now):
            self._shortage.keep(now, self._stopped_s())

    def asked(self, tunnel: ICallee, call: Call, payload: bytes, more: bool) -> None:
        """Answer a node that asks.

        Args:
            tunnel: that it asks over.
            call: the call.
            payload: of its first frame.
            more: whether further frames follow.
        """
        if more or payload != QUESTION:
            tunnel.reset(call, PROTOCOL, "not a question about the CPU")
            return
        tunnel.consumed(call, len(payload))
        tunnel.send(call, encode_lacked(self._shortage.lacked_s(self._sweep.now, self._stopped_s())), False)
