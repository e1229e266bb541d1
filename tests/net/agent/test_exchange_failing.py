"""The agent between a tunnel and a local service: whatever a service or a caller may do wrong."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from twisted.internet.error import ConnectionRefusedError
from twisted.logger import LogEvent

from pico_twisted.net.agent.serving.v1 import IDLE_S, TIMEOUT_S
from tests.net.agent.agent_fakes import OK, UPGRADE, Bench

# Services that fail


def test_no_connection_is_a_502_that_says_so(bench: Bench) -> None:
    """Nothing reached the service: the code tells the node that it may try elsewhere."""
    bench.service.refusing = ConnectionRefusedError()
    request = bench.get()
    assert request.status == 502 and request.error == "agent-1; service-unreachable"
    assert json.loads(request.body) == {"error": "the service cannot be reached"}
    assert b"content-type: application/json" in request.head
    assert bench.nothing_is_left()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "content-length"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: 1\r\n" * 101 + b"\r\n", "too many fields"),
        (b"HTTP/1.1 099 What\r\n\r\n", "status"),
        (b"ICY 200 OK\r\n\r\n", "bad status line"),
    ],
)
def test_a_refused_answer_is_told(
    bench: Bench, lines: Callable[[str], list[LogEvent]], answer: bytes, reason: str
) -> None:
    """The client is told what happened, and the operator of the agent why, for which endpoint and which request; the
    same again is only counted for a while."""
    for number in range(3):
        request = bench.get(extra=b"x-request-id: id-%d\r\n" % number)
        bench.service.last.answer(answer)
        assert request.status == 502 and request.error == "agent-1; bad-response"
        assert json.loads(request.body) == {"error": "the response of the service is not valid HTTP"}
    (line,) = lines("The service broke HTTP")
    assert line["log_level"].name == "warn" and reason in line["reason"].lower()
    assert (line["endpoint"], line["request_id"]) == ("web", "id-0")


@pytest.mark.parametrize(
    ("answer", "code", "start"),
    [
        (b"", "timeout", "The service did not answer in time"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n1", "protocol", "The node refused the response"),
    ],
)
def test_what_a_node_says_of_a_service_is_told(
    bench: Bench, lines: Callable[[str], list[LogEvent]], answer: bytes, code: str, start: str
) -> None:
    """The node waits no longer, or refuses the response: the agent's operator can act on it."""
    request = bench.get(extra=b"x-request-id: id-1\r\n")
    bench.service.last.answer(answer)
    request.cancel(code)
    (line,) = lines(start)
    assert (line["endpoint"], line["request_id"]) == ("web", "id-1")


def test_connecting_has_a_deadline(bench: Bench) -> None:
    """A service that does not take connections is unreachable, in time."""
    bench.service.waiting = []
    request = bench.get()
    bench.pass_time(11)
    assert request.error == "agent-1; service-unreachable" and bench.service.cancelled == 1


def test_what_comes_while_connecting_is_kept_in_order(bench: Bench) -> None:
    """The body waits for the connection, without credit."""
    bench.service.waiting = []
    request = bench.post(b"a", b"Content-Length: 3\r\n")
    request.send(b"b")
    request.send(b"c", more=False)
    assert bench.tunnel.consumed_bytes == 0
    bench.service.proceed()
    assert bench.service.last.taken().endswith(b"\r\n\r\nabc")
    bench.service.last.answer(OK)
    assert request.body == b"ok"
    assert bench.nothing_is_left()


def test_no_response_in_time_is_a_504() -> None:
    """The wait for the service's head ends, and bytes of half a head do not extend it."""
    bench = Bench(timeout_s=5.0)
    request = bench.get()
    for byte in b"HTTP":
        bench.pass_time(1)
        bench.service.last.answer(bytes((byte,)))
    bench.pass_time(2)
    assert request.status == 504 and request.error == "agent-1; service-timeout"
    assert json.loads(request.body) == {"error": "the service did not respond in time"}
    assert bench.service.last.aborted
    assert bench.nothing_is_left()


def test_an_upgrade_that_is_not_answered_in_time_is_a_504() -> None:
    """Its request has not ended, but it is the service that we wait for."""
    bench = Bench(timeout_s=5.0)
    request = bench.get(extra=UPGRADE, more=True)
    bench.pass_time(6)
    assert request.status == 504 and request.ended and request.reset_code is None
    request.send(b"", more=False)
    assert bench.nothing_is_left()


def test_the_wait_begins_with_the_request_not_with_the_connection() -> None:
    """Slow connecting leaves less time to answer: whoever waits behind us counts from the same moment."""
    bench = Bench(timeout_s=12.0)
    bench.service.waiting = []
    request = bench.get()
    bench.pass_time(8)
    bench.service.proceed()
    bench.pass_time(3)
    assert not request.frames
    bench.pass_time(2)
    assert request.status == 504


def test_the_timeout_is_paused_while_the_caller_is_slow() -> None:
    """It runs from the last progress of the request body."""
    bench = Bench(timeout_s=5.0)
    request = bench.post(b"", b"Content-Length: 3\r\n")
    for letter in (b"a", b"b"):
        bench.pass_time(60)
        request.send(letter)
    bench.pass_time(60)
    request.send(b"c", more=False)
    bench.pass_time(4)
    assert not request.frames
    bench.pass_time(2)
    assert request.status == 504


def test_a_service_that_does_not_read_the_body_is_late() -> None:
    """Waiting for the service to take the body is waiting for the service."""
    bench = Bench(timeout_s=5.0)
    request = bench.post(b"", b"Content-Length: 300000\r\n")
    bench.service.last.protocol.pauseProducing()
    request.send(b"x" * 30_000)
    bench.pass_time(6)
    assert request.status == 504 and request.reset_code == "stop"


def test_the_node_has_the_clock() -> None:
    """However long a service takes, before its response and in the middle of it, the agent waits as long as the node
    does; then the service hears of it."""
    for begun in (b"", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n1"):
        bench = Bench(timeout_s=None)
        request = bench.get()
        bench.service.last.answer(begun)
        bench.pass_time(4000)
        assert request.reset_code is None and not request.ended and bench.service.last.connected
        request.cancel("timeout")
        assert bench.service.last.aborted
        assert bench.nothing_is_left()


def test_a_node_of_version_1_has_no_clock() -> None:
    """It cannot say that it waits no longer: its calls have limits of ours, for the response and each byte of it."""
    bench = Bench(1, timeout_s=None)
    request = bench.get()
    bench.pass_time(TIMEOUT_S + 1)
    assert request.status == 504 and request.error == "agent-1; service-timeout"
    request = bench.get()
    bench.service.last.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n1")
    bench.pass_time(IDLE_S - 10)
    bench.service.last.answer(b"2")
    bench.pass_time(IDLE_S - 10)
    assert not request.ended
    bench.pass_time(20)
    assert bench.service.last.aborted
    assert not bench.local.calls


@pytest.mark.parametrize(
    "begin",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n0\r\n",
    ],
)
@pytest.mark.parametrize("how", ["finish", "lose"])
def test_a_service_that_dies_mid_body_is_a_reset_never_an_end(bench: Bench, begin: bytes, how: str) -> None:
    """A response cut short is cut towards the caller too."""
    request = bench.get()
    bench.service.last.answer(begin)
    getattr(bench.service.last, how)()
    assert request.reset_code == "failed" and not request.ended
    assert request.body == b"12345"
    assert bench.nothing_is_left()


def test_a_body_until_close_needs_an_end_in_good_order(bench: Bench) -> None:
    """A connection that breaks is not the end of such a body."""
    request = bench.get()
    bench.service.last.answer(b"HTTP/1.1 200 OK\r\n\r\n12345")
    bench.service.last.lose()
    assert request.reset_code == "failed" and not request.ended


@pytest.mark.parametrize("begin", [b"", b"H", b"HTTP/1.1 200 OK\r\nContent-", b"HTTP/1.1 100 Continue\r\n\r\n"])
@pytest.mark.parametrize("how", ["finish", "lose"])
def test_a_service_that_dies_before_its_head_is_a_502(bench: Bench, begin: bytes, how: str) -> None:
    """With a code of its own: the request may have been served."""
    request = bench.get()
    if begin:
        bench.service.last.answer(begin)
    getattr(bench.service.last, how)()
    final = request.frames[-1][0]
    assert final.startswith(b"HTTP/1.1 502 ") and b"x-pico-error: agent-1; service-failed\r\n" in final
    assert request.ended
    assert len(bench.service.transports) == 1, "a fresh connection is not tried twice"
    assert bench.nothing_is_left()


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"HTTP/1.1 999 Odd\r\n\r\n",
        b"HTTP/1.1 099 Odd\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\x00b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\r\n folded\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX : a\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 101 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 40_000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_a_service_that_breaks_http_is_a_502(bench: Bench, garbage: bytes) -> None:
    """It costs that one call, and nothing of the garbage reaches the caller."""
    request = bench.get()
    beside = bench.get(b"/beside")
    bench.service.transports[0].answer(garbage)
    final = request.frames[-1][0]
    assert final.startswith(b"HTTP/1.1 502 ") and b"x-pico-error: agent-1; bad-response\r\n" in final
    assert request.ended
    assert bench.service.transports[0].aborted
    bench.service.transports[1].answer(OK)
    assert beside.body == b"ok"
    assert bench.nothing_is_left()


def test_a_body_that_breaks_behind_a_good_head_is_a_reset(bench: Bench) -> None:
    """The head has gone: the caller must see that the body is not whole."""
    request = bench.get()
    bench.service.last.answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
    bench.service.last.answer(b"nonsense\r\n")
    assert request.body == b"a" and request.reset_code == "failed" and not request.ended
    assert bench.service.last.aborted


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
def test_a_second_response_never_reaches_a_caller(bench: Bench, apart: bool, method: bytes) -> None:
    """Bytes behind a response end the connection, whether they come with it or on the idle connection."""
    request = bench.get(method=method)
    first = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (0 if method == b"GET" else 5)
    second = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstale"
    if apart:
        bench.service.last.answer(first)
        bench.service.last.answer(second)
        assert bench.service.last.aborted
    else:
        bench.service.last.answer(first + second)
        assert bench.service.last.disconnecting
    assert request.ended and b"stale" not in request.received
    after = bench.get(b"/after")
    assert len(bench.service.transports) == 2
    assert not after.frames
    bench.service.last.answer(OK)
    assert after.body == b"ok"


# Callers that break the protocol


@pytest.mark.parametrize(
    ("payload", "more"),
    [
        (b"nonsense", False),
        (b"GET / HTTP/1.1\r\nHost: web\r\n", True),
        (b"GET / HTTP/1.1\r\n\r\n", False),
        (b"GET / HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n", True),
        (b"GET / HTTP/1.1\r\nHost: web\r\nContent-Length: 2\r\n\r\nabc", False),
        (b"GET / HTTP/1.1\r\nHost: web\r\nContent-Length: 2\r\n\r\n", False),
        (b"GET / HTTP/1.1\r\nHost: web\r\nConnection: Upgrade\r\nUpgrade: a\r\n\r\n", False),
        (b"GET / HTTP/1.1\r\nHost: web\r\nConnection: Upgrade\r\nUpgrade: a\r\n\r\nearly", True),
        (b"X" * 50_000, True),
    ],
)
def test_a_malformed_request_is_reset_and_never_reaches_the_service(bench: Bench, payload: bytes, more: bool) -> None:
    """It costs that one call."""
    request = bench.tunnel.request(payload, more)
    assert request.reset_code == "protocol" and not request.frames
    assert not bench.service.transports
    assert bench.nothing_is_left()
    beside = bench.get()
    bench.service.last.answer(OK)
    assert beside.body == b"ok"


@pytest.mark.parametrize("last", [(b"abc", True), (b"abc", False), (b"", False), (b"a", False)])
def test_a_body_of_another_length_than_promised_is_reset(bench: Bench, last: tuple[bytes, bool]) -> None:
    """The excess never passes, and the service sees a broken request, not a short one."""
    request = bench.post(b"", b"Content-Length: 2\r\n")
    bench.service.last.taken()
    request.send(*last)
    assert request.reset_code == "protocol"
    assert bench.service.last.taken() == b""
    assert bench.service.last.aborted
    assert bench.nothing_is_left()


def test_bytes_before_the_101_are_reset(bench: Bench) -> None:
    """The caller waits for the 101 before it sends what only the new protocol understands."""
    request = bench.get(extra=UPGRADE, more=True)
    bench.service.last.taken()
    request.send(b"GET /smuggled HTTP/1.1\r\n\r\n")
    assert request.reset_code == "protocol"
    assert bench.service.last.taken() == b"" and bench.service.last.aborted
