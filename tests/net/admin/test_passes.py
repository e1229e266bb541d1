"""Nodes that ask each other for their operators: who asks is known at the other node too, and gets nothing more."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence

import attrs
import pytest

from pico_twisted.core.access.rules import Action
from pico_twisted.core.links.node_pass import LASTS_S, NodePass
from pico_twisted.net.admin.entrance import AdminAccess
from pico_twisted.net.admin.operators import Operator
from pico_twisted.net.admin.passes import NodePasses
from pico_twisted.net.admin.shapes.paths import RELOAD_PATH
from tests.doubles.gate import ToldGate, subject
from tests.net.admin.admin_fakes import Serve, Status, access, node_app
from tests.net.in_reactor import in_reactor

SECRET, OLD = "a secret of the cluster", "the secret before it"
KNOWN = {b"near-reader": subject("reader", "admin:read"), b"near-root": subject("root", "admin:operate")}
READER = {"authorization": "Bearer near-reader"}


class Two:
    """Node n1, which is asked, and n2, whose tokens are others."""

    def __init__(self, serve: Serve, near: AdminAccess, far: AdminAccess) -> None:
        self.status = Status("n1")
        self.near = serve(node_app(self.status, near))
        self.far = serve(node_app(Status("n2"), far))
        self.status.urls["n2"] = self.far.url

    async def ask(self, path: str, fields: dict[str, str]) -> tuple[int, str]:
        code, _, body = await self.near.ask(path, headers=fields)
        return code, body.decode()


def admits(name: str, secrets: Sequence[str] = (SECRET,), *, enabled: bool = True) -> AdminAccess:
    """Who may use a node's port: n1 knows two people, n2 nobody."""
    return access(ToldGate(KNOWN if name == "n1" else {}, enabled=enabled), name=name, secrets=secrets)


@pytest.mark.parametrize("secrets", [(SECRET,), (OLD, SECRET), (SECRET, OLD)])
@in_reactor
async def test_a_reader_is_one_everywhere(secrets: tuple[str, ...], serve: Serve) -> None:
    """The other node takes this one's word, with any secret that both have, and shows all that readers see."""
    two = Two(serve, admits("n1"), admits("n2", secrets))
    code, body = await two.ask("/status/cluster/nodes/local?forward=n2", READER)
    assert (code, json.loads(body)["id"]) == (200, "n2")
    code, body = await two.ask("/status/cluster/agents", READER)
    assert code == 200


@in_reactor
async def test_a_stranger_is_none_anywhere(serve: Serve) -> None:
    """And the other node is not even asked."""
    two = Two(serve, admits("n1"), admits("n2"))
    code, _ = await two.ask("/status/cluster/nodes?forward=n2", {})
    assert code == 401 and not two.far.site.open


@pytest.mark.parametrize(
    ("near", "far", "words"),
    [
        (
            admits("n1", ()),
            admits("n2", ()),
            "node n2 authenticates, and nodes without cluster.secrets cannot show who",
        ),
        (admits("n1"), admits("n2", ()), "node n2 refuses this node: it has no cluster.secrets"),
        (admits("n1", [OLD]), admits("n2"), "node n2 refuses this node: the nodes have no secret"),
        (admits("n1", enabled=False), admits("n2"), "node n2 authenticates and this node does not"),
    ],
)
@in_reactor
async def test_what_is_missing_is_said(near: AdminAccess, far: AdminAccess, words: str, serve: Serve) -> None:
    """In words for the operator, who would take a 401 for one of their own token."""
    two = Two(serve, near, far)
    code, body = await two.ask("/status/cluster/nodes?forward=n2", READER)
    assert code == 502 and json.loads(body)["error"].startswith(words)


@in_reactor
async def test_without_authentication_nothing_is_needed(serve: Serve) -> None:
    """As before: an open port of another node is asked by anybody who may ask this one."""
    for near in (admits("n1", ()), admits("n1", enabled=False)):
        code, _ = await Two(serve, near, admits("n2", (), enabled=False)).ask("/metrics?forward=n2", READER)
        assert code == 200


@in_reactor
async def test_a_pass_alone(serve: Serve) -> None:
    """A reader's changes nothing, none is good for another path, method or node, and none for long."""
    now = [1_790_000_000.0]

    def passes(node_id: str) -> NodePasses:
        return NodePasses(node_id, "pico", [SECRET], wall=lambda: now[0], nonce=bytes)

    served = serve(node_app(Status("n2"), attrs.evolve(admits("n2"), passes=passes("n2"))))
    for action in (Action.ADMIN_READ, Action.ADMIN_OPERATE):
        operator = Operator(name="me", action=action)
        shown = passes("n1").fields(operator, "n2", f"{served.url}/metrics?forward=n2")
        for path, method, fields, expected in (
            ("/metrics?forward=n2", "GET", shown, 200),
            ("/metrics?forward=n2&x=1", "GET", shown, 401),
            ("/status/cluster/nodes?forward=n2", "GET", shown, 401),
            (RELOAD_PATH, "POST", shown, 401),
            (
                "/metrics?forward=n3",
                "GET",
                passes("n1").fields(operator, "n3", f"{served.url}/metrics?forward=n3"),
                401,
            ),
            ("/metrics?forward=n2", "GET", {"authorization": "Pico-Node x"}, 401),
        ):
            assert (await served.ask(path, method, headers=fields))[0] == expected
        now[0] += LASTS_S + 1
        code, _, body = await served.ask("/metrics?forward=n2", headers=shown)
        assert code == 401 and b"clocks" in body


@in_reactor
async def test_nobody_s_role_is_widened(serve: Serve) -> None:
    """An operator's pass lets them change something, a reader's does not, whatever they ask for."""
    served = serve(node_app(Status("n2"), admits("n2")))
    for action, expected in ((Action.ADMIN_READ, 403), (Action.ADMIN_OPERATE, 200)):
        made = NodePass(
            asking="n1",
            asked="n2",
            action=action,
            target=b"POST " + RELOAD_PATH.encode(),
            issued_at=int(time.time()),
            nonce=bytes(16),
        )
        fields = {"authorization": made.written(SECRET.encode(), "pico")}
        assert (await served.ask(RELOAD_PATH, "POST", headers=fields))[0] == expected
