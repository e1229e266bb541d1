"""What operators ask of nodes: here, at the workers of a host, and at other nodes over their links."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import attrs
import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from pico_twisted.core.links.operations import Act, BadOperation, Operation, Progress, decode_operation
from pico_twisted.net.admin.operations import WORKERS_S, OperationRoutes, Operations, Unreachable
from pico_twisted.net.admin.shapes.nodes import NodeRow
from pico_twisted.net.admin.shapes.paths import OPERATOR
from tests.net.admin.admin_fakes import Serve, Served, Status, node_app, shared_revocations
from tests.net.in_reactor import in_reactor


class Known(Status):
    """A node, one of two workers, that knows other hosts, a dead node, and one of an earlier version."""

    def nodes(self) -> Sequence[NodeRow]:
        row = self.detail.row()
        others = {"h-w1": "active", "n2": "active", "n3-w0": "unreachable", "n3-w1": "active", "old": "active"}
        return [row, *(attrs.evolve(row, id=id, status=status, link="open") for id, status in others.items())]

    def node(self, id: str) -> Any:
        return attrs.evolve(self.detail, id=id, link="open")


class Rig:
    """Such a node, and what it asked others."""

    def __init__(self, **silent: Deferred[bytes | None]) -> None:
        self.asked: list[tuple[str, Operation]] = []
        self.done: list[Operation] = []
        self.silent = silent
        self.clock = Clock()
        self.operations = Operations(
            status=Known("h-w0"), here=self.here, tell=self.tell, workers=("h-w1",), clock=self.clock
        )

    def here(self, operation: Operation) -> Progress:
        self.done.append(operation)
        return Progress(intake="drained", requests=1, elsewhere=3, ended=1)

    def tell(self, id: str, data: bytes) -> Deferred[bytes | None]:
        self.asked.append((id, decode_operation(data)))
        if id in self.silent:
            return self.silent[id]
        answer = Progress(intake="drained", requests=2, streams=1, sessions=4, elsewhere=2, ended=2)
        return succeed(None if id == "old" else answer.encoded())

    def at(self, id: str, act: Act = Act.DRAIN) -> Any:
        """What comes of asking for that node."""
        results: list[Any] = []
        Deferred.fromCoroutine(self.operations.at(id, Operation(act=act, by="ann"))).addBoth(results.append)
        return results[0] if results else None


@pytest.mark.parametrize("id", ["local", "h-w0", "h-w1", "h"])
def test_a_host_is_taken_out_as_one(id: str) -> None:
    """Whichever of its workers is named, or the host: all are asked, and what is in progress is summed up."""
    rig = Rig()
    assert rig.at(id) == Progress(intake="drained", requests=3, streams=1, sessions=4, elsewhere=2, ended=3)
    assert [one.act for one in rig.done] == [Act.DRAIN] and [one for one, _ in rig.asked] == ["h-w1"]


def test_a_worker_that_hangs_is_counted() -> None:
    """The others' answer stands, once the time is over."""
    rig = Rig(**{"h-w1": Deferred()})
    results: list[Any] = []
    Deferred.fromCoroutine(rig.operations.at("h", Operation(act=Act.LOOK))).addBoth(results.append)
    assert results == []
    rig.clock.advance(WORKERS_S)
    assert (results[0].silent, results[0].requests) == (1, 1)


def test_another_node() -> None:
    """Only it is asked, by its ID or that of its host, of which a worker that lives is taken."""
    rig = Rig()
    assert rig.at("n2").requests == 2 and rig.at("n3").requests == 2
    assert [id for id, _ in rig.asked] == ["n2", "n3-w1"] and rig.done == []
    assert all(operation.by == "ann" for _, operation in rig.asked)


def test_an_id_like_that_of_a_worker() -> None:
    """Nodes may be called web and web-w2 without being workers: who names one of them means no other, even when it
    cannot be reached. One that has left is no node any more, and may have become a host with workers."""

    class Two(Known):
        left = ""

        def nodes(self) -> Sequence[NodeRow]:
            row = self.detail.row()
            standing = {"web": self.left or "unreachable", "web-w1": "active"}
            return [row, *(attrs.evolve(row, id=id, status=status) for id, status in standing.items())]

    rig = Rig()
    for own, left, wanted in (("web-w2", "", "web"), ("n1", "", "web"), ("n1", "left", "web-w1")):
        status = Two(own)
        status.left = left
        rig.operations = Operations(status=status, here=rig.here, tell=rig.tell, workers=(), clock=rig.clock)
        rig.asked.clear()
        assert rig.at("web").requests == 2
        assert [id for id, _ in rig.asked] == [wanted] and rig.done == []


def test_nodes_that_cannot_be_asked() -> None:
    """No such node; one of an earlier version; one whose link fails, or gives nonsense: each in words."""
    rig = Rig(n2=fail(ConnectionError("cut")))
    assert rig.at("n9").check(LookupError) and rig.at("n").check(LookupError)
    assert "earlier version" in rig.at("old").getErrorMessage() and rig.at("old").check(Unreachable)
    assert "cut" in rig.at("n2").getErrorMessage()
    rig = Rig(n2=succeed(b"{}"))
    assert rig.at("n2").check(Unreachable)


def test_what_other_nodes_ask() -> None:
    """It is meant for the host, but when a worker of the host asks, or an agent is kicked: then for this node alone.

    The log gets who it was, and through which node.
    """
    for node_id, act, alone in (("n2", Act.DRAIN, False), ("h-w1", Act.DRAIN, True), ("n2", Act.KICK, True)):
        rig = Rig()
        asked = Operation(act=act, by="ann", agent="a" if act is Act.KICK else "")
        answers: list[bytes] = []
        rig.operations.asked(node_id, asked.encoded()).addCallback(answers.append)
        assert len(answers) == 1 and bool(rig.asked) is not alone
        assert rig.done[0].by == f"ann through node {node_id}"
    with pytest.raises(BadOperation):
        Rig().operations.asked("n2", b"{}")


async def post(served: Served, path: str, method: str = "POST") -> tuple[int, Any]:
    """Ask; status and answer."""
    code, _, body = await served.ask(path, method=method, headers={OPERATOR: "ann"})
    return code, json.loads(body)


def routes(rig: Rig) -> Any:
    """The app of a node with these routes."""
    return node_app(more=(OperationRoutes(rig.operations, shared_revocations({"n2": ""})),))


@in_reactor
async def test_routes(serve: Serve) -> None:
    """A change is a POST; what is meant by none is refused; a node that does not answer is a 502, no node a 404."""
    rig = Rig()
    served = serve(routes(rig))
    code, said = await post(served, "/drain?node=n2")
    assert (code, said["node"], said["sessions"], said["intake"]) == (200, "n2", 4, "drained")
    code, said = await post(served, "/status/intake", method="GET")
    assert (code, said["node"], rig.done[-1].act) == (200, "h-w0", Act.LOOK)
    assert (await post(served, "/drain", method="GET"))[0] == 405
    for path, wanted in (
        ("/cordon?node=", 400), ("/cordon?x=1", 400), ("/cordon?node=n2&node=n2", 400), ("/cordon?node=n9", 404),
        ("/uncordon?node=old", 502), ("/cordon?node=%FF", 400),
    ):  # fmt: skip
        code, said = await post(served, path)
        assert (code, "error" in said) == (wanted, True), path


@in_reactor
async def test_kick(serve: Serve) -> None:
    """It is asked of each node that is there, workers too; to be kept away is a revocation that ends."""
    rig = Rig()
    served = serve(routes(rig))
    code, said = await post(served, "/kick?agent=agent-1")
    assert (code, said["ended"], said["nodes"]) == (200, 7, ["h-w0", "h-w1", "n2", "n3-w1"])
    assert list(said["unaware"]) == ["old"]
    code, said = await post(served, "/kick?agent=agent-1&for=60")
    assert code == 200 and said["until_s"] > 0 and said["nodes"] == ["h-w0", "n2"]
    for query in (
        "",
        "agent=",
        "agent=a+b",
        "agent=a&for=x",
        "agent=a&for=-1",
        "agent=a&for=1e3",
        "agent=a&for=9999999",
    ):
        assert (await post(served, f"/kick?{query}"))[0] == 400, query
