"""TCP endpoints: any protocol, end to end, over a WebSocket at the proxy port."""

from __future__ import annotations

import hashlib
import os
import threading

from tests.peers.pipe import PATIENCE_S
from tests.system.service import Connection
from tests.system.stack import Stack
from tests.system.tcp import open_session

BIG = os.urandom(3 << 20)


def test_bytes_both_ways(stack: Stack) -> None:
    """What either side sends arrives whole and in order, whoever begins; both ends have been said at the end."""

    def script(connection: Connection) -> None:
        connection.send(b"220 ready\r\n")
        assert connection.read(6) == b"HELO\r\n"
        connection.send(BIG)
        digest = hashlib.sha256(connection.read_rest()).digest()
        connection.send(digest)

    stack.service.script = script
    session = open_session(stack)
    assert session.read(11) == b"220 ready\r\n"
    session.send(b"HELO\r\n")

    def say_all() -> None:
        session.send(BIG)
        session.end()

    sender = threading.Thread(target=say_all)
    sender.start()
    assert session.read(len(BIG)) == BIG
    assert session.read_rest() == hashlib.sha256(BIG).digest()
    sender.join(PATIENCE_S)
    assert session.closed() == (1000, "")
