"""One request on its way: choose, retry, copy, upgrade."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pytest
from twisted.logger import LogEvent, globalLogPublisher

from pico_twisted.core.rpc import frames
from pico_twisted.core.rpc.session_base import SEND_HIGH_BYTES
from pico_twisted.net.routing.interfaces import IDownstream, IRoute
from pico_twisted.net.routing.routed_request import HOP_MARGIN_S, MAX_RETRIES
from pico_twisted.net.routing.routes import MAX_REPLAY_BYTES
from tests.doubles.node import pass_time
from tests.doubles.tunnel import FakeTunnel
from tests.net.doubles import OK, OK2, SWITCH, UPGRADE_FIELDS, Case, request_head
from tests.net.routing.routed_case import TIMEOUT_S, case, head_and_body

UNREACHABLE = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 2\r\nx-pico-error: agent-1; service-unreachable\r\n\r\n{}"


def agents(count: int, **kwargs: Any) -> list[FakeTunnel]:
    """Sessions of different agents."""
    return [FakeTunnel(agent_id=f"agent-{number}", **kwargs) for number in range(1, count + 1)]


class TestChoice:
    """Where a request goes, and what is said when it goes nowhere."""

    def test_through(self, here: Case) -> None:
        """A request reaches the tunnel with its head rewritten, and the response comes back."""
        here.start(request_head())
        head, body = head_and_body(here.call)
        assert head.target == b"/" and head.get(b"cdn-loop") == b"pico" and body == b""
        assert here.call.send_ended
        here.respond(OK2 + b"hi", False)
        assert here.down.told == ["begin 200", "write", "finish", "done"]
        assert bytes(here.down.data) == b"hi"
        assert here.routed.upstream == "agent-1" and here.routed.error == ""
        assert not here.parts.cluster.pending

    def test_nobody(self) -> None:
        """Where nobody holds the endpoint: 502; and 503 when the node is shutting down."""
        here = case()
        here.start(request_head())
        assert here.down.failure == (502, "no available upstreams", "no-upstreams")
        here = case()
        here.parts.cluster.start_draining()
        here.start(request_head())
        assert here.down.failure == (503, "node is shutting down", "draining")
        assert here.down.told == ["fail 503", "done"]

    def test_draining_node_serves_on(self, here: Case) -> None:
        """A draining node still serves what reaches it, by its draining sessions."""
        here.parts.cluster.start_draining()
        here.start(request_head())
        here.respond(OK2 + b"hi", False)
        assert here.down.status == 200

    def test_too_many_calls(self) -> None:
        """Over the node's limit of calls or memory: 503, and nothing is sent."""
        here = case(FakeTunnel(), calls=0)
        here.start(request_head())
        assert here.down.failure == (503, "too many requests in progress", "busy")
        here = case(FakeTunnel())
        here.parts.budget.measure(1 << 40)
        here.start(request_head())
        assert here.down.status == 503 and here.opened() == []

    def test_full_sessions(self) -> None:
        """A session at its limit is passed over; when all are, the client may come again: 503."""
        full, free = agents(2)
        here = case(full, free, calls_per_session=1)
        here.start(request_head())
        Case(here.parts).start(request_head())
        assert len(full.opened) == len(free.opened) == 1
        other = Case(here.parts)
        other.start(request_head())
        assert other.down.failure == (503, "too many requests in progress", "busy")

    def test_loop(self, here: Case) -> None:
        """A request that carries ten of our Via entries is 508."""
        here.start(request_head(b"GET", b"Via: " + b", ".join([b"1.1 pico-x"] * 10)))
        assert here.down.failure is not None and here.down.failure[0] == 508
        assert here.opened() == []


class TestRetry:
    """Elsewhere, at most twice, and only where it can do no harm."""

    @pytest.fixture
    def here(self) -> Case:
        """A node with sessions of two agents."""
        return case(*agents(2))

    @pytest.mark.parametrize("code", [*sorted(frames.REFUSALS), frames.UNSUPPORTED])
    @pytest.mark.parametrize("method", [b"GET", b"POST"])
    def test_refusals(self, here: Case, code: str, method: bytes) -> None:
        """A call that was refused reached no service: it is made again, whatever its method, with all of its body."""
        here.start(request_head(method, length=4), b"body")
        first = here.call
        first.refuse(code)
        second = here.call
        assert second is not first and second.sent == first.sent and second.send_ended
        here.respond(OK2 + b"hi", False)
        assert here.down.told == ["begin 200", "write", "finish", "done"]
        assert here.routed.upstream == "agent-2" and here.routed.error == ""

    def test_the_next_in_turn(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A request that is refused goes to the agent whose turn is next, and the turn of nobody else is used up."""
        here = case(*agents(3))
        take = here.parts.cluster.take
        attempts: list[int] = []

        def counted(endpoint: str, tried: Collection[IRoute], request: IDownstream) -> IRoute | None:
            attempts.append(len(tried))
            return take(endpoint, tried, request)

        monkeypatch.setattr(here.parts.cluster, "take", counted)
        here.start(request_head())
        here.call.refuse(frames.REFUSED_BUSY)
        assert attempts == [0, 1]
        assert here.call.tunnel.agent_id == "agent-2"
        here.respond(OK2 + b"hi", False)
        other = Case(here.parts)
        other.start(request_head())
        assert [len(tunnel.opened) for tunnel in here.tunnels] == [1, 1, 1]

    def test_at_most_twice(self) -> None:
        """Three sessions are tried in all, each once."""
        here = case(*agents(5))
        here.start(request_head())
        for _ in range(MAX_RETRIES + 1):
            assert here.down.status is None
            here.call.refuse(frames.REFUSED_NOT_HERE)
        assert here.down.failure == (502, "upstream unreachable", "upstream-unreachable")
        assert [len(tunnel.opened) for tunnel in here.tunnels].count(1) == 3
        assert "pico_retries_total" in here.parts.metrics.exposition().decode()

    def test_all_busy(self, here: Case) -> None:
        """When the last one refused because it is busy, the client may come again: 503."""
        here.start(request_head())
        here.call.refuse(frames.REFUSED_BUSY)
        here.call.refuse(frames.REFUSED_BUSY)
        assert here.down.failure == (503, "too many requests in progress", "busy")

    @pytest.mark.parametrize(
        ("method", "again"),
        [
            *[(method, True) for method in (b"GET", b"HEAD", b"PUT", b"DELETE", b"OPTIONS")],
            (b"POST", False),
            (b"PATCH", False),
        ],
    )
    @pytest.mark.parametrize("how", ["failed", "lost"])
    def test_failures(self, here: Case, method: bytes, again: bool, how: str) -> None:
        """A call that failed on its way is made again only if the method is idempotent."""
        here.start(request_head(method, length=4), b"body")
        if how == "failed":
            here.call.refuse(frames.FAILED)
        else:
            here.call.tunnel.lose()
        assert len(here.opened()) == (2 if again else 1)
        if again:
            assert here.opened()[0].sent == here.opened()[1].sent
        else:
            assert here.down.failure == (502, "upstream unreachable", "upstream-unreachable")
            assert here.routed.error == "upstream-unreachable"

    def test_first_frame_was_never_written(self) -> None:
        """A session that ended before the first frame left is no harm to any method."""
        slow, other = agents(2)
        slow.takes = False
        here = case(slow, other)
        here.start(request_head(b"POST", length=4), b"body")
        slow.lose()
        assert len(other.opened) == 1
        assert head_and_body(other.opened[0])[1] == b"body"

    @pytest.mark.parametrize(("size", "again"), [(MAX_REPLAY_BYTES, True), (MAX_REPLAY_BYTES + 1, False)])
    def test_kept_bodies(self, here: Case, size: int, again: bool) -> None:
        """A body is kept up to 64 KiB; a larger one cannot be sent again, not even after a refusal."""
        routed = here.start(request_head(b"PUT", length=size), b"", False)
        body = bytes(range(256)) * 300
        routed.body(body[: size // 2])
        routed.body(body[size // 2 : size])
        routed.body_ended()
        here.call.refuse(frames.REFUSED_DRAINING)
        if again:
            assert head_and_body(here.call)[1] == body[:size] and here.call.send_ended
        else:
            assert here.down.status == 502

    def test_body_still_coming(self, here: Case) -> None:
        """A request that is made again while its body comes gets the beginning first and the rest as it comes."""
        routed = here.start(request_head(b"POST", length=8), b"one ", False)
        here.call.refuse(frames.REFUSED_BUSY)
        assert not here.call.send_ended
        routed.body(b"two!")
        routed.body_ended()
        assert head_and_body(here.call)[1] == b"one two!" and here.call.send_ended

    def test_not_behind_the_head(self, here: Case) -> None:
        """Once the response began nothing is made again: it is cut."""
        here.start(request_head())
        here.respond(OK + b"some", True)
        here.call.refuse(frames.REFUSED_BUSY)
        assert here.down.told == ["begin 200", "write", "cut", "done"]
        assert len(here.opened()) == 1

    def test_not_behind_an_interim_head(self, here: Case) -> None:
        """A 1xx is a byte of the response: a service was reached."""
        here.start(request_head())
        here.respond(b"HTTP/1.1 103 Early Hints\r\n\r\n", True)
        here.call.refuse(frames.FAILED)
        assert len(here.opened()) == 1 and here.down.status == 502

    def test_agent_could_not_reach_its_service(self, here: Case) -> None:
        """An agent's own 502 that says so is tried elsewhere, whatever the method; the last one is passed on."""
        here.start(request_head(b"POST", length=4), b"body")
        here.call.respond(UNREACHABLE, False)
        assert here.down.status is None
        here.respond(UNREACHABLE, False)
        assert here.down.answer is not None and here.down.answer.status == 502
        assert here.down.answer.get(b"x-pico-error") == b"agent-1; service-unreachable"
        assert here.down.told == ["begin 502", "write", "finish", "done"]

    def test_own_502_of_a_service(self, here: Case) -> None:
        """A service's own 502 passes untouched."""
        here.start(request_head())
        here.respond(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 4\r\n\r\nmine", False)
        assert here.down.status == 502 and bytes(here.down.data) == b"mine" and len(here.opened()) == 1

    def test_one_session_dies_with_all_its_calls(self, here: Case) -> None:
        """Calls of a session that dies all go to the one that is left, and none back to the dead one."""
        cases = []
        for _ in range(6):
            other = Case(here.parts)
            other.start(request_head())
            cases.append(other)
        dead, alive = here.tunnels
        dead.lose()
        assert len(alive.calls) == 6
        for call in list(alive.calls):
            call.respond(OK2 + b"hi", False)
        assert [other.down.status for other in cases] == [200] * 6

    def test_a_broken_response(self) -> None:
        """A response that breaks the protocol is 502, and the call is reset."""
        here = case(*agents(1))
        here.start(request_head(b"POST", length=0))
        call = here.call
        lines: list[LogEvent] = []
        observer: Any = lines.append
        globalLogPublisher.addObserver(observer)
        try:
            call.respond(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", True)
        finally:
            globalLogPublisher.removeObserver(observer)
        assert here.down.failure == (502, "the response of the upstream is not valid", "bad-response")
        assert (call.reset_code, "Content-Length" in call.reset_text) == (frames.PROTOCOL, True)
        warned = [event for event in lines if event["log_level"].name == "warn"]
        assert [(event["endpoint"], event["upstream"]) for event in warned] == [("my-ep", "agent-1")]
        assert "Content-Length" in warned[0]["reason"], "the reason is told to those who can act on it"


class TestStreaming:
    """Bodies go both ways as they come."""

    def test_every_chunk_at_once(self, here: Case) -> None:
        """Each piece is passed on when it comes, in both directions."""
        routed = here.start(request_head(b"POST", chunked=True), b"", False)
        for number in range(5):
            routed.body(b"%d" % number)
            assert head_and_body(here.call)[1] == b"01234"[: number + 1]
        routed.body_ended()
        assert here.call.send_ended
        here.respond(OK, True)
        for number in range(5):
            here.respond(b"%d" % number, True)
            assert bytes(here.down.data) == b"01234"[: number + 1]
        here.respond(b"", False)
        assert here.down.told[-2:] == ["finish", "done"]

    def test_a_large_first_read(self, here: Case) -> None:
        """Body bytes that came with the head go into the first frame, or right behind it when they do not fit."""
        here.start(request_head(b"POST", length=70_000), bytes(64_000), False)
        assert head_and_body(here.call)[1] == bytes(64_000)
        assert len(here.call.first) < 60 * 1024

    def test_response_before_the_request_ended(self, here: Case) -> None:
        """A response may come and end while the request goes on; both are served to their ends."""
        routed = here.start(request_head(b"POST", length=8), b"", False)
        routed.body(b"one ")
        here.respond(OK2 + b"hi", False)
        assert here.down.told == ["begin 200", "write", "finish"]
        routed.body(b"two!")
        routed.body_ended()
        assert head_and_body(here.opened()[0])[1] == b"one two!"
        assert here.down.told[-1] == "done" and not here.parts.cluster.pending

    def test_stop(self, here: Case) -> None:
        """When the callee wants no more, the client is told so behind its response, once."""
        routed = here.start(request_head(b"POST", length=8), b"", False)
        here.respond(OK2 + b"hi", False)
        here.call.refuse(frames.STOP)
        assert here.down.told == ["begin 200", "write", "finish", "stop", "done"]
        routed.body(b"more")
        routed.body_ended()
        routed.gone()
        assert here.down.told[-1] == "done"

    def test_session_lost_behind_an_early_response(self, here: Case) -> None:
        """A session that ends behind a whole response is the same as a stop."""
        here.start(request_head(b"POST", length=8), b"", False)
        here.respond(OK2 + b"hi", False)
        here.tunnels[0].lose()
        assert here.down.told == ["begin 200", "write", "finish", "stop", "done"]

    def test_cut(self) -> None:
        """A response cut short is cut towards the client: it is never ended as if it were whole."""
        for how in ("reset", "lost", "too long"):
            here = case(FakeTunnel())
            here.start(request_head())
            here.respond(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nsome", True)
            if how == "reset":
                here.call.refuse(frames.FAILED)
            elif how == "lost":
                here.tunnels[0].lose()
            else:
                here.call.respond(bytes(50), True)
            assert here.down.told == ["begin 200", "write", "cut", "done"]
            assert here.routed.error == ("bad-response" if how == "too long" else "upstream-unreachable")

    def test_client_leaves(self) -> None:
        """A client that leaves cancels its call, at any point."""
        for answered in (False, True):
            here = case(FakeTunnel())
            routed = here.start(request_head())
            call = here.call
            if answered:
                here.respond(OK + b"some", True)
            routed.gone()
            routed.gone()
            assert call.reset_code == frames.CANCELLED
            assert here.down.told[-1] == "done" and routed.error == "client-gone"
            assert not here.parts.cluster.pending

    def test_slow_service(self, here: Case) -> None:
        """When much of the request waits, no more is read of it, until little waits."""
        (tunnel,) = here.tunnels
        tunnel.takes = False
        routed = here.start(request_head(b"POST", chunked=True), b"", False)
        while "pause" not in here.down.told:
            routed.body(bytes(16_000))
            assert here.call.queued <= SEND_HIGH_BYTES + 17_000
        routed.body(bytes(16_000))
        here.call.take()
        assert here.down.told == ["pause", "resume"]

    def test_slow_client(self, here: Case) -> None:
        """While the client is slow no credit is given for the response, and all of it afterwards."""
        routed = here.start(request_head())
        routed.pause()
        here.respond(OK + bytes(1000), True)
        call = here.call
        assert call.consumed == 0
        routed.resume()
        assert call.consumed == len(OK) + 1000
        routed.pause()
        call.refuse(frames.FAILED)
        routed.resume()

    def test_paused_before_it_began(self) -> None:
        """A pause that came before the call was made holds for it."""
        here = case(*agents(2))
        routed = here.start(request_head())
        routed.pause()
        here.call.refuse(frames.REFUSED_BUSY)
        here.respond(OK + b"x", True)
        assert here.call.consumed == 0


class TestUpgrade:
    """Both directions become raw bytes."""

    @pytest.fixture
    def here(self, here: Case) -> Case:
        """A request for an upgrade, on its way."""
        here.start(request_head(b"GET", *UPGRADE_FIELDS))
        return here

    def test_granted(self, here: Case) -> None:
        """After a 101 bytes pass both ways, each direction ends by itself, and no timer runs."""
        head, _ = head_and_body(here.call)
        assert head.upgrade == b"x" and not here.call.send_ended
        here.respond(SWITCH + b"first", True)
        assert here.down.status == 101 and here.down.told == ["begin 101", "write"]
        here.routed.body(b"\x00\x01")
        assert head_and_body(here.call)[1] == b"\x00\x01"
        pass_time(here.parts.clock, 100, 0.5)
        here.routed.body_ended()
        assert here.call.send_ended
        here.respond(b"last", True)
        here.respond(b"", False)
        assert here.down.told == ["begin 101", "write", "finish", "done"]
        assert bytes(here.down.data) == b"firstlast"

    def test_service_ends_first(self, here: Case) -> None:
        """The client may go on after the service has ended its direction."""
        here.respond(SWITCH, True)
        here.respond(b"", False)
        assert here.down.told == ["begin 101", "finish"]
        here.routed.body(b"more")
        here.routed.body_ended()
        assert here.down.told[-1] == "done"
        assert head_and_body(here.opened()[0])[1] == b"more"

    @pytest.mark.parametrize("stopped", [False, True])
    def test_declined(self, here: Case, stopped: bool) -> None:
        """On another final head the request's stream is ended, and the response is an ordinary one; an agent that ends
        such a call only after that changes nothing."""
        call = here.call
        here.respond(OK2 + b"h" if stopped else OK2 + b"hi", stopped)
        assert call.send_ended
        if stopped:
            here.respond(b"i", False)
        assert here.down.told == ["begin 200", "write", "finish", "done"]
        assert bytes(here.down.data) == b"hi"

    def test_retried(self) -> None:
        """An upgrade that was refused is asked for elsewhere."""
        here = case(*agents(2))
        here.start(request_head(b"GET", *UPGRADE_FIELDS))
        here.call.refuse(frames.REFUSED_DRAINING)
        here.respond(SWITCH, True)
        assert here.down.status == 101

    def test_not_asked_for(self) -> None:
        """A 101 that nobody asked for breaks the call."""
        here = case(FakeTunnel())
        here.start(request_head())
        call = here.call
        call.respond(SWITCH, True)
        assert here.down.status == 502 and call.reset_code == frames.PROTOCOL

    def test_timeout(self, here: Case) -> None:
        """A service that does not answer the offer is timed out."""
        pass_time(here.parts.clock, TIMEOUT_S + HOP_MARGIN_S + 0.5)
        assert here.down.status == 504

    def test_client_leaves(self, here: Case) -> None:
        """A client that leaves an upgraded connection cancels the call."""
        here.respond(SWITCH, True)
        call = here.call
        here.routed.gone()
        assert call.reset_code == frames.CANCELLED
