"""A read that brings more answers than a process that lacks CPU deals with in time."""

from __future__ import annotations

import pytest

from pico_twisted.core.rpc.frames import HTTP
from pico_twisted.net.tunnel.websocket_pipe import MESSAGES_AT_ONCE
from tests.doubles.service import Receiver
from tests.doubles.turns import one_turn
from tests.net.tunnel.tunnel_peers import GET, OK
from tests.net.tunnel.websockets import TunnelPair

CALLS = 2 * MESSAGES_AT_ONCE + MESSAGES_AT_ONCE // 2


class Answers:
    """A node with many calls whose answers arrive with one read, while its turn takes too long or does not.

    Attributes:
        is_long: whether the turn has taken its time.
    """

    def __init__(self, is_long: bool, *, arrive: bool = True) -> None:
        pair = self.pair = TunnelPair(gathers=True)
        end_of_turn = pair.parts.tunnel_parts.end_of_turn
        assert end_of_turn is not None
        self.is_long = False
        self.order: list[int] = []
        end_of_turn.turn_is_long = lambda: self.is_long
        self.receivers = [Receiver(then=self._heard).open(pair.node, HTTP, GET) for _ in range(CALLS)]
        pair.flush()
        for receiver in pair.acceptor.accepted:
            receiver.send(OK, False)
        pair.clock.advance(0)
        self.read = bytes(pair.agent_end.clear())
        self.is_long = is_long
        if arrive:
            pair.node_end.receive(self.read)

    def _heard(self, receiver: Receiver) -> None:
        if receiver.ended:
            self.order.append(self.receivers.index(receiver))

    def turn(self) -> int:
        """Let a turn pass. Returns how many answers have come."""
        one_turn(self.pair.clock)
        return len(self.order)


def test_answers_of_one_read() -> None:
    """Some are given on in each turn, in their order, and nothing more is read meanwhile: so who waits for the next
    turn gets it. Then the tunnel is as it was."""
    answers = Answers(is_long=True)
    assert len(answers.order) == MESSAGES_AT_ONCE and not answers.pair.node_end.reading
    assert answers.turn() == 2 * MESSAGES_AT_ONCE and not answers.pair.node_end.reading
    assert answers.turn() == CALLS and answers.pair.node_end.reading
    assert answers.order == list(range(CALLS))
    more = Receiver().open(answers.pair.node, HTTP, GET)
    answers.pair.flush()
    answers.pair.acceptor.accepted[-1].send(OK, False)
    answers.pair.flush()
    assert more.ended and answers.pair.clock.getDelayedCalls()[0].getTime() > answers.pair.clock.seconds()


def test_while_turns_are_short() -> None:
    """All that was read is given on at once."""
    answers = Answers(is_long=False)
    assert len(answers.order) == CALLS and answers.pair.node_end.reading


def test_what_comes_meanwhile() -> None:
    """TLS gives all that it has decrypted, also to who has asked to wait: it stays behind what came before."""
    answers = Answers(is_long=True, arrive=False)
    first, second = answers.read[: len(answers.read) - 100], answers.read[-100:]
    answers.pair.node.dataReceived(first)
    answers.pair.node.dataReceived(second)
    assert len(answers.order) == MESSAGES_AT_ONCE
    assert [answers.turn(), answers.turn()] == [2 * MESSAGES_AT_ONCE, CALLS]
    assert answers.order == list(range(CALLS)) and answers.pair.node_end.reading


@pytest.mark.parametrize("how", ["reset", "close", "abort"])
def test_an_end_meanwhile(how: str) -> None:
    """The calls whose answers still waited are lost, and nothing is left of them."""
    answers = Answers(is_long=True)
    pair = answers.pair
    if how == "reset":
        pair.node_end.receive_reset()
    elif how == "close":
        pair.node.close()
    else:
        pair.node.abort()
    pair.pass_time(5)
    assert len(answers.order) == MESSAGES_AT_ONCE
    assert all(one.was_lost for one in answers.receivers[MESSAGES_AT_ONCE:]) and pair.node_end.over
