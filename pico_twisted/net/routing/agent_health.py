"""Asks agents of this node whether they lack CPU, when their answers are slower than they used to be.

An agent that is short of it is slow only while it is given its share. One slow answer later it gets little, and answers
that well: what is measured then says nothing of why. So it is asked, for as long as it can know. When it says that it
lacked CPU, that stands until it was called again, and says something else.
"""

from __future__ import annotations

from typing import Final

from zope.interface import implementer

from pico_twisted.core.routing.latency import Latency, level_of
from pico_twisted.core.rpc.call import Call, OnlyTold
from pico_twisted.core.rpc.capabilities import OWN_HEALTH
from pico_twisted.core.rpc.frames import CANCELLED, HEALTH, PROTOCOL
from pico_twisted.core.rpc.own_health import QUESTION, decode_lacked
from pico_twisted.net.tunnel.interfaces import ICallReceiver, ITunnel

ANSWER_S: Final = 2.0
"""Seconds that an agent has for an answer; until then it is asked nothing else."""
KNOWN_S: Final = 6.0
"""Seconds for which an agent is asked after its last answer to a call: it knows of no more
(`core.agent.cpu_shortage`)."""


@implementer(ICallReceiver)
class _Question(OnlyTold):
    """A question to one agent.

    Attributes:
        asked_at: when.
        lacked_s: what is known of the agent: what it said before, until it answers.
    """

    def __init__(self, tunnel: ITunnel, asked_at: float, lacked_s: float) -> None:
        self.asked_at = asked_at
        self.lacked_s = lacked_s
        self._tunnel = tunnel
        self._call: Call = tunnel.call(HEALTH, QUESTION, False, self)

    @property
    def open(self) -> bool:
        """Whether it may still be answered."""
        return not self._call.closed

    def give_up(self, code: str = CANCELLED) -> None:
        """Wait for no answer. Idempotent."""
        if self.open:
            self._tunnel.reset(self._call, code)

    def frame(self, payload: bytes, more: bool) -> None:
        """The answer."""
        lacked_s = decode_lacked(payload)
        if more or lacked_s is None:
            self.give_up(PROTOCOL)
        else:
            self.lacked_s = lacked_s


class AgentHealth:
    """What agents say of themselves, by what is seen of their answers."""

    def __init__(self) -> None:
        self._questions: dict[Latency, _Question] = {}

    def look(self, latency: Latency, tunnel: ITunnel, best_s: float, now: float) -> None:
        """Ask an agent if it is slower than it was before and than others are, or if it said that it lacks CPU, and was
        called since. Called once a second for all of which anything slow was measured.

        Args:
            latency: what is seen of its answers.
            tunnel: the agent's session.
            best_s: what the best other way takes.
            now: by the clock of `latency`.
        """
        asked = self._questions.get(latency)
        if asked is not None:
            if asked.open and now - asked.asked_at < ANSWER_S:
                return
            asked.give_up()
        lacked_s = self.lacked_s(latency)
        if asked is not None and lacked_s:
            doubted = latency.answered_at > asked.asked_at
        else:
            slower = latency.held > max(level_of(best_s), level_of(latency.usual_s))
            doubted = slower and now - latency.answered_at < KNOWN_S
        if doubted and OWN_HEALTH in tunnel.capabilities:
            self._questions[latency] = _Question(tunnel, now, lacked_s)

    def lacked_s(self, latency: Latency) -> float:
        """Seconds for which the agent had no CPU, as it said last; 0.0 when it said that it was well, or nothing."""
        asked = self._questions.get(latency)
        return 0.0 if asked is None else asked.lacked_s

    def forget(self, latency: Latency) -> None:
        """The agent is gone, or well: nothing is known of it any more."""
        asked = self._questions.pop(latency, None)
        if asked is not None:
            asked.give_up()
