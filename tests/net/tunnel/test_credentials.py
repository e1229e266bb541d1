"""The credentials of agents: who is let in, to what, and until when."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import pytest
from twisted.internet.task import Clock

from pico_twisted.config import EndpointLimitsConfig
from pico_twisted.core.access.subject import Reason, Refused
from pico_twisted.core.rpc.credential import MAX_CREDENTIAL_BYTES
from pico_twisted.core.rpc.frames import CREDENTIAL, DRAIN, HTTP, MORE, RESET, RESPONSE
from pico_twisted.net.tunnel import HANDSHAKE_TIMEOUT_S
from pico_twisted.net.tunnel.credentials import LOOK_TURNS
from pico_twisted.net.tunnel.interfaces import ITunnel
from pico_twisted.net.tunnel.server import MAX_SHAKING, STALLED_S
from tests.doubles.gate import ToldGate, subject
from tests.doubles.node import MemoryNode, pass_time
from tests.doubles.service import Receiver
from tests.net.tunnel.tunnel_peers import GET
from tests.net.tunnel.websockets import KEY, RawPeer
from tests.peers.websocket import handshake_request

OK = b"HTTP/1.1 204 No Content\r\n\r\n"
SUBJECTS = {
    b"acme": subject("acme", "listen:my-*"),
    b"few": subject("few", "listen:my-ep;sessions=1", "listen:other-*"),
    b"other": subject("other", "listen:other-*", "connect:*"),
}


class Guarded:
    """A node whose upstream port authenticates."""

    def __init__(self, **gate: Any) -> None:
        self.node = MemoryNode(Clock())
        self.gate = ToldGate(SUBJECTS, **gate)
        self.credentials = self.node.upstream.credentials
        self.credentials.gate = self.gate

    def ask(self, *fields: tuple[str, str], path: str = "/pico/v1/listener/my-ep") -> RawPeer:
        """Send a handshake with these fields."""
        peer = RawPeer(self.node, shake=False)
        peer.send_raw(handshake_request(path, "node", KEY, ["pico.v2"], fields))
        return peer

    def agent(self, token: str = "acme", agent_id: str = "agent-1", slot: str = "0") -> RawPeer:
        """An agent with its session."""
        fields = [("x-pico-agent-id", agent_id), ("x-pico-slot", slot), ("Authorization", f"Bearer {token}")]
        peer = RawPeer(self.node, headers=fields)
        peer.received()
        return peer

    def pass_time(self, seconds: float) -> None:
        """Let it pass."""
        pass_time(self.node.clock, seconds)


def held_by(name: str) -> Callable[[ITunnel], bool]:
    """Says of a session whether it is a subject's."""
    return lambda tunnel: tunnel.subject is not None and tunnel.subject.name == name


def status(peer: RawPeer) -> int:
    """Of the answer; 0 while there is none."""
    return int(bytes(peer.transport.taken)[9:12] or 0)


@pytest.fixture
def guarded() -> Guarded:
    """A node whose upstream port authenticates."""
    return Guarded()


@pytest.mark.parametrize(
    ("fields", "code", "name"),
    [
        ([], 401, "missing"),
        ([("Authorization", "Bearer wrong")], 401, "unknown"),
        ([("Authorization", "Basic acme")], 401, "unknown"),
        ([("Authorization", "acme")], 401, "unknown"),
        ([("Authorization", "Bearer acme"), ("Authorization", "Bearer acme")], 401, "unknown"),
        ([("Authorization", "Bearer other")], 403, "not-allowed"),
        ([("Authorization", "bEARER  acme ")], 101, ""),
    ],
)
def test_who_is_let_in(guarded: Guarded, fields: list[tuple[str, str]], code: int, name: str) -> None:
    """A refusal says what to do, in the words of HTTP too, and not what was shown."""
    peer = guarded.ask(*fields)
    answer = bytes(peer.transport.taken)
    assert status(peer) == code
    if code == 101:
        assert peer.tunnel.subject == SUBJECTS[b"acme"]
        return
    assert f"x-pico-error: n1; {name}\r\n".encode() in answer and b"wrong" not in answer and b'"error"' in answer
    assert b"\r\nwww-authenticate: Bearer " in answer
    assert [reason.value for reason, _ in guarded.gate.refusals] == [name]


@pytest.mark.parametrize("path", ["my-ep", "other-ep", "-", "served"])
@pytest.mark.parametrize("draining", [False, True])
def test_a_stranger_learns_nothing(path: str, draining: bool) -> None:
    """The answer is the same whatever is asked for: an endpoint that is served, or none; and while the node drains."""
    guarded = Guarded()
    guarded.agent()
    if draining:
        guarded.node.cluster.start_draining()
    answers = {
        bytes(guarded.ask(*fields, path=f"/pico/v1/listener/{name}").transport.taken)
        for name in (path, "my-ep")
        for fields in ([], [("x-pico-slot", "a b")], [("x-pico-elsewhere", "n1")])
    }
    assert len(answers) == 1 and answers.pop().startswith(b"HTTP/1.1 401 ")


def test_the_endpoint_is_decided_once(guarded: Guarded) -> None:
    """In whatever case it is asked for, and with whatever behind it, the same one is allowed and registered."""
    peer = guarded.ask(("Authorization", "Bearer acme"), path="/pico/v1/listener/MY-Ep?endpoint=other-ep")
    assert peer.tunnel.endpoint == "my-ep" and guarded.node.cluster.registry.counts() == {"my-ep": 1}
    for path in ("/pico/v1/listener/my-ep/../other-ep", "/pico/v1/listener/my%2Dep", "/pico/v1/listener/my-ep\x00"):
        assert status(guarded.ask(("Authorization", "Bearer acme"), path=path)) == 400


@pytest.mark.parametrize("reason", [Reason.KEYS_AWAY, Reason.BUSY])
def test_what_helps_later_says_when(guarded: Guarded, reason: Reason) -> None:
    """Keys that cannot be fetched, and too much to do, are no fault of the agent's."""
    guarded.gate.subjects[b"jwt"] = Refused(reason=reason, message="try again")
    peer = guarded.ask(("Authorization", "Bearer jwt"))
    assert status(peer) == 503 and b"\r\nretry-after: " in peer.transport.taken


class TestWhileASignatureIsChecked:
    """Nobody is known at once."""

    def test_frames_that_came_meanwhile_are_taken(self) -> None:
        """Nothing is answered before it is known who asks."""
        guarded = Guarded(slow=True)
        peer = guarded.ask(("Authorization", "Bearer acme"))
        peer.send(DRAIN, 1)
        assert status(peer) == 0
        guarded.gate.answer()
        assert status(peer) == 101
        (held,) = guarded.node.cluster.registry.held("my-ep")
        assert held.resigned

    def test_the_deadline_of_the_handshake_goes_on(self) -> None:
        """Who is never known is dropped in time, and no answer later disturbs anybody."""
        guarded = Guarded(slow=True)
        peer = guarded.ask(("Authorization", "Bearer acme"))
        guarded.pass_time(HANDSHAKE_TIMEOUT_S + 1)
        assert peer.transport.over and not guarded.node.upstream.connections
        assert all(answer.called for _, answer in guarded.gate.waiting), "nobody waits for it any more"

    def test_who_leaves_is_forgotten(self) -> None:
        """The gate need not answer for it."""
        guarded = Guarded(slow=True)
        peer = guarded.ask(("Authorization", "Bearer acme"))
        peer.transport.receive_fin()
        assert not guarded.node.upstream.connections and not guarded.node.upstream.shaking
        assert [answer.called for _, answer in guarded.gate.waiting] == [True]

    def test_what_comes_meanwhile_is_bounded(self) -> None:
        """A peer that sends on and on is refused."""
        guarded = Guarded(slow=True)
        peer = guarded.ask(("Authorization", "Bearer acme"))
        for _ in range(100):
            peer.send_raw(bytes(1024))
        assert status(peer) == 400 and not guarded.node.cluster.registry.counts()


def test_stalled_handshakes_make_room(guarded: Guarded) -> None:
    """Thousands of them cost neither memory nor the sessions of agents; one that has just begun is left alone."""
    stalled = [RawPeer(guarded.node, shake=False) for _ in range(MAX_SHAKING)]
    guarded.agent(slot="0")
    assert not any(peer.transport.over for peer in stalled)
    guarded.pass_time(STALLED_S + 0.1)
    guarded.agent(slot="1")
    guarded.pass_time(0.1)
    assert [peer.transport.over for peer in stalled[:2]] == [True, False]
    assert guarded.node.cluster.registry.counts() == {"my-ep": 2}


# What a session is, and whose


def test_another_subject_takes_no_place(guarded: Guarded) -> None:
    """The ID and the slot of an agent are its subject's: others are told to choose another ID, and it serves on."""
    guarded.gate.subjects[b"rival"] = subject("rival", "listen:*")
    first = guarded.agent()
    fields = [("x-pico-agent-id", "agent-1"), ("x-pico-slot", "0"), ("Authorization", "Bearer rival")]
    peer = guarded.ask(*fields)
    assert status(peer) == 409 and b"x-pico-error: n1; agent-id-taken" in peer.transport.taken
    assert not first.closed and guarded.node.cluster.registry.counts() == {"my-ep": 1}
    guarded.agent()
    assert first.closed and first.closed[0].code == 1000, "but its own subject does"


def test_another_subject_is_told_no_names(guarded: Guarded) -> None:
    """Whoever may serve an endpoint, too, hears that somebody does: neither an ID nor an address of another subject."""
    guarded.gate.subjects[b"rival"] = subject("rival", "listen:*")
    guarded.agent()
    answer = RawPeer(guarded.node, headers=[("x-pico-agent-id", "agent-2"), ("Authorization", "Bearer acme")]).answer
    assert b"x-pico-shared-with: agent-1 (192.0.2.7, 0 s)" in answer
    answer = RawPeer(guarded.node, headers=[("x-pico-agent-id", "agent-1"), ("Authorization", "Bearer rival")]).answer
    assert b"x-pico-shared-with: an agent (at this node)" in answer


def test_a_rule_bounds_the_sessions(guarded: Guarded) -> None:
    """Those under the same rule count, of the subject alone; one that takes the place of another is none more."""
    guarded.agent("acme", "agent-0")
    first = guarded.agent("few")
    again = guarded.ask(("x-pico-agent-id", "agent-1"), ("x-pico-slot", "1"), ("Authorization", "Bearer few"))
    assert status(again) == 503 and b"x-pico-error: n1; subject-sessions" in again.transport.taken
    assert b"\r\nretry-after: " in again.transport.taken
    assert status(guarded.ask(("Authorization", "Bearer few"), path="/pico/v1/listener/other-1")) == 101
    second = guarded.agent("few")
    assert first.closed
    second.transport.receive_fin()
    guarded.agent("few", "agent-2")


# Its end


def ends(guarded: Guarded, how: str) -> None:
    """Let the credential of `acme` end, and a second pass."""
    if how == "expired":
        guarded.gate.ended["acme"] = Reason.EXPIRED
    elif how == "gone":
        del guarded.gate.subjects[b"acme"]
        guarded.gate.epoch = object()
    elif how == "not allowed":
        guarded.gate.subjects[b"acme"] = subject("acme", "listen:your-*", expires_at=1.0)
        guarded.gate.epoch = object()
    else:
        guarded.credentials.end(held_by("acme"), "revoked")
    guarded.pass_time(1.3)


def test_others_that_end_hide_no_session(guarded: Guarded) -> None:
    """However many end meanwhile: whose credential is over is ended in its time, wherever it stands among them."""
    guarded.gate.subjects[b"short"] = subject("short", "listen:my-*", expires_at=1.0)
    others = [guarded.agent(agent_id=f"other-{number}") for number in range(16 * LOOK_TURNS)]
    peers = [guarded.agent("short", f"agent-{number}") for number in range(LOOK_TURNS)]
    guarded.pass_time(0.3)
    guarded.gate.ended["short"] = Reason.EXPIRED
    for _ in range(3 * LOOK_TURNS):
        for _ in range(LOOK_TURNS - 1):
            others.pop(0).transport.receive_fin()
        guarded.node.clock.advance(0.05)
    assert all(peer.closed for peer in peers) and others


HOW = ["expired", "gone", "not allowed", "revoked"]


@pytest.mark.parametrize("how", HOW)
def test_a_session_ends_with_its_credential(how: str) -> None:
    """An idle one at once; its agent is told why, and others are left alone."""
    guarded = Guarded()
    guarded.gate.subjects[b"acme"] = subject("acme", "listen:my-*", expires_at=1.0)
    peer, other = guarded.agent(), guarded.agent("few", "agent-2")
    guarded.pass_time(2.0)
    assert not peer.closed
    ends(guarded, how)
    (closed,) = peer.closed
    assert closed.by_us and closed.code == 1008 and closed.reason
    assert not other.closed and guarded.node.cluster.registry.counts() == {"my-ep": 1}


@pytest.mark.parametrize("how", HOW)
def test_calls_in_progress_finish(how: str) -> None:
    """No call begins on a session that ends, and its agent is told to look for a successor; then it is closed."""
    guarded = Guarded()
    guarded.gate.subjects[b"acme"] = subject("acme", "listen:my-*", expires_at=1.0)
    peer = guarded.agent()
    call = Receiver().open(peer.tunnel, HTTP, GET)
    peer.received()
    ends(guarded, how)
    assert not guarded.node.cluster.registry.counts() and not peer.closed
    (drain,) = [frame for frame in peer.received_rpc() if frame[0] == DRAIN]
    guarded.pass_time(5.0)
    assert not peer.closed
    peer.send(HTTP, call.call.id, RESPONSE, OK)
    peer.send(DRAIN, drain[1], RESPONSE)
    guarded.pass_time(0.3)
    assert call.ended and [closed.code for closed in peer.closed] == [1008]


def test_calls_that_take_too_long_are_cut(guarded: Guarded) -> None:
    """A session that ends lasts no longer than the grace period."""
    peer = guarded.agent()
    call = Receiver().open(peer.tunnel, HTTP, GET)
    guarded.credentials.end(lambda _: True, "revoked")
    grace_s = guarded.node.node.config.grace_period
    for _ in range(int(grace_s) - 1):
        guarded.pass_time(1.0)
        peer.send(1, int(guarded.node.clock.seconds() * 10) + 10)  # it lives
    assert not peer.closed
    guarded.pass_time(2.0)
    assert peer.closed and call.was_lost


# A new credential on the session


def show(peer: RawPeer, token: bytes, call_id: int = 1) -> list[tuple[int, bytes]]:
    """Show a token. Returns the flags and payloads of the answer."""
    peer.received()
    peer.send(CREDENTIAL, call_id, 0, token)
    return [(flags, payload) for kind, _, flags, payload in peer.received_rpc() if kind == CREDENTIAL]


@pytest.mark.parametrize("slow", [False, True])
def test_a_new_credential_holds_the_session(slow: bool) -> None:
    """It lives on when the old one ends, under the new rules, and the agent hears until when."""
    guarded = Guarded()
    peer = guarded.agent()
    guarded.gate.subjects[b"next"] = subject("next", "listen:my-*", expires_at=2e9)
    guarded.gate.slow = slow
    answer = show(peer, b"next")
    if slow:
        assert answer == []
        guarded.gate.answer()
        answer = [(flags, payload) for _, _, flags, payload in peer.received_rpc()]
    assert answer == [(RESPONSE, b"accepted 2000000000")]
    ends(guarded, "gone")
    assert not peer.closed and peer.tunnel.subject.name == "next"
    guarded.credentials.end(held_by("next"), "revoked")
    assert peer.closed


@pytest.mark.parametrize(
    ("token", "words"),
    [(b"wrong", b"not known"), (b"other", b"listen:my-ep"), (b"few", b"many sessions"), (b"a\nb", b"not known")],
)
def test_a_refused_one_changes_nothing(guarded: Guarded, token: bytes, words: bytes) -> None:
    """The session goes on with the one that it has."""
    guarded.agent("few", "agent-2")
    peer = guarded.agent()
    ((flags, answer),) = show(peer, token)
    assert flags == RESPONSE and answer.startswith(b"refused ") and words in answer
    assert peer.tunnel.subject.name == "acme" and not peer.closed
    assert len(guarded.gate.refusals) == (token != b"few"), "of limits the ceilings keep count"


def test_one_that_comes_too_late_is_refused(guarded: Guarded) -> None:
    """A session that ends goes on ending."""
    peer = guarded.agent()
    Receiver().open(peer.tunnel, HTTP, GET)
    guarded.credentials.end(lambda _: True, "revoked")
    ((_, answer),) = show(peer, b"acme")
    assert answer == b"refused it came too late: this session ends"
    assert not guarded.node.cluster.registry.counts()


def test_one_at_a_time(guarded: Guarded) -> None:
    """An agent that shows one after the other does not make the node check thousands of signatures."""
    peer = guarded.agent()
    guarded.gate.slow = True
    assert show(peer, b"acme", 1) == []
    assert show(peer, b"acme", 2) == [(RESPONSE | RESET, b"refused busy")]
    guarded.gate.answer()
    assert show(peer, b"acme", 3) == [(RESPONSE | RESET, b"refused busy")]
    guarded.pass_time(1.1)
    assert show(peer, b"acme", 4) == [] and len(guarded.gate.waiting) == 1
    peer.transport.receive_reset()
    assert guarded.gate.waiting[0][1].called, "nobody waits for it any more"


@pytest.mark.parametrize(("size", "flags"), [(MAX_CREDENTIAL_BYTES + 1, 0), (10, MORE)])
def test_a_credential_is_one_small_frame(guarded: Guarded, size: int, flags: int) -> None:
    """Anything else resets the call, and only that."""
    peer = guarded.agent()
    peer.received()
    peer.send(CREDENTIAL, 1, flags, b"x" * size)
    ((kind, _, answer, payload),) = peer.received_rpc()
    assert (kind, answer) == (CREDENTIAL, RESPONSE | RESET) and payload.startswith(b"protocol ")
    assert not peer.closed


def test_a_port_that_does_not_authenticate_takes_any() -> None:
    """An agent with a token need not know whether its node looks at it."""
    guarded = Guarded(enabled=False)
    assert show(RawPeer(guarded.node), b"whatever") == [(RESPONSE, b"accepted")]


def test_the_agent_hears_until_when(guarded: Guarded) -> None:
    """In the answer to its handshake, when that is known."""
    guarded.gate.subjects[b"jwt"] = subject("jwt", "listen:my-ep", expires_at=1234567890.4)
    answer = RawPeer(guarded.node, headers=[("Authorization", "Bearer jwt")]).answer
    assert b"x-pico-credential-until: 1234567890\r\n" in answer
    assert b"credential-until" not in RawPeer(guarded.node, headers=[("Authorization", "Bearer acme")]).answer


def test_subjects_are_no_longer_remembered_than_their_sessions(guarded: Guarded) -> None:
    """Nothing is left of thousands that come and go."""
    for number in range(50):
        name = f"one-{number}"
        guarded.gate.subjects[name.encode()] = subject(name, "listen:my-*")
        peer = guarded.agent(name, name)
        show(peer, b"acme")
        peer.transport.receive_fin()
    assert not list(guarded.credentials.sessions())
    held = (guarded.credentials._sessions, guarded.credentials._ending, guarded.credentials._showing)
    assert held == ({}, {}, {})


@pytest.mark.parametrize("enabled", [False, True])
def test_an_endpoint_bounds_the_sessions(enabled: bool) -> None:
    """What operators say of an endpoint counts for all of its agents, whether they authenticate or not."""
    guarded = Guarded(enabled=enabled)
    node = guarded.node.node
    limits = (EndpointLimitsConfig(match="my-*", sessions=1),)
    node.ceilings.configure(attrs.evolve(node.config, endpoints=limits))
    first = guarded.agent()
    peer = guarded.ask(("x-pico-agent-id", "agent-2"), ("Authorization", "Bearer few"))
    assert status(peer) == 503 and b"x-pico-error: n1; endpoint-sessions" in peer.transport.taken
    guarded.agent()
    assert first.closed, "its own successor is not one more"


@pytest.mark.parametrize("most", [1, 3])
@pytest.mark.parametrize("by_rule", [False, True])
def test_sessions_that_are_open_count_under_other_limits(guarded: Guarded, by_rule: bool, most: int) -> None:
    """After a reload nobody gets another one while as many are open as there may be, whichever of them end first."""
    peers = [guarded.agent(agent_id=f"agent-{number}") for number in range(4)]
    guarded.pass_time(0.3)
    if by_rule:
        guarded.gate.subjects[b"acme"] = subject("acme", f"listen:my-*;sessions={most}")
        guarded.gate.epoch = object()
    else:
        node = guarded.node.node
        node.ceilings.configure(
            attrs.evolve(node.config, endpoints=(EndpointLimitsConfig(match="my-*", sessions=most),))
        )
    guarded.pass_time(0.3)
    for left in range(4, most - 1, -1):
        assert status(guarded.ask(("x-pico-agent-id", "new"), ("Authorization", "Bearer acme"))) == 503, left
        peers.pop(0).transport.receive_fin()
    assert status(guarded.ask(("x-pico-agent-id", "new"), ("Authorization", "Bearer acme"))) == 101
