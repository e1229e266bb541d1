"""Whatever a service and a caller do, in any order and cut at any byte: the agent speaks the protocol, ends every call,
and never gives one caller bytes of another's answer.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from pico_twisted.core.http1.head import END, HeadLimits, ResponseHead
from pico_twisted.core.rpc.http import ResponseStream
from pico_twisted.net.agent.serving.v1 import IDLE_S
from tests.examples import examples
from tests.net.agent.agent_fakes import Bench, FakeTransport, Request

UPGRADE = b"Connection: Upgrade\r\nUpgrade: echo\r\n"

RESPONSES = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
    b"HTTP/1.0 200 OK\r\n\r\nuntil the end",
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nraw",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstale",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 500 Oops\r\nContent-Length: 70000\r\n\r\n" + b"x" * 70000,
    b"\x00\xff garbage \r\n\r\n",
]

service_bytes = st.one_of(
    st.sampled_from(RESPONSES),
    st.tuples(st.sampled_from(RESPONSES), st.integers(0, 120), st.binary(max_size=6)).map(
        lambda parts: parts[0][: parts[1]] + parts[2] + parts[0][parts[1] + 1 :]
    ),
    st.binary(max_size=60),
)

acts = st.one_of(
    st.tuples(st.just("answer"), service_bytes, st.integers(1, 300)),
    st.tuples(st.just("finish")),
    st.tuples(st.just("lose")),
    st.tuples(st.just("stall")),
    st.tuples(st.just("took")),
    st.tuples(st.just("send"), st.binary(max_size=30), st.booleans()),
    st.tuples(st.just("cancel")),
    st.tuples(st.just("time"), st.sampled_from([0.2, 6.0, 12.0, IDLE_S + 5])),
    st.tuples(st.just("block")),
    st.tuples(st.just("unblock")),
)

calls = st.sampled_from(
    [
        (b"GET", b"", False),
        (b"HEAD", b"", False),
        (b"GET", UPGRADE, True),
        (b"POST", b"Content-Length: 10\r\n", True),
        (b"PUT", b"", True),
        (b"POST", b"Expect: 100-continue\r\nContent-Length: 10\r\n", True),
    ]
)


def act(bench: Bench, request: Request, step: tuple[Any, ...]) -> None:
    """Do one step, to the newest connection that is open."""
    services: list[FakeTransport] = [one for one in bench.service.transports if one.connected]
    what = step[0]
    if what == "send":
        request.send(step[1], step[2])
    elif what == "cancel":
        request.cancel()
    elif what == "time":
        bench.pass_time(step[1])
    elif what in ("block", "unblock"):
        bench.tunnel.blocked = what == "block"
        bench.tunnel.pump()
    elif services:
        service = services[-1]
        if what == "answer":
            data, size = step[1], step[2]
            for at in range(0, len(data), max(size, len(data) // 50)):
                if service.connected and not service.disconnecting:
                    service.answer(data[at : at + max(size, len(data) // 50)])
        elif what == "finish":
            if service.connected:
                service.finish()
        elif what == "lose":
            service.lose()
        elif what == "stall":
            service.protocol.pauseProducing()
        else:
            service.protocol.resumeProducing()


def check(request: Request, method: bytes, upgrade: bool) -> None:
    """What the caller got is a valid stream of the protocol, with at most one response."""
    stream = ResponseStream(HeadLimits(), method, upgrade)
    finals = 0
    ended = False
    for payload, more in request.frames:
        for event in stream.feed(payload, more):
            assert not ended
            if isinstance(event, ResponseHead) and (event.status >= 200 or event.status == 101):
                finals += 1
            ended = event is END
    assert finals <= 1
    assert not ended or finals == 1


@settings(max_examples=examples(400))
@given(calls, st.booleans(), st.lists(acts, max_size=12))
def test_every_call_ends_and_every_stream_is_valid(
    call: tuple[bytes, bytes, bool], warm: bool, steps: list[tuple[Any, ...]]
) -> None:
    """Whatever happens: then the service goes away and time passes, and nothing is left."""
    method, extra, more = call
    bench = Bench(timeout_s=5.0)
    if warm:
        bench.warm_up()
    request = bench.get(b"/first", extra, method, more=more)
    for step in steps:
        act(bench, request, step)
        check(request, method, extra == UPGRADE)
    bench.tunnel.blocked = False
    bench.tunnel.pump()
    for service in bench.service.transports:
        service.lose()
    bench.pass_time(1)
    for service in bench.service.transports:
        service.lose()
    bench.pass_time(15)
    check(request, method, extra == UPGRADE)
    assert request.ended or request.reset_code or request.call.closed
    assert not bench.local.calls
    assert not bench.local.connections
    if request.call.send_closed or not more:
        assert bench.nothing_is_left()


@settings(max_examples=examples(200))
@given(st.lists(st.tuples(service_bytes, st.booleans()), min_size=1, max_size=6))
def test_an_answer_belongs_to_one_caller(answers: list[tuple[bytes, bool]]) -> None:
    """After anything that a service said before, a request with a proper answer gets that and nothing else."""
    bench = Bench(timeout_s=5.0)
    for data, closes in answers:
        bench.get(b"/before")
        if bench.service.transports and bench.service.last.connected:
            bench.service.last.answer(data)
        if closes and bench.service.last.connected:
            bench.service.last.finish()
        bench.pass_time(6)
    for service in bench.service.transports:
        if service.connected and service.protocol.user is not None:
            service.lose()
    bench.pass_time(6)
    for service in bench.service.transports:
        service.clear()
    request = bench.get(b"/after")
    (service,) = [one for one in bench.service.transports if one.value().startswith(b"GET /after ")]
    service.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nmine")
    assert request.status == 200 and request.body == b"mine" and request.ended
