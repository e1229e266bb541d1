"""What the inspector of an agent keeps of the calls that pass: whatever the service speaks, and whatever goes wrong."""

from __future__ import annotations

import time
from typing import Any

import pytest
from twisted.internet.error import ConnectionRefusedError

from pico_twisted.core.inspect.recording import Recording, Recordings
from pico_twisted.net.agent.inspect import Inspector
from tests.net.agent.agent_fakes import OK, UPGRADE, Bench

HEAD = b"X-Forwarded-For: 203.0.113.9, 10.0.0.1\r\n"


class Inspected(Bench):
    """A bench whose agent has an inspector."""

    def __init__(self, version: int = 2, **options: Any) -> None:
        super().__init__(version, **options)
        self.inspector = self.local.inspector = Inspector(self.clock)

    @property
    def recordings(self) -> Recordings:
        """All that is kept."""
        return self.inspector.recordings

    @property
    def only(self) -> Recording:
        """The only recording."""
        (only,) = self.recordings
        return only


@pytest.mark.parametrize("version", [1, 2])
def test_a_request_and_its_response(version: int) -> None:
    """Both heads, both bodies, and how long it took, in either version of the protocol."""
    bench = Inspected(version)
    request = bench.post(b"question", HEAD + b"Content-Length: 8\r\n", more=False)
    bench.pass_time(1)
    bench.service.last.answer(OK)
    assert request.status == 200 and request.body == b"ok"
    found = bench.only
    assert (found.method, found.target, found.client, found.endpoint) == ("POST", "/up", "203.0.113.9", "web")
    assert bytes(found.request_body.kept) == b"question" and not found.request_body.cut
    assert found.response is not None and found.response.status == found.status == 200
    assert bytes(found.response_body.kept) == b"ok"
    assert found.first_byte_s == found.duration_s == 1.0
    assert abs(time.time() - found.at_s) < 600, "it is told when it came, by the clock on the wall"
    assert found.over and not found.error and not found.trouble
    assert bench.nothing_is_left()


def test_a_body_in_pieces_is_told_as_it_comes() -> None:
    """Whoever looks at a stream sees what has come so far, and that it goes on."""
    bench = Inspected()
    told: list[tuple[int, int, bool]] = []
    bench.recordings.watch("test", lambda one: told.append((one.size_in, one.size_out, one.over)) if one else None)
    request = bench.post(b"one", b"", more=True)
    request.send(b"two")
    request.send(b"", False)
    bench.service.last.answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
    assert bytes(bench.only.request_body.kept) == b"onetwo"
    assert bytes(bench.only.response_body.kept) == b"abc" and bench.only.duration_s is None
    bench.service.last.answer(b"2\r\nde\r\n0\r\n\r\n")
    assert bytes(bench.only.response_body.kept) == b"abcde" and bench.only.duration_s is not None
    assert told[-1] == (6, 5, True) and (6, 3, False) in told
    assert bench.nothing_is_left()


def test_of_a_large_body_the_beginning_is_kept() -> None:
    """A download of any size costs the memory of its beginning."""
    bench = Inspected()
    bench.get()
    size = 1 << 20
    bench.service.last.answer(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
    for _ in range(16):
        bench.service.last.answer(bytes(size // 16))
    body = bench.only.response_body
    assert body.count == size and body.cut and len(body.kept) == 64 * 1024
    assert bench.recordings.held_bytes < 80 * 1024


def test_a_service_that_is_not_there() -> None:
    """A developer sees the answer that the agent gave in its place, and why, with the address that was tried."""
    bench = Inspected()
    bench.service.refusing = ConnectionRefusedError()
    assert bench.get().status == 502
    found = bench.only
    assert found.shown_status == 502 and found.error == "service-unreachable"
    assert "cannot be reached" in found.trouble and "3000" in found.trouble
    assert b"service cannot be reached" in found.response_body.kept


def test_a_service_that_breaks_http() -> None:
    """What is wrong with an answer is told in the words of the parser."""
    bench = Inspected()
    bench.get()
    bench.service.last.answer(b"HTTP/1.1 999 Odd\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok")
    assert bench.only.error == "bad-response" and bench.only.shown_status == 502
    assert bench.only.trouble.startswith("The service broke HTTP: ")


def test_a_client_that_leaves() -> None:
    """A call that its client gave up says so."""
    bench = Inspected()
    request = bench.get()
    request.cancel()
    found = bench.only
    assert found.over and found.shown_status == 499 and found.error == "client-gone" and found.trouble
    assert bench.nothing_is_left()


def test_an_upgraded_connection_is_counted() -> None:
    """Of a WebSocket the heads are kept, and of its bytes how many there were."""
    bench = Inspected()
    request = bench.get(b"/ws", UPGRADE, more=True)
    bench.service.last.answer(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nhi")
    request.send(b"12345")
    bench.service.last.answer(b"678")
    found = bench.only
    assert found.upgraded and found.bytes_in == 5 and found.bytes_out == 5
    assert not found.request_body.kept and not found.response_body.kept
    assert not found.over
    request.send(b"", False)
    bench.service.last.finish()
    assert found.over and found.shown_status == 101
    assert bench.nothing_is_left()


def test_a_request_that_goes_nowhere() -> None:
    """Nonsense of a node is no trouble for the inspector."""
    bench = Inspected()
    bench.tunnel.request(b"nonsense\r\n\r\n")
    assert bench.only.over and bench.only.request is None and bench.only.method == ""


def test_forgotten_recordings_stay_forgotten() -> None:
    """A call that still runs when all are forgotten leaves nothing behind, and goes on."""
    bench = Inspected()
    request = bench.get()
    bench.recordings.clear()
    bench.service.last.answer(OK)
    assert request.body == b"ok" and len(bench.recordings) == 0 and bench.recordings.held_bytes == 0
