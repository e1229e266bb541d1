"""The agent between a tunnel and a local service: requests, responses and upgrades, in both versions."""

from __future__ import annotations

import pytest

from pico_twisted.net.agent.serving.v1 import IDLE_S
from tests.net.agent.agent_fakes import OK, UPGRADE, Bench


def test_a_small_request_is_one_write_and_its_answer_one_frame(bench: Bench) -> None:
    """A small response whose head and body came together goes back as a single frame, without transfer coding."""
    request = bench.get(b"/a?b=c", b"X-Pico-Authorization: secret\r\nAccept: */*\r\n")
    sent = bench.service.last.taken()
    assert sent.startswith(b"GET /a?b=c HTTP/1.1\r\nHost: web\r\n")
    assert b"Accept: */*\r\n" in sent and b"secret" not in sent and b"Transfer-Encoding" not in sent
    bench.service.last.answer(b"HTTP/1.1 200 OK\r\nX-A: b\r\nX-Pico-Error: no\r\nContent-Length: 2\r\n\r\nok")
    assert len(request.frames) == 1
    assert request.head == b"HTTP/1.1 200 OK\r\nX-A: b\r\nContent-Length: 2"
    assert request.body == b"ok"
    assert bench.nothing_is_left()


def test_one_connection_serves_requests_one_after_the_other() -> None:
    """A connection is kept and used again, with its own Host when the listener rewrites it."""
    bench = Bench(rewrite_host=True)
    for number in range(5):
        request = bench.get(b"/%d" % number)
        assert bench.service.last.taken().startswith(b"GET /%d HTTP/1.1\r\nHost: 127.0.0.1:3000\r\n" % number)
        bench.service.last.answer(OK)
        assert request.body == b"ok"
    assert len(bench.service.transports) == 1
    assert bench.nothing_is_left()


def test_calls_at_the_same_time_each_have_their_connection(bench: Bench) -> None:
    """Calls interleave: each answer goes to its own caller, in any order."""
    requests = [bench.get(b"/%d" % number) for number in range(10)]
    for number in reversed(range(10)):
        bench.service.transports[number].answer(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d" % number)
    assert [request.body for request in requests] == [b"%d" % number for number in range(10)]
    assert bench.nothing_is_left()


def test_a_body_streams_to_the_service_as_it_comes(bench: Bench) -> None:
    """A body of known length goes on with its length, every piece at once."""
    request = bench.post(b"one", b"Content-Length: 9\r\n")
    sent = bench.service.last.taken()
    assert sent.endswith(b"\r\n\r\none") and b"Content-Length: 9\r\n" in sent
    request.send(b"two")
    assert bench.service.last.taken() == b"two"
    request.send(b"six", more=False)
    assert bench.service.last.taken() == b"six"
    bench.service.last.answer(OK)
    assert request.body == b"ok"
    assert bench.nothing_is_left()


@pytest.mark.parametrize("last", [b"", b"end"])
def test_a_body_of_unknown_length_is_chunked(bench: Bench, last: bytes) -> None:
    """Without Content-Length the agent frames the body in chunks, and ends it."""
    request = bench.post(b"one")
    sent = bench.service.last.taken()
    assert sent.endswith(b"\r\n\r\n3\r\none\r\n") and b"Transfer-Encoding: chunked\r\n" in sent
    request.send(last, more=False)
    assert bench.service.last.taken() == (b"3\r\nend\r\n" if last else b"") + b"0\r\n\r\n"
    bench.service.last.answer(OK)
    assert request.body == b"ok"


def test_a_whole_body_in_the_first_frame(bench: Bench) -> None:
    """Head and body in one frame, with and without a length."""
    bench.post(b"abc", b"Content-Length: 3\r\n", more=False)
    assert bench.service.last.taken().endswith(b"\r\n\r\nabc")
    bench.post(b"abc", more=False)
    assert bench.service.last.taken().endswith(b"\r\n\r\n3\r\nabc\r\n0\r\n\r\n")


def test_a_response_streams_back_piece_by_piece(bench: Bench) -> None:
    """A head alone goes at once, and so does each piece of the body, however it is framed."""
    request = bench.get()
    service = bench.service.last
    service.answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert request.frames == [(b"HTTP/1.1 200 OK\r\n\r\n", True)]
    service.answer(b"3\r\na")
    assert request.body == b"a"
    service.answer(b"bc\r\n")
    assert request.body == b"abc"
    service.answer(b"1\r\nd\r\n0\r\nX-Trailer: dropped\r\n\r\n")
    assert request.body == b"abcd" and request.ended
    assert bench.get() and bench.service.last is service, "the connection is used again"


def test_a_body_that_ends_with_the_connection(bench: Bench) -> None:
    """Without framing the end of the service's half is the end of the body; the connection is not used again."""
    request = bench.get()
    bench.service.last.answer(b"HTTP/1.0 200 OK\r\n\r\nall of")
    bench.service.last.answer(b" it")
    assert not request.ended
    bench.service.last.finish()
    assert request.body == b"all of it" and request.ended
    bench.get()
    assert len(bench.service.transports) == 2


@pytest.mark.parametrize(
    ("method", "response"),
    [
        (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"),
        (b"HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        (b"GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        (b"GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 100\r\n\r\n"),
        (b"GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ],
)
def test_responses_without_a_body_end_with_their_head(bench: Bench, method: bytes, response: bytes) -> None:
    """HEAD, 204, 304 and empty bodies are one frame, and leave a connection that can be used again."""
    request = bench.get(method=method)
    bench.service.last.answer(response)
    assert request.ended and len(request.frames) == 1 and request.body == b""
    assert (b"Content-Length: 100" in request.head) == (b"100" in response)
    bench.get()
    assert len(bench.service.transports) == 1


def test_expect_goes_to_the_service_and_its_100_comes_back(bench: Bench) -> None:
    """Nobody but the service answers Expect; while the caller waits for it, the service is what we wait for."""
    request = bench.post(b"", b"Content-Length: 2\r\nExpect: 100-continue\r\n")
    assert b"Expect: 100-continue\r\n" in bench.service.last.taken()
    bench.service.last.answer(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert request.frames == [(b"HTTP/1.1 100 Continue\r\n\r\n", True)]
    bench.pass_time(60)
    request.send(b"hi", more=False)
    bench.service.last.answer(OK)
    assert request.ended and request.reset_code is None


def test_a_service_that_never_answers_expect_is_late(bench: Bench) -> None:
    """504, and the caller is told to stop."""
    request = bench.post(b"", b"Content-Length: 2\r\nExpect: 100-continue\r\n")
    bench.pass_time(31)
    assert request.status == 504 and request.error == "agent-1; service-timeout"
    assert request.reset_code == "stop"


# A response that ends first


def test_a_response_that_ends_before_its_request_stops_the_caller(bench: Bench) -> None:
    """The caller gets the whole response, then `stop`; the connection is not used again."""
    request = bench.post(b"x" * 100, b"Content-Length: 1000000\r\n")
    bench.service.last.answer(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
    assert request.status == 413 and request.body == b"no" and request.ended
    assert request.reset_code == "stop"
    assert bench.service.last.aborted
    assert bench.nothing_is_left()


def test_stop_never_overtakes_the_response(bench: Bench) -> None:
    """While the response cannot leave, the reset waits for it: it would throw the response away."""
    request = bench.post(b"x", b"Content-Length: 1000000\r\n")
    bench.tunnel.blocked = True
    bench.service.last.answer(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
    bench.pass_time(5)
    assert not request.frames and request.reset_code is None
    bench.tunnel.blocked = False
    bench.tunnel.pump()
    bench.pass_time(0.4)
    assert request.body == b"no" and request.ended and request.reset_code == "stop"
    assert bench.nothing_is_left()


def test_a_request_that_ends_while_its_response_waits_needs_no_stop(bench: Bench) -> None:
    """Both streams ended: the call is over by itself, and nothing is watched any more."""
    request = bench.post(b"x", b"Content-Length: 2\r\n")
    bench.tunnel.blocked = True
    bench.service.last.answer(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
    request.send(b"y", more=False)
    bench.tunnel.blocked = False
    bench.tunnel.pump()
    bench.pass_time(0.4)
    assert request.ended and request.reset_code is None
    assert bench.nothing_is_left()


def test_a_response_may_begin_before_its_request_ends(bench: Bench) -> None:
    """An echo: both streams run at the same time."""
    request = bench.post(b"1")
    service = bench.service.last
    service.answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n1\r\n")
    service.taken()
    for number in range(2, 6):
        request.send(b"%d" % number)
        assert service.taken() == b"1\r\n%d\r\n" % number
        service.answer(b"1\r\n%d\r\n" % number)
        assert request.body == b"12345"[:number]
    request.send(b"", more=False)
    service.answer(b"0\r\n\r\n")
    assert request.ended and request.reset_code is None
    assert bench.nothing_is_left()


# Backpressure


def test_credit_waits_for_the_transport_of_the_service(bench: Bench) -> None:
    """While the service does not read, the caller gets no credit, and the agent holds no more than one window."""
    request = bench.post(b"", b"Content-Length: 1000000\r\n")
    connection = bench.service.last.protocol
    connection.pauseProducing()
    before = bench.tunnel.consumed_bytes
    sent = 0
    while request.call.credit > 0 and sent < 1_000_000:
        request.send(b"x" * 10_000)
        sent += 10_000
    assert sent <= 80_000
    assert bench.tunnel.consumed_bytes == before
    connection.resumeProducing()
    assert request.call.credit > 0
    assert bench.tunnel.consumed_bytes > before


def test_a_caller_that_does_not_read_pauses_the_service(bench: Bench) -> None:
    """The service's connection is not read while much is queued for the caller, and is read on afterwards."""
    request = bench.get(greedy=False)
    service = bench.service.last
    service.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    sent = 0
    while service.producerState == "producing":
        service.answer(b"x" * 60_000)
        sent += 60_000
    assert sent <= 64 * 1024 + 128 * 1024 + 60_000
    request.take(60_000)
    assert service.producerState == "paused"
    request.take(60_000)
    request.take(60_000)
    assert service.producerState == "producing"


def test_a_kept_connection_is_never_left_paused(bench: Bench) -> None:
    """TLS may deliver the end of a response after the pause: the connection is read again when it is kept."""
    request = bench.get(greedy=False)
    service = bench.service.last
    service.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 300001\r\n\r\n" + b"x" * 300_000)
    assert service.producerState == "paused"
    service.answer(b"x")
    assert service.producerState == "producing"
    request.greedy = True
    request.take(len(request.received))
    bench.tunnel.pump()
    assert request.ended
    assert len(request.body) == 300_001


# The caller leaves


@pytest.mark.parametrize("moment", ["connecting", "waiting", "answering", "upgraded"])
@pytest.mark.parametrize("how", ["reset", "lost"])
def test_a_caller_that_leaves_drops_the_connection_at_once(bench: Bench, moment: str, how: str) -> None:
    """Whatever the call was doing, the service sees at once that nobody waits for it."""
    if moment == "connecting":
        bench.service.waiting = []
    upgrade = b"Connection: Upgrade\r\nUpgrade: echo\r\n" if moment == "upgraded" else b""
    request = bench.get(extra=upgrade, more=bool(upgrade))
    if moment == "answering":
        bench.service.last.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n123")
    elif moment == "upgraded":
        bench.service.last.answer(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
    if how == "reset":
        request.cancel()
    else:
        bench.tunnel.end()
    if moment == "connecting":
        assert bench.service.cancelled == 1
    else:
        assert bench.service.last.aborted
    assert not bench.local.calls
    assert not bench.local.connections


# Upgrades

SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\nKeep-Alive: 3\r\n\r\n"


def test_an_upgrade_turns_both_streams_into_raw_bytes(bench: Bench) -> None:
    """After the 101 bytes pass both ways, those right behind the head included, and no timer runs."""
    request = bench.get(extra=UPGRADE, more=True)
    service = bench.service.last
    assert b"Connection: Upgrade\r\nUpgrade: echo\r\n" in service.taken()
    service.answer(SWITCHED + b"first")
    assert request.frames == [
        (
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nfirst",
            True,
        )
    ]
    bench.pass_time(IDLE_S * 2)
    request.send(b"HTTP/1.1 is over\r\n\r\n")
    assert service.taken() == b"HTTP/1.1 is over\r\n\r\n"
    service.answer(b"\0\1")
    assert request.body == b"first\0\1"
    service.finish()
    assert request.ended and not bench.nothing_is_left()
    request.send(b"still")
    assert service.taken() == b"still"
    request.send(b"", more=False)
    assert service.disconnecting and not service.aborted
    assert bench.nothing_is_left()


def test_the_caller_half_closes_an_upgraded_call(bench: Bench) -> None:
    """The service sees the end of the caller's bytes, and may go on itself."""
    request = bench.get(extra=UPGRADE, more=True)
    service = bench.service.last
    service.answer(SWITCHED)
    service.taken()
    request.send(b"last words", more=False)
    assert service.taken() == b"last words"
    assert service.half_closed and not service.disconnecting
    service.answer(b"the answer")
    service.finish()
    assert request.body == b"the answer" and request.ended
    assert bench.nothing_is_left()


def test_a_broken_upgraded_connection_is_a_reset(bench: Bench) -> None:
    """A connection that breaks is no end."""
    request = bench.get(extra=UPGRADE, more=True)
    bench.service.last.answer(SWITCHED + b"half")
    bench.service.last.lose()
    assert not request.ended and request.reset_code == "failed"
    assert bench.nothing_is_left()


def test_a_declined_upgrade_is_an_ordinary_response(bench: Bench) -> None:
    """The caller ends its stream, the connection is kept, and nobody is told to stop."""
    request = bench.get(extra=UPGRADE, more=True)
    bench.service.last.answer(OK)
    assert request.body == b"ok" and request.ended
    request.send(b"", more=False)
    bench.pass_time(20)
    assert request.reset_code is None
    assert bench.nothing_is_left()
    bench.get()
    assert len(bench.service.transports) == 1


def test_a_caller_that_does_not_end_a_declined_upgrade_is_stopped(bench: Bench) -> None:
    """Nothing waits for ever."""
    request = bench.get(extra=UPGRADE, more=True)
    bench.service.last.answer(OK)
    bench.pass_time(11)
    assert request.reset_code == "stop"
    assert bench.nothing_is_left()


@pytest.mark.parametrize(
    ("extra", "response"),
    [
        (b"", SWITCHED),
        (UPGRADE, b"HTTP/1.1 101 Switching Protocols\r\n\r\n"),
        (UPGRADE, b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\n\r\n"),
    ],
)
def test_a_101_that_nobody_asked_for_is_a_broken_response(bench: Bench, extra: bytes, response: bytes) -> None:
    """502: an upgrade needs an offer, and an answer that names the protocol."""
    request = bench.get(extra=extra, more=bool(extra))
    bench.service.last.answer(response)
    assert request.status == 502 and request.error == "agent-1; bad-response"
    assert bench.service.last.aborted


# Version 1


def test_v1_takes_and_gives_whole_messages() -> None:
    """The response is gathered, framed with its length, and is one frame; interim heads are not passed on."""
    bench = Bench(1)
    request = bench.tunnel.request(
        b"POST / HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    )
    sent = bench.service.last.taken()
    assert sent.endswith(b"3\r\nabc\r\n0\r\n\r\n") and b"Transfer-Encoding: chunked" in sent
    service = bench.service.last
    service.answer(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n")
    assert not request.frames
    service.answer(b"1\r\nc\r\n0\r\n\r\n")
    assert request.frames == [(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", False)]
    assert bench.nothing_is_left()


def test_v1_upgrades_go_on_as_plain_requests() -> None:
    """Nobody is offered an upgrade that v1 cannot carry."""
    bench = Bench(1)
    request = bench.get(extra=UPGRADE)
    assert b"Upgrade" not in bench.service.last.taken()
    bench.service.last.answer(OK)
    assert request.body == b"ok"


def test_v1_answers_a_malformed_request() -> None:
    """A v1 call cannot be reset: it gets a 400."""
    bench = Bench(1)
    request = bench.tunnel.request(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
    assert request.status == 400 and request.error == "agent-1; bad-request"
    short = bench.tunnel.request(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab")
    assert short.status == 400
    assert not bench.service.transports
    assert bench.nothing_is_left()


def test_v1_responses_have_a_limit() -> None:
    """A response that is too large to gather is a 502, and its connection is cut."""
    bench = Bench(1, v1_body_bytes=1000)
    request = bench.get()
    bench.service.last.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n" + b"x" * 1000)
    assert not request.frames and bench.local.held_bytes() == 1000
    bench.service.last.answer(b"x")
    assert request.status == 502 and request.error == "agent-1; body-too-large"
    assert bench.service.last.aborted and bench.local.held_bytes() == 0
    whole = bench.get()
    bench.service.last.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n" + b"x" * 1001)
    assert whole.error == "agent-1; body-too-large"
    assert bench.service.last.aborted
    bench.get()
    assert len(bench.service.transports) == 3, "a connection that was cut is not used again"


@pytest.mark.parametrize("how", ["finish", "lose"])
def test_v1_responses_cut_short_are_a_502(how: str) -> None:
    """Nothing was sent yet, so the caller gets a clean answer."""
    bench = Bench(1)
    request = bench.get()
    bench.service.last.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345")
    getattr(bench.service.last, how)()
    assert request.status == 502 and request.error == "agent-1; service-failed"
    assert b"12345" not in request.received
    assert bench.nothing_is_left()


def test_v1_head_keeps_its_length() -> None:
    """The answer to HEAD says how long the body would be."""
    bench = Bench(1)
    request = bench.get(method=b"HEAD")
    bench.service.last.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
    assert b"Content-Length: 100" in request.head and request.body == b""
