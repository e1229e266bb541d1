"""Agents that are revoked: their sessions end, what is in progress on them within the grace period, and none begins."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.internet.task import Clock

from pico_twisted.config import AuthConfig, UpstreamConfig
from pico_twisted.core.access.credentials_file import hash_of
from pico_twisted.core.access.revocations import Meant
from pico_twisted.core.protocol_limits import CLOSE_POLICY
from pico_twisted.core.rpc.frames import DRAIN, HTTP, RESPONSE
from tests.doubles.node import MemoryNode, pass_time
from tests.doubles.service import Receiver
from tests.net.tunnel.tunnel_peers import GET
from tests.net.tunnel.websockets import KEY, RawPeer
from tests.peers.websocket import CLOSE, handshake_request

PATH = "/pico/v1/listener/my-ep"


class World:
    """A node, whose agents show the tokens `ci` and `app`, or none."""

    def __init__(self, folder: Path, *, guarded: bool) -> None:
        lines = [f"{name} sha256:{hash_of(name.encode()).hex()} listen:*\n" for name in ("ci", "app")]
        (folder / "tokens").write_text("".join(lines))
        auth = AuthConfig(tokens_file=str(folder / "tokens")) if guarded else AuthConfig()
        self.parts = MemoryNode(Clock(), upstream=UpstreamConfig(auth=auth))
        self.shared = self.parts.node.membership.revocations

    def agent(self, token: str = "ci", agent_id: str = "agent-1") -> RawPeer:
        """An agent with its session."""
        peer = RawPeer(self.parts, headers=[("x-pico-agent-id", agent_id), ("Authorization", f"Bearer {token}")])
        peer.received()
        return peer

    def refused(self, token: str = "ci", agent_id: str = "agent-1") -> bytes:
        """The answer to an agent's handshake."""
        peer = RawPeer(self.parts, shake=False)
        fields = [("x-pico-agent-id", agent_id), ("Authorization", f"Bearer {token}")]
        peer.send_raw(handshake_request(PATH, "node", KEY, ["pico.v2"], fields))
        return bytes(peer.transport.taken)

    @property
    def sessions(self) -> int:
        """That are registered."""
        return len(self.parts.cluster.registry)


def ended(peer: RawPeer) -> str:
    """Why the node closed a session, as its agent is told; "" when it did not."""
    for opcode, payload in peer.received():
        if opcode == CLOSE:
            assert int.from_bytes(payload[:2]) == CLOSE_POLICY
            return payload[2:].decode()
    return ""


@pytest.fixture(params=["guarded", "open"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """A node whose upstream port authenticates, and one whose port does not."""
    world = World(tmp_path, guarded=request.param == "guarded")
    yield world
    world.parts.stop()


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[World]:
    """The first of them."""
    world = World(tmp_path, guarded=True)
    yield world
    world.parts.stop()


def test_a_subject(guarded: World) -> None:
    """All sessions of a subject end at once with the reason, and it gets no other; those of others stay."""
    mine, other = [guarded.agent(agent_id="agent-1"), guarded.agent(agent_id="agent-2")], guarded.agent("app", "three")
    guarded.shared.revoke(Meant.NAME, "ci", "op")
    assert guarded.sessions == 1
    for peer in mine:
        assert ended(peer) == "the credential was revoked: ask for a new one"
    assert ended(other) == ""
    answer = guarded.refused()
    assert answer.startswith(b"HTTP/1.1 401 ") and b"n1; revoked" in answer
    guarded.shared.undo(Meant.NAME, "ci", "op")
    guarded.agent()
    assert guarded.sessions == 2


def test_an_agent(world: World) -> None:
    """An agent that is revoked by its ID is refused whatever it shows, also where nothing is asked for."""
    mine, other = world.agent(), world.agent(agent_id="agent-2")
    world.shared.revoke(Meant.AGENT, "agent-1", "op")
    assert world.sessions == 1 and ended(other) == "" and "by its ID" in ended(mine)
    answer = world.refused("app")
    assert answer.startswith(b"HTTP/1.1 401 ") and b"n1; revoked" in answer


def test_calls_in_progress(guarded: World) -> None:
    """No call begins on the session, whose agent is told to drain; those in progress go on, until the last is over."""
    peer = guarded.agent()
    tunnel = peer.tunnel
    call = Receiver().open(tunnel, HTTP, GET).call
    peer.received()
    guarded.shared.revoke(Meant.NAME, "ci", "op")
    assert guarded.sessions == 0 and tunnel.draining
    (drain,) = peer.received_rpc()
    peer.send(DRAIN, drain[1], RESPONSE)
    pass_time(guarded.parts.clock, 5)
    assert ended(peer) == ""
    peer.send(HTTP, call.id, RESPONSE, b"HTTP/1.1 204 No Content\r\n\r\n")
    pass_time(guarded.parts.clock, 1)
    assert ended(peer) == "the credential was revoked: ask for a new one"
