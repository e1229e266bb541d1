"""Dialling back who asks for it: what is answered, and how often that is done."""

from __future__ import annotations

import errno

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectError, ConnectionRefusedError, TCPTimedOutError
from twisted.internet.task import Clock

from pico_twisted.core.links.handshake import NotThePeer
from pico_twisted.core.links.sync_frames import Reached, decode_reached
from pico_twisted.net.links.dial_back import MOST_A_SECOND, DialBack

ADDRESS = "10.0.0.77:8003"


def answered(udp: Deferred[bool], tcp: Deferred[None]) -> Reached:
    """What a node is told that these came of."""
    answers: list[bytes | None] = []
    back = DialBack(Clock(), lambda address, node_id: udp, lambda address, node_id: tcp)
    back.dial("n4", ADDRESS).addCallback(answers.append)
    (answer,) = answers
    assert answer is not None
    return decode_reached(answer)


def test_reached() -> None:
    """A node that answers packets and takes a link is reached."""
    assert answered(succeed(True), succeed(None)).both


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectError(osError=OSError(errno.EHOSTUNREACH, "x")), "no route to host"),
        (ConnectError(osError=OSError(errno.ENETUNREACH, "x")), "network is unreachable"),
        (ConnectionRefusedError(), "nothing listens there"),
        (TCPTimedOutError(), "no answer in time"),
        (NotThePeer("wrong-node", "another node answers at this address"), "another node answers at this address"),
        (ValueError("not host:port: 'x'"), "not host:port: 'x'"),
    ],
)
def test_why_not(error: Exception, words: str) -> None:
    """What kept the other node from reaching it is told in few words, for UDP and for TCP."""
    assert answered(succeed(False), fail(error)) == Reached("no answer", words)


def test_how_often() -> None:
    """So many nodes are dialled back in a second, whoever asks; those beyond that are told to ask again."""
    clock, dialled = Clock(), []

    def udp(address: str, node_id: str) -> Deferred[bool]:
        dialled.append(node_id)
        return succeed(True)

    back = DialBack(clock, udp, lambda address, node_id: succeed(None))
    answers: list[bytes | None] = []
    for number in range(3 * MOST_A_SECOND):
        back.dial(f"n{number % 3}", ADDRESS).addCallback(answers.append)
    assert len(dialled) == MOST_A_SECOND
    assert answers.count(None) == 2 * MOST_A_SECOND
    clock.advance(1.01)
    back.dial("n1", ADDRESS).addCallback(answers.append)
    assert answers[-1] is not None
