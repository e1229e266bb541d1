"""Requests that are sent again: to the service as calls are, recorded like them, and counted as nobody's."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from twisted.internet.error import ConnectionRefusedError

from pico_twisted.core.inspect.replay import Edits, ReplayRefused
from pico_twisted.net.agent.inspect.inspector import MOST_REPLAYS, REPLAY_S
from pico_twisted.net.agent.serving.local_service import ServiceParts
from pico_twisted.net.agent.serving.replays import Replays
from tests.net.agent.agent_fakes import OK, UPGRADE, tunnel_parts
from tests.net.agent.test_recorder import Inspected


class Replaying(Inspected):
    """A bench whose inspector knows the service, with a policy that lets nobody in twice."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.config = attrs.evolve(self.local.config, max_in_flight=1)
        self.parts = ServiceParts(
            config=self.config,
            tunnel=tunnel_parts(self.clock, self.sweep, self.metrics),
            agent_id="agent-1",
            reactor=None,  # `dials` connects
            dials=self.service,
            policy=self.policies.of(self.config),
            inspector=self.inspector,
        )
        self.inspector.serves(self.config, Replays(self.parts))


def counts(bench: Replaying) -> list[bytes]:
    """All that is counted, but for what the process has used of its machine, which grows by itself."""
    return [line for line in bench.metrics.exposition().splitlines() if not line.startswith(b"process_")]


def test_a_request_is_sent_again() -> None:
    """The service gets the same request, on a connection of its own; the answer is recorded, and the client's call,
    the counts and the policy know nothing of it."""
    bench = Replaying()
    bench.post(b"question", b"Content-Length: 8\r\n", more=False)
    first = bench.service.last
    sent = first.taken()
    first.answer(OK)
    counted = counts(bench)
    again = bench.inspector.replay(1, Edits())
    second = bench.service.last
    assert second is not first and second.taken() == sent
    second.answer(b"HTTP/1.1 201 Created\r\nContent-Length: 4\r\n\r\ntwo!")
    assert again.id == 2 and again.replay_of == 1 and again.over and again.shown_status == 201
    assert bytes(again.response_body.kept) == b"two!"
    assert counts(bench) == counted
    assert bench.nothing_is_left()


def test_it_may_be_edited() -> None:
    """What is sent is what the edits say."""
    bench = Replaying()
    bench.get(b"/old")
    bench.service.last.answer(OK)
    bench.inspector.replay(1, Edits(method="DELETE", target="/new"))
    assert bench.service.last.taken().startswith(b"DELETE /new HTTP/1.1\r\n")


def test_a_large_answer_is_taken_and_not_kept() -> None:
    """A replay reads as fast as the service writes, and keeps the beginning."""
    bench = Replaying()
    bench.get()
    bench.service.last.answer(OK)
    again = bench.inspector.replay(1, Edits())
    size = 1 << 20
    bench.service.last.answer(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
    for _ in range(16):
        bench.service.last.answer(bytes(size // 16))
    assert again.over and again.response_body.count == size and again.response_body.cut


def test_a_service_that_is_not_there() -> None:
    """Says so, as to a client."""
    bench = Replaying()
    bench.get()
    bench.service.last.answer(OK)
    bench.service.refusing = ConnectionRefusedError()
    again = bench.inspector.replay(1, Edits())
    assert again.shown_status == 502 and again.error == "service-unreachable" and "cannot be reached" in again.trouble


def test_one_that_never_ends_is_cut() -> None:
    """A stream that nobody would close is given up after a time."""
    bench = Replaying(timeout_s=None)
    bench.get()
    bench.service.last.answer(OK)
    again = bench.inspector.replay(1, Edits())
    bench.service.last.answer(b"HTTP/1.1 200 OK\r\n\r\nfor ever")
    bench.pass_time(REPLAY_S + 1)
    assert again.over and again.error and bench.service.last.aborted


def test_only_some_at_once() -> None:
    """A page that sends and sends does not take the service down."""
    bench = Replaying()
    bench.get()
    bench.service.last.answer(OK)
    for _ in range(MOST_REPLAYS):
        bench.inspector.replay(1, Edits())
    with pytest.raises(ReplayRefused, match="replays are running"):
        bench.inspector.replay(1, Edits())
    bench.inspector.stop()
    assert all(one.over for one in bench.recordings)


def test_what_is_refused() -> None:
    """What is not kept, what is no request, and what has no service here any more."""
    bench = Replaying()
    with pytest.raises(ReplayRefused, match="not kept any more"):
        bench.inspector.replay(7, Edits())
    bench.get(b"/ws", UPGRADE, more=True)
    with pytest.raises(ReplayRefused, match="asks for another protocol"):
        bench.inspector.replay(1, Edits())
    other = Inspected()
    other.get()
    other.service.last.answer(OK)
    with pytest.raises(ReplayRefused, match="no listener of HTTP for web"):
        other.inspector.replay(1, Edits())


def test_a_listener_that_is_gone() -> None:
    """Nothing is sent to a service whose listener was removed, or speaks TCP now."""
    bench = Replaying()
    bench.get()
    bench.service.last.answer(OK)
    bench.inspector.serves_only(["web"])
    bench.inspector.replay(1, Edits())
    bench.inspector.serves(attrs.evolve(bench.config, protocol="tcp"), Replays(bench.parts))
    with pytest.raises(ReplayRefused, match="no listener of HTTP for web"):
        bench.inspector.replay(1, Edits())
    bench.inspector.serves(bench.config, Replays(bench.parts))
    bench.inspector.serves_only([])
    with pytest.raises(ReplayRefused, match="no listener of HTTP for web"):
        bench.inspector.replay(1, Edits())
    assert all(one.over for one in bench.recordings)


def test_another_service_of_the_same_endpoint() -> None:
    """A listener that got another service on a reload sends replays there; those that ran are cut."""
    bench = Replaying()
    bench.get()
    bench.service.last.answer(OK)
    running = bench.inspector.replay(1, Edits())
    bench.inspector.serves(bench.config, Replays(bench.parts))
    assert running.over and running.error
    bench.inspector.replay(1, Edits())
    assert b"GET / HTTP/1.1" in bench.service.last.taken()
