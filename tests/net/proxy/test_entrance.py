"""A proxy port that authenticates: who is let in, what they are told, and that nothing of it goes further."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from twisted.internet.task import Clock

from pico_twisted.core.access.refusals import REFUSALS
from pico_twisted.core.access.subject import Reason, Refused, Subject
from pico_twisted.core.rpc.capabilities import TRAILERS
from pico_twisted.net.proxy.entrance import IDENTIFY_S, MOST_KEPT_BYTES
from pico_twisted.net.proxy.http1.channel import READ_AHEAD_BYTES
from pico_twisted.net.proxy.resource import ReverseResource
from pico_twisted.net.routing.settings import RoutingSettings
from tests.doubles.gate import ToldGate, subject
from tests.doubles.node import MemoryNode
from tests.doubles.tunnel import FakeTunnel
from tests.net.doubles import OK2, SWITCH, register
from tests.net.proxy.proxy_client import Client

MINE = subject("mine", "connect:my-*")
OTHER = subject("other", "connect:other", "listen:my-ep", "admin:operate")
CERTIFICATE = b"der"
KNOWN: Mapping[bytes, Subject | Refused] = {
    b"mine": MINE,
    b"other": OTHER,
    b"few": subject("few", "connect:my-ep;in_flight=1", "connect:*;rate=1/s"),
    b"old": REFUSALS[Reason.EXPIRED],
    b"foreign": REFUSALS[Reason.ISSUER],
    b"busy": REFUSALS[Reason.BUSY],
    b"away": REFUSALS[Reason.KEYS_AWAY],
    CERTIFICATE: subject("machine", "connect:*"),
}


class Guarded(Client):
    """A client of a node whose proxy port authenticates, with an agent for `my-ep`."""

    def __init__(self, *, slow: bool = False, certificate: bytes | None = None, **more: Any) -> None:
        parts = MemoryNode(Clock())
        node = parts.node
        self.gate = ToldGate(KNOWN, slow=slow)
        settings = RoutingSettings(
            router=node.cluster, sweep=node.sweep, metrics=node.metrics, timeout_s=5.0, idle_timeout_s=8.0
        )
        parts.proxy.resource = ReverseResource(settings, node.ceilings, self.gate)
        self.tunnel = register(parts, FakeTunnel())
        super().__init__(parts=parts, **more)

    def ask(self, *fields: bytes, endpoint: bytes = b"my-ep", line: bytes = b"GET /a", body: bytes = b"") -> None:
        """Send a request with these fields."""
        named = b"x-pico-endpoint: " + endpoint if endpoint else b"Accept: */*"
        self.send(b"\r\n".join((line + b" HTTP/1.1", b"Host: localhost", named, *fields, b"", body)))

    def refused(self) -> tuple[int, str]:
        """The status and the code that came; and nothing reached an agent."""
        status, fields, body = self.answer()
        told = json.loads(body)
        assert fields["x-pico-error"] == f"n1; {told['code']}" and told["endpoint"] == ""
        assert self.tunnel.opened == []
        return status, told["code"]


@pytest.fixture
def certificate(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client's connection is TLS, and showed a certificate."""
    monkeypatch.setattr("pico_twisted.net.proxy.entrance.client_certificate", lambda transport: CERTIFICATE)


@pytest.mark.parametrize(
    ("fields", "status", "code", "challenge"),
    [
        ((), 401, "missing", ""),
        ((b"Authorization: Basic bWluZTo=",), 401, "missing", ""),
        ((b"x-pico-authorization: Bearer nobody",), 401, "unknown", "invalid_token"),
        ((b"Authorization: Bearer nobody",), 401, "unknown", "invalid_token"),
        ((b"Authorization: Bearer old",), 401, "expired", "invalid_token"),
        ((b"x-pico-authorization: old", b"Authorization: Bearer mine"), 401, "expired", "invalid_token"),
        ((b"x-pico-authorization: mine, mine",), 401, "malformed", "invalid_token"),
        ((b"Authorization: Bearer mine", b"Authorization: Bearer mine"), 401, "malformed", "invalid_token"),
        ((b"x-pico-authorization: Bearer other",), 403, "not-allowed", "insufficient_scope"),
    ],
)
def test_who_is_not_let_in(fields: tuple[bytes, ...], status: int, code: str, challenge: str) -> None:
    """Whoever shows nothing, nothing good, or what no rule is for, is told so; the next request is judged anew."""
    client = Guarded()
    client.ask(*fields)
    status_line, told, body = client.answer()
    answer = json.loads(body)
    assert (status_line, answer["code"], answer["endpoint"]) == (status, code, "")
    assert told["www-authenticate"] == 'Bearer realm="pico"' + (f', error="{challenge}"' if challenge else "")
    assert client.tunnel.opened == [] and [reason.value for reason, _ in client.gate.refusals] == [code]
    client.ask(b"x-pico-authorization: mine")
    assert len(client.tunnel.opened) == 1
    client.respond(OK2 + b"ok")
    assert client.answer()[0] == 200


def test_a_repeated_field_of_ours_is_a_bad_request() -> None:
    """Our field twice: nobody guesses which one counts."""
    client = Guarded()
    client.ask(b"x-pico-authorization: mine", b"X-Pico-Authorization: mine")
    assert client.refused()[0] == 400


@pytest.mark.parametrize("endpoint", [b"my-ep", b"nobody", b"", b"-/-"])
@pytest.mark.parametrize("credential", [b"", b"x-pico-authorization: nobody"])
def test_strangers_learn_nothing_of_endpoints(endpoint: bytes, credential: bytes) -> None:
    """The answer to somebody unknown is the same, to the byte, for what exists, what does not and what cannot."""
    client, same = Guarded(), Guarded()
    client.ask(b"X-Request-Id: r", credential or b"Accept: */*", endpoint=endpoint)
    same.ask(b"X-Request-Id: r", credential or b"Accept: */*")
    told = client.answer()
    assert told == same.answer() and told[0] == 401


def test_who_is_known_learns_nothing_of_endpoints_of_others() -> None:
    """What no rule allows is answered alike, to the byte, whether somebody serves it or not; the log says which."""
    client, same = Guarded(), Guarded()
    client.ask(b"X-Request-Id: r", b"x-pico-authorization: other")
    same.ask(b"X-Request-Id: r", b"x-pico-authorization: other", endpoint=b"nobody")
    told = client.answer()
    assert told == same.answer() and told[0] == 403 and b"my-ep" not in told[2]
    assert client.gate.refusals == [(Reason.NOT_ALLOWED, "my-ep")]
    (line,) = client.log
    assert (line["subject"], line["endpoint"], line["error"]) == ("other", "my-ep", "not-allowed")


def test_a_browser_reads_why() -> None:
    """Whoever wants HTML gets a page, with words and no secret in it."""
    client = Guarded()
    client.ask(b"x-pico-authorization: s3cr3t", b"Accept: text/html")
    status, fields, body = client.answer()
    assert (status, fields["content-type"]) == (401, "text/html; charset=utf-8")
    assert b"credential is not known here" in body and b"s3cr3t" not in body


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        ((b"x-pico-authorization: Bearer mine",), b""),
        ((b"x-pico-authorization: mine", b"Authorization: Basic s3cr3t"), b"Authorization: Basic s3cr3t"),
        ((b"x-pico-authorization: mine", b"Authorization: Bearer s3cr3t"), b"Authorization: Bearer s3cr3t"),
        ((b"x-pico-authorization: mine", b"Authorization: Bearer foreign"), b"Authorization: Bearer foreign"),
        ((b"x-pico-authorization: mine", b"Authorization: Bearer mine"), b""),
        ((b"x-pico-authorization: mine", b"Authorization: Bearer other"), b""),
        ((b"x-pico-authorization: mine", b"Authorization: Bearer old"), b""),
        ((b"Authorization: bearer mine",), b""),
    ],
)
@pytest.mark.parametrize("times", [1, 2])
def test_what_a_service_sees(fields: tuple[bytes, ...], kept: bytes, times: int) -> None:
    """A credential of ours never goes on, wherever it stands; what is the service's goes on as it is. Nor is it in the
    log, which says who it was."""
    client = Guarded()
    for _ in range(times):
        client.ask(*fields, b"Cookie: c")
        client.respond(OK2 + b"ok")
        assert client.answer()[0] == 200
        head = client.call.first
        assert b"pico-authorization" not in head and b"mine" not in head and b"other" not in head and b"old" not in head
        assert (kept in head if kept else b"uthorization" not in head) and b"Cookie: c" in head
    assert [line["subject"] for line in client.log] == ["mine"] * times
    assert "s3cr3t" not in json.dumps(client.log) and "Bearer" not in json.dumps(client.log)


@pytest.mark.parametrize("token", [b"busy", b"away"])
def test_what_may_be_ours(token: bytes) -> None:
    """While nobody can say whether Authorization is ours, the service gets neither that nor a request without it; later
    it gets what is its own, on the same connection."""
    client = Guarded()
    fields = (b"x-pico-authorization: mine", b"Authorization: Bearer " + token)
    client.ask(*fields)
    assert client.refused() == (503, "busy" if token == b"busy" else "keys-away")
    client.gate.subjects[token] = REFUSALS[Reason.UNKNOWN]
    client.ask(*fields)
    assert fields[1] in client.call.first


def test_who_a_connection_is_from_is_asked_once() -> None:
    """Requests that show the same are of the same; what shows something else, or nothing, is judged by that."""
    client = Guarded()
    client.ask(b"x-pico-authorization: mine")
    client.respond(OK2 + b"ok")
    client.gate.slow = True  # whoever is asked for now has to wait
    for _ in range(2):
        client.ask(b"x-pico-authorization: mine")
        client.respond(OK2 + b"ok")
    client.gate.slow = False
    client.taken()
    client.ask()
    assert client.answer()[0] == 401 and len(client.tunnel.opened) == 3
    client.ask(b"x-pico-authorization: other")
    assert client.answer()[0] == 403 and len(client.tunnel.opened) == 3


def test_what_is_long_is_not_kept() -> None:
    """A connection does not hold kilobytes of what its client says to the service; it is let in all the same."""
    client = Guarded()
    for size in (100, MOST_KEPT_BYTES):
        for _ in range(2):
            client.ask(b"x-pico-authorization: mine", b"Authorization: Basic " + b"x" * size)
            client.respond(OK2 + b"ok")
            assert client.answer()[0] == 200
        visitor = client.channel.visitor
        assert visitor is not None and bool(visitor.values) is (size < MOST_KEPT_BYTES)


def test_what_was_shown_in_a_second_line_counts_for_that_request_alone() -> None:
    """A token in the second of two fields lets in one request, and no later one that has only the first of them."""
    client = Guarded()
    offer = b"Sec-WebSocket-Protocol: chat"
    client.ask(offer, b"Sec-WebSocket-Protocol: pico.bearer.mine")
    client.respond(OK2 + b"ok")
    assert client.answer()[0] == 200
    client.ask(offer)
    assert client.answer()[0] == 401 and len(client.tunnel.opened) == 1


@pytest.mark.parametrize(
    ("first", "second", "status"),
    [
        (b"Authorization:", b"Authorization: Bearer mine", 401),
        (b"Authorization: Basic eDp5", b"Authorization: Bearer other", 401),
        (b"Sec-WebSocket-Protocol:", b"Sec-WebSocket-Protocol: pico.bearer.other", 401),
        (b"Sec-WebSocket-Protocol: chat", b"Sec-WebSocket-Protocol: pico.bearer.other", 401),
    ],
)
def test_what_a_second_line_shows_is_looked_at_on_a_known_connection(first: bytes, second: bytes, status: int) -> None:
    """Whoever was let in by the first of two fields is judged by both of them, even if the first one is empty."""
    client = Guarded()
    for _ in range(2):
        client.ask(b"x-pico-authorization: mine", first)
        client.respond(OK2 + b"ok")
        assert client.answer()[0] == 200
    assert client.channel.visitor is not None and client.channel.visitor.values
    client.ask(b"x-pico-authorization: mine", first, second)
    assert client.answer()[0] == status and len(client.tunnel.opened) == 2


def test_a_credential_that_ends() -> None:
    """A kept connection is no way round: who has expired, was revoked, or is known no more is not let in again."""
    client = Guarded()
    client.ask(b"x-pico-authorization: mine")
    client.respond(OK2 + b"ok")
    client.taken()
    client.gate.ended["mine"] = Reason.REVOKED
    client.ask(b"x-pico-authorization: mine")
    assert json.loads(client.answer()[2])["code"] == "revoked"
    del client.gate.ended["mine"], client.gate.subjects[b"mine"]
    client.gate.epoch = object()
    client.ask(b"x-pico-authorization: mine")
    assert json.loads(client.answer()[2])["code"] == "unknown" and len(client.tunnel.opened) == 1


def test_the_limits_of_a_rule() -> None:
    """They hold for one subject over all its connections, are told apart, and nobody else notices."""
    client = Guarded()
    client.ask(b"x-pico-authorization: few")
    other = Client(b"GET / HTTP/1.1\r\nHost: my-ep.a\r\nAuthorization: Bearer few\r\n\r\n", parts=client.parts)
    status, fields, body = other.answer()
    assert (status, json.loads(body)["code"]) == (503, "subject-in-flight") and fields["retry-after"] in "123"
    other = Client(b"GET / HTTP/1.1\r\nHost: my-ep.a\r\nAuthorization: Bearer mine\r\n\r\n", parts=client.parts)
    assert len(client.tunnel.opened) == 2
    client.tunnel.opened[0].respond(OK2 + b"ok", False)
    assert client.answer()[0] == 200
    client.ask(b"x-pico-authorization: few")
    assert len(client.tunnel.opened) == 3
    client.respond(OK2 + b"ok")
    client.taken()
    found = []
    for _ in range(2):
        client.ask(b"x-pico-authorization: few", endpoint=b"nobody")
        status, fields, body = client.answer()
        found.append((status, json.loads(body)["code"]))
    assert found == [(502, "no-upstreams"), (429, "subject-rate")] and fields["retry-after"] == "1"


@pytest.mark.usefixtures("certificate")
@pytest.mark.parametrize(
    ("fields", "outcome"),
    [
        ((), "machine"),
        ((b"Authorization: Basic s3cr3t",), "machine"),
        ((b"Authorization: Bearer foreign",), "machine"),
        ((b"x-pico-authorization: mine",), "mine"),
        ((b"Authorization: Bearer mine",), "mine"),
        ((b"Authorization: Bearer old",), "expired"),
        ((b"x-pico-authorization: foreign",), "issuer"),
    ],
)
def test_a_client_certificate(fields: tuple[bytes, ...], outcome: str) -> None:
    """It counts when nothing else is shown to us; an Authorization that is not ours goes to the service."""
    client = Guarded()
    client.ask(*fields)
    if client.tunnel.opened:
        client.respond(OK2 + b"ok")
        (line,) = client.log
        assert line["subject"] == outcome
        assert (b"Authorization" in client.call.first) is (bool(fields) and outcome == "machine")
    else:
        assert client.refused() == (401, outcome)


class TestWebSocket:
    """A script in a browser can set no field for a WebSocket but the subprotocols that it offers."""

    def offer(self, *protocols: bytes) -> Guarded:
        client = Guarded()
        client.ask(b"Connection: Upgrade", b"Upgrade: x", *(b"Sec-WebSocket-Protocol: " + one for one in protocols))
        return client

    def test_a_token(self) -> None:
        """It lets the client in, and the service is offered what is left."""
        client = self.offer(b"chat, pico.bearer.mine", b"pico,sup")
        head = client.call.first
        assert b"Sec-WebSocket-Protocol: chat, sup\r\n" in head and b"mine" not in head
        client.respond(SWITCH[:-2] + b"Sec-WebSocket-Protocol: sup\r\n\r\n", more=True)
        assert client.answer()[1]["sec-websocket-protocol"] == "sup"

    @pytest.mark.parametrize(("offered", "chosen"), [(b"pico, pico.bearer.mine", "pico"), (b"pico.bearer.mine", None)])
    def test_a_service_that_chooses_none(self, offered: bytes, chosen: str | None) -> None:
        """A client that offers `pico` sees it chosen; a token is never told back."""
        client = self.offer(offered)
        assert b"Sec-WebSocket-Protocol" not in client.call.first
        client.respond(SWITCH, more=True)
        assert client.answer()[1].get("sec-websocket-protocol") == chosen

    def test_a_wrong_one(self) -> None:
        """It is refused as elsewhere."""
        assert self.offer(b"pico.bearer.nobody").refused() == (401, "unknown")


class TestPreflight:
    """A browser asks, without a credential, what a script may send."""

    ASKS = (b"Origin: https://app.example", b"Access-Control-Request-Method: PUT")

    @pytest.mark.parametrize("endpoint", [b"my-ep", b"nobody"])
    def test_it_is_answered_here(self, endpoint: bytes) -> None:
        """All may send what they have a credential for, to all endpoints alike; no service sees the question."""
        client = Guarded()
        client.ask(*self.ASKS, b"X-Request-Id: r", line=b"OPTIONS /a", endpoint=endpoint)
        status, fields, body = client.answer()
        del fields["date"]
        assert (status, body) == (200, b"") and client.tunnel.opened == []
        assert fields == {
            "access-control-allow-origin": "*",
            "access-control-allow-methods": "*",
            "access-control-allow-headers": "*, authorization",
            "access-control-max-age": "600",
            "x-request-id": "r",
            "content-length": "0",
        }
        (line,) = client.log
        assert (line["status"], line["endpoint"]) == (200, "") and "subject" not in line

    def test_other_requests_are_none(self) -> None:
        """Whatever else has no credential is refused; an OPTIONS that has one goes to the service."""
        for fields, line in ((self.ASKS, b"GET /"), (self.ASKS[:1], b"OPTIONS /"), (self.ASKS[1:], b"OPTIONS /")):
            client = Guarded()
            client.ask(*fields, line=line)
            assert client.refused() == (401, "missing")
        client = Guarded()
        client.ask(*self.ASKS, b"x-pico-authorization: mine", line=b"OPTIONS /a")
        assert client.call.first.startswith(b"OPTIONS /a ")


class TestWaiting:
    """It takes a moment to find out who it is: a signature is checked beside the reactor."""

    def test_then_it_goes_on(self) -> None:
        """Nothing of the request is lost, however it comes meanwhile; the next one on the connection does not wait."""
        client = Guarded(slow=True)
        client.ask(b"x-pico-authorization: mine", b"Content-Length: 12", line=b"POST /", body=b"one-")
        client.send(b"two-")
        assert client.tunnel.opened == [] and client.taken() == b"" and not client.transport.reading
        client.gate.answer()
        client.clock.advance(0)
        client.send(b"more")
        assert bytes(client.call.sent).endswith(b"\r\n\r\none-two-more") and client.call.send_ended
        client.respond(OK2 + b"ok")
        assert client.answer()[0] == 200
        client.ask(b"x-pico-authorization: mine")
        assert len(client.tunnel.opened) == 2 and client.gate.waiting == []

    @pytest.mark.parametrize("ahead", [0, 5, 23])
    def test_with_its_trailers(self, ahead: int) -> None:
        """Those of its body are not lost either, whether they came before it was known who it is or behind that."""
        client = Guarded(slow=True)
        client.tunnel.capabilities = frozenset((TRAILERS,))
        body = b"2\r\nhi\r\n0\r\nX-T: 1\r\n\r\n"
        client.ask(b"x-pico-authorization: mine", b"Transfer-Encoding: chunked", line=b"POST /", body=body[:ahead])
        client.send(body[ahead:])
        client.gate.answer()
        client.clock.advance(0)
        assert client.call.sent.endswith(b"\r\n\r\nhi") and client.call.trailers == b"x-t: 1\r\n"

    def test_an_address_that_asks_too_often(self) -> None:
        """Its request counts once, however long the look at its credential takes; for the next one nobody looks."""
        client = Guarded(slow=True)
        client.parts.node.ceilings.requests_per_address = 1 / 60
        client.ask(b"x-pico-authorization: mine")
        client.gate.answer()
        assert len(client.tunnel.opened) == 1
        client.respond(OK2 + b"ok")
        client.taken()
        client.ask(b"x-pico-authorization: guessed")
        assert client.answer()[0] == 429 and client.gate.waiting == []

    @pytest.mark.parametrize("token", [b"old", b"nobody"])
    def test_then_it_is_refused(self, token: bytes) -> None:
        """And the connection serves the next one, when the request was whole."""
        client = Guarded(slow=True)
        client.ask(b"x-pico-authorization: " + token)
        client.gate.answer()
        assert client.refused()[0] == 401
        client.ask(b"x-pico-authorization: mine")
        client.gate.answer()
        assert len(client.tunnel.opened) == 1

    def test_pipelined_requests_wait_in_their_order(self) -> None:
        """What comes behind a request that waits is neither lost nor overtakes it."""
        client = Guarded(slow=True)
        request = b"GET /%d HTTP/1.1\r\nHost: my-ep.example\r\nx-pico-authorization: mine\r\n\r\n"
        client.send(request % 1 + request % 2)
        client.gate.answer()
        client.respond(OK2 + b"ok")
        client.respond(OK2 + b"ok")
        assert [call.first[:6] for call in client.tunnel.opened] == [b"GET /1", b"GET /2"]

    @pytest.mark.parametrize("first", [b"nobody", b"other"])
    def test_a_pipelined_request_waits_with_its_body(self, first: bytes) -> None:
        """The one before it is answered at once when it is known who sent that; the body of this one is not lost."""
        client = Guarded(slow=True)
        head = b"POST / HTTP/1.1\r\nHost: my-ep.example\r\nx-pico-authorization: %b\r\nContent-Length: %d\r\n\r\n"
        client.send(head % (first, 0) + head % (b"mine", 8) + b"one-")
        client.gate.answer()
        assert client.answer()[0] in (401, 403) and not client.transport.reading
        client.send(b"two-")
        client.gate.answer()
        client.clock.advance(0)
        assert bytes(client.call.sent).endswith(b"\r\n\r\none-two-") and client.call.send_ended

    def test_a_body_is_bounded(self) -> None:
        """The client is not read meanwhile: no more is held than one read of it."""
        client = Guarded(slow=True)
        client.ask(b"x-pico-authorization: mine", b"Content-Length: 9999999", line=b"POST /")
        for _ in range(20):
            client.send(b"x" * 64 * 1024)
        assert not client.transport.reading and client.channel._requests.buffered <= READ_AHEAD_BYTES
        client.gate.answer()
        client.clock.advance(0)
        assert len(client.call.sent) > 20 * 64 * 1024

    def test_a_client_that_leaves(self) -> None:
        """Nobody waits for it any more, and the log says that it left."""
        client = Guarded(slow=True)
        client.ask(b"x-pico-authorization: mine")
        ((_, waits),) = client.gate.waiting
        client.transport.receive_reset()
        assert waits.called and client.tunnel.opened == []
        (line,) = client.log
        assert (line["status"], line["error"]) == (499, "client-gone") and client.parts.proxy.serving() == 0

    def test_it_has_a_deadline(self) -> None:
        """Whoever is never known is told to come again, and gets in when it is known then."""
        client = Guarded(slow=True)
        client.ask(b"x-pico-authorization: mine")
        client.pass_time(IDENTIFY_S + 1)
        assert client.refused() == (503, "busy")
        client.gate.slow = False
        client.ask(b"x-pico-authorization: mine")
        assert len(client.tunnel.opened) == 1
