"""Clients that are revoked: their next request is refused, and what is in progress ends with the grace period."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.internet.task import Clock

from pico_twisted.config import AuthConfig, NodeConfig
from pico_twisted.core.access.credentials_file import hash_of
from pico_twisted.core.access.revocations import Meant
from tests.doubles.node import MemoryNode
from tests.doubles.tunnel import FakeTunnel
from tests.net.doubles import OK2, SWITCH, register
from tests.net.proxy.proxy_client import Client

GRACE_S = NodeConfig().grace_period
GET = b"GET /a HTTP/1.1\r\nHost: my-ep.example.com\r\nx-pico-authorization: %b\r\n%b\r\n"
UPGRADE = b"Connection: Upgrade\r\nUpgrade: x\r\n"


class World:
    """A node whose clients show tokens, `ci` and `app`, with an agent."""

    def __init__(self, folder: Path) -> None:
        lines = [f"{name} sha256:{hash_of(name.encode()).hex()} connect:*\n" for name in ("ci", "app")]
        (folder / "tokens").write_text("".join(lines))
        self.parts = MemoryNode(Clock(), auth=AuthConfig(tokens_file=str(folder / "tokens")))
        self.tunnel = register(self.parts, FakeTunnel())
        self.shared = self.parts.node.membership.revocations

    def client(self, token: bytes = b"ci", fields: bytes = b"") -> Client:
        """A client that has sent a request."""
        client = Client(parts=self.parts)
        client.tunnel = self.tunnel
        client.send(GET % (token, fields))
        return client


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """As above."""
    world = World(tmp_path)
    yield world
    world.parts.stop()


def test_the_next_request_is_refused(world: World) -> None:
    """On a connection that is kept, and on new ones; others notice nothing, and so does who is taken back."""
    client, other = world.client(), world.client(b"app")
    for call in world.tunnel.opened:
        call.respond(OK2 + b"ok", False)
    world.parts.clock.advance(0)
    assert client.answer()[0] == other.answer()[0] == 200
    world.shared.revoke(Meant.NAME, "ci", "op")
    client.send(GET % (b"ci", b""))
    status, fields, _ = client.answer()
    assert (status, fields["x-pico-error"]) == (401, "n1; revoked")
    assert world.client().answer()[0] == 401
    calls = len(world.tunnel.opened)
    world.client(b"app")
    assert len(world.tunnel.opened) == calls + 1
    world.shared.undo(Meant.NAME, "ci", "op")
    client.send(GET % (b"ci", b""))
    assert len(world.tunnel.opened) == calls + 2


@pytest.mark.parametrize("fields", [UPGRADE, UPGRADE + b"Cookie: a=1\r\nCookie: b=2\r\n", b""])
def test_what_is_in_progress_ends_with_the_grace_period(world: World, fields: bytes) -> None:
    """An upgraded connection and an endless response go on for the grace period, and are cut then, whatever fields the
    client repeats. Those of others go on."""
    client, other = world.client(fields=fields), world.client(b"app", fields)
    for call in world.tunnel.opened:
        call.respond(SWITCH if fields else b"HTTP/1.1 200 OK\r\n\r\n", True)
    world.parts.clock.advance(0)
    world.shared.revoke(Meant.NAME, "ci", "op")
    for _ in range(int(GRACE_S) - 1):
        client.pass_time(1)
        for call in world.tunnel.opened:
            call.respond(b"x", True)
    assert client.transport.connected
    client.pass_time(2)
    assert not client.transport.connected and other.transport.connected
    assert [line["error"] for line in client.log] == ["revoked"]


def test_what_is_taken_back_is_not_cut(world: World) -> None:
    """Whoever is let in again within the grace period keeps what is in progress."""
    client = world.client(fields=UPGRADE)
    client.respond(SWITCH, True)
    world.shared.revoke(Meant.NAME, "ci", "op")
    client.pass_time(GRACE_S / 2)
    world.shared.undo(Meant.NAME, "ci", "op")
    client.pass_time(GRACE_S)
    assert client.transport.connected
