"""`picoctl status` against real admin ports: tables, JSON, forwarding, exit statuses."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from pico_twisted.config import ServerTlsConfig
from pico_twisted.ctl.tables import listeners_table
from pico_twisted.net.admin.shapes.agents import AgentDetail
from pico_twisted.net.admin.shapes.gossip import GossipRow
from pico_twisted.net.admin.shapes.nodes import NodeRow
from pico_twisted.net.admin.shapes.reading import read, to_json
from pico_twisted.net.admin.site import admin_site
from pico_twisted.net.sweep import ReactorSweep
from pico_twisted.net.tls.port_context import ServerContext
from pico_twisted.net.tls.server import SniffingFactory
from tests.ctl.harness import PATIENCE_S, PROGRAM, Done, environment, picoctl
from tests.net.admin.admin_fakes import AGENT, Served, Status, agent_app, node_app
from tests.net.in_reactor import in_reactor, reactor
from tools.stage.certificates import Authority


class ClusterStatus(Status):
    """A node that knows another one."""

    def nodes(self) -> Sequence[NodeRow]:
        other = NodeRow(
            id="n2",
            status="unreachable",
            proxy_addr="10.0.0.2:8000",
            admin_addr="10.0.0.2:8001",
            gossip_addr="10.0.0.12:8003",
            version="0.1.0",
            endpoints=12345,
            upstreams=123456,
            link="no route to host",
        )
        return [attrs.evolve(self.detail, gossip_addr="10.0.0.1:8003").row(), other]

    def gossip_nodes(self) -> Sequence[GossipRow]:
        row = self.gossip.row()
        other = attrs.evolve(row, id="n2", local=False, status="unreachable", suspicion=12.345, heard_s=754.2)
        return [row, other, attrs.evolve(row, id="n3", local=False, status="left", heard_s=None)]


class Rig:
    """The admin port of such a node."""

    def __init__(self) -> None:
        self.status = ClusterStatus()
        self.served = Served(node_app(self.status))
        self.url = self.served.url

    async def run(self, *arguments: str, **variables: str) -> Done:
        environ: Any = {"PICO_ADMIN": self.url, **variables}
        return await deferToThread(picoctl, *arguments, **environ)

    async def json(self, *arguments: str) -> Any:
        done = await self.run(*arguments, "--json")
        assert (done.returncode, done.stderr) == (0, "")
        return json.loads(done.stdout)


@pytest.fixture
def rig() -> Iterator[Rig]:
    """A node's admin port, named by PICO_ADMIN."""
    made = Rig()
    yield made
    pytest_twisted.blockon(Deferred.fromCoroutine(made.served.close()))


NODES = """\
2 nodes: 1 active, 1 unreachable, seen by n1
ID  STATUS       PROXY          ADMIN  GOSSIP          VERSION  ENDPOINTS  UPSTREAMS  LINK
n1  active       10.0.0.1:8000  :8001  :8003           0.1.0            2          3  -
n2  unreachable  10.0.0.2:8000  :8001  10.0.0.12:8003  0.1.0        12345     123456  no route to host
"""
UNREACHABLE = "node n2 at 10.0.0.12:8003 is unreachable"
HELD = """\
endpoints of the cluster
ENDPOINT  UPSTREAMS  NODES
api               1  n1
web               2  n1
"""


@in_reactor
async def test_nodes(rig: Rig) -> None:
    """The list of nodes is a table; a host that is the proxy's is not repeated."""
    done = await rig.run("status", "nodes")
    assert (done.returncode, done.stdout, done.stderr) == (0, NODES, "")
    assert await rig.json("status", "nodes") == to_json(list(rig.status.nodes()))


@in_reactor
async def test_node(rig: Rig) -> None:
    """One node with its endpoints, by its ID or as local. An ID may be anything."""
    expected = """\
id         n1
status     active
proxy      10.0.0.1:8000
admin      10.0.0.1:8001
gossip     -
version    0.1.0
endpoints  2
upstreams  3
link       -

endpoints of node n1
ENDPOINT  UPSTREAMS
api               1
web               2
"""
    for name in ("n1", "local", "nœud"):
        done = await rig.run("status", "node", name)
        assert (done.returncode, done.stdout, done.stderr) == (0, expected, "")
    assert await rig.json("status", "node", "local") == to_json(rig.status.detail)
    for name in ("n9", "..", "?x", "%", "-"):
        done = await rig.run("status", "node", "--", name)
        assert (done.returncode, done.stdout, done.stderr) == (1, "", "picoctl: no such node\n"), name


@in_reactor
async def test_endpoints(rig: Rig) -> None:
    """The endpoints of the cluster, in order, with the nodes that hold them; or the words that there are none."""
    done = await rig.run("status", "endpoints")
    assert (done.returncode, done.stdout) == (0, HELD)
    assert await rig.json("status", "endpoints") == {"api": {"n1": 1}, "web": {"n1": 2}}
    rig.status.detail = attrs.evolve(rig.status.detail, endpoints={})
    done = await rig.run("status", "endpoints")
    assert (done.returncode, done.stdout) == (0, "endpoints of the cluster\nno agent has registered one\n")
    assert await rig.json("status", "endpoints") == {}


@in_reactor
async def test_gossip(rig: Rig) -> None:
    """What gossip knows of all nodes, and of one with its keys."""
    done = await rig.run("status", "gossip")
    expected = """\
nodes as the gossip of node n1 knows them
ID  STATUS          GENERATION  HEARTBEAT  WRITTEN  ENTRIES  SUSPICION  HEARD
n1  active       1790000000000         42        7        2        0.0  local
n2  unreachable  1790000000000         42        7        2       12.3    13m
n3  left         1790000000000         42        7        2        0.0      -
"""
    assert (done.returncode, done.stdout, done.stderr) == (0, expected, "")
    assert all(len(line) <= 80 for line in expected.splitlines())
    assert await rig.json("status", "gossip") == to_json(list(rig.status.gossip_nodes()))
    done = await rig.run("status", "gossip", "n1")
    expected = """\
id          n1
generation  1790000000000
status      active
heartbeat   42
written     7
floor       3
entries     2
tombstones  1
suspicion   0.0
heard       local

KEY           VALUE   WRITTEN
endpoint:web  2             6
status        active        2
"""
    assert (done.returncode, done.stdout, done.stderr) == (0, expected, "")
    assert await rig.json("status", "gossip", "local") == to_json(rig.status.gossip)
    done = await rig.run("status", "gossip", "n9")
    assert (done.returncode, done.stderr) == (1, "picoctl: no such node\n")


@in_reactor
async def test_overview(rig: Rig) -> None:
    """Alone, `status` says whether the node is ready, and shows nodes and endpoints; not ready is status 1."""
    done = await rig.run("status")
    parts = done.stdout.split("\n\n")
    assert (done.returncode, done.stderr) == (0, "")
    assert [parts[0], parts[1] + "\n", parts[2]] == [f"node n1 is ready\n! {UNREACHABLE}", NODES, HELD]
    got = await rig.json("status")
    assert got == {
        "id": "n1",
        "ready": True,
        "reason": "",
        "problems": [UNREACHABLE],
        "nodes": to_json(list(rig.status.nodes())),
        "endpoints": {"api": {"n1": 1}, "web": {"n1": 2}},
    }
    rig.status.why_not = "draining"
    rig.status.detail = attrs.evolve(rig.status.detail, endpoints={f"ep-{number:03}": 1 for number in range(100)})
    done = await rig.run("status")
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.startswith("node n1 is not ready: draining\n")
    assert "ep-019  " in done.stdout and "ep-020" not in done.stdout
    assert done.stdout.endswith("\n\nand 80 more endpoints: picoctl status endpoints\n")
    done = await rig.run("status", "--json")
    assert (done.returncode, json.loads(done.stdout)["reason"]) == (1, "draining")
    assert len(json.loads(done.stdout)["endpoints"]) == 100


@in_reactor
async def test_forward(rig: Rig) -> None:
    """Another node answers; an unknown one is status 1, one that cannot be reached status 3, in the node's words."""
    far = Served(node_app(Status("n/2")))
    rig.status.urls = {"n/2": far.url, "n3": "http://127.0.0.1:1"}
    try:
        assert (await rig.json("status", "node", "local", "--forward", "n/2"))["id"] == "n/2"
        assert (await rig.run("status", "--forward", "n/2")).stdout.startswith("node n/2 is ready\n")
        done = await rig.run("status", "nodes", "--forward", "n9")
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == "picoctl: no such node to forward to: n9\n"
        done = await rig.run("status", "--forward", "n3")
        assert (done.returncode, done.stdout) == (3, "")
        assert "502: node n3 cannot be reached: nothing listens there" in done.stderr
    finally:
        await far.close()


@in_reactor
async def test_where_options_stand(rig: Rig) -> None:
    """Options may stand before or behind a subcommand; the last ones win, and any wins over the environment."""
    wrong = "http://127.0.0.1:1"
    for arguments in (
        ("--admin", rig.url, "status", "nodes"),
        ("status", "--admin", rig.url, "nodes"),
        ("status", "nodes", "--admin", rig.url),
        ("--admin", wrong, "status", "--admin", wrong, "nodes", "--admin", rig.url + "/"),
    ):
        assert (await rig.run(*arguments, PICO_ADMIN=wrong)).stdout == NODES
    assert json.loads((await rig.run("--json", "status", "nodes")).stdout)
    assert (await rig.run("status", "nodes", "--admin", wrong)).returncode == 3


@in_reactor
async def test_an_agents_admin_port() -> None:
    """The overview shows its listeners, and whether one is registered; what only a node knows is status 3 and words."""
    gone = attrs.evolve(AGENT, ready=False, reason="no listener is registered")
    for detail, status, words in ((AGENT, 0, "ready"), (gone, 1, "not ready: no listener is registered")):
        served = Served(agent_app(detail))
        try:
            done = await deferToThread(picoctl, "status", PICO_ADMIN=served.url)
            assert (done.returncode, done.stdout) == (
                status,
                f"agent agent-1 is {words}\n\n"
                "ENDPOINT  SERVICE         NODES  RTT    IN FLIGHT\n"
                "web       localhost:3000  n1     4.2ms          2\n"
                "api       localhost:3001  -      -              0\n",
            )
            done = await deferToThread(picoctl, "status", "--json", PICO_ADMIN=served.url)
            assert done.returncode == status and read(json.loads(done.stdout), AgentDetail) == detail
            for arguments in (("status", "nodes"), ("status", "node", "n1"), ("status", "gossip", "n1")):
                done = await deferToThread(picoctl, *arguments, PICO_ADMIN=served.url)
                assert (done.returncode, done.stdout) == (3, "")
                assert done.stderr.startswith(f"picoctl: {served.url} answers with 404: no such path")
        finally:
            await served.close()


@pytest.mark.parametrize(
    ("until", "told"),
    [((None, 2e9, 1.9e9), "2030-03-17 17:46:40 UTC"), ((1e300,), "far away"), ((), "-"), ((None,), "-")],
)
def test_when_an_agents_credential_ends(until: Sequence[float | None], told: str) -> None:
    """The first of its sessions, whatever a node said; there is such a column only where that is known."""
    (session,) = AGENT.listeners[0].sessions
    sessions = [attrs.evolve(session, credential_until=one) for one in until]
    table = listeners_table([attrs.evolve(AGENT.listeners[0], sessions=sessions), AGENT.listeners[1]])
    head, row, other = table.splitlines()
    assert ("CREDENTIAL UNTIL" in head) is (told != "-")
    if told != "-":
        assert row.endswith(f"  {told}") and other.endswith(" -")


def test_a_service_that_is_out() -> None:
    """Since when and why is told in a column of its own, which is there only then."""
    out = attrs.evolve(AGENT.listeners[0], out_for_s=7.0, why_out="nothing listens there")
    head, row, other = listeners_table([out, AGENT.listeners[1]]).splitlines()
    assert "SERVICE OUT" in head and "for 7 s: nothing listens there" in row and "listens" not in other
    assert "SERVICE OUT" not in listeners_table(AGENT.listeners)


@in_reactor
async def test_tls(tmp_path: Path) -> None:
    """Over https the certificate is checked, against the system's authorities or those of --ca; faults are told."""
    authority, stranger = Authority(tmp_path), Authority(tmp_path, "stranger")
    pair = authority.issue("admin")
    context = ServerContext(ServerTlsConfig(cert=str(pair.cert), key=str(pair.key)))
    site = SniffingFactory(admin_site(node_app()), context, "n1", timer=ReactorSweep(reactor))
    listening = reactor.listenTCP(0, site, interface="127.0.0.1")
    address = f"127.0.0.1:{listening.getHost().port}"
    junk = tmp_path / "junk.pem"
    junk.write_text("junk")
    try:
        for scheme, ca, code, words in (
            ("https", authority.ca, 0, ""),
            ("https", stranger.ca, 3, "The authority to trust: --ca FILE"),
            ("https", None, 3, "The authority to trust: --ca FILE"),
            ("https", junk, 2, "holds no certificate"),
            ("https", tmp_path / "missing.pem", 2, "cannot be read"),
            ("http", None, 3, "this port speaks TLS: use https"),
            ("http", authority.ca, 2, "is for https"),
        ):
            options = [] if ca is None else ["--ca", str(ca)]
            done = await deferToThread(picoctl, "status", "endpoints", "--admin", f"{scheme}://{address}", *options)
            assert (scheme, ca, done.returncode) == (scheme, ca, code), done.stderr
            assert words in done.stderr
    finally:
        await listening.stopListening()


@in_reactor
async def test_wide_tables(rig: Rig) -> None:
    """Columns stand in line whatever the width: no cell is cut, and no line is broken."""
    rig.status.detail = attrs.evolve(rig.status.detail, endpoints={"e" * 128: 1, "f": 1_000_000})
    done = await rig.run("status", "endpoints")
    lines = done.stdout.splitlines()[1:]
    assert [line.index("  n1") for line in lines[1:]] == [128 + 2 + len("UPSTREAMS")] * 2
    assert lines[1].split() == ["e" * 128, "1", "n1"]


@in_reactor
async def test_hostile_words(rig: Rig) -> None:
    """What a terminal would act upon is printed as an escape, in tables, JSON and errors."""
    rig.status.node_id = evil = "n\x1b[2J\x07\x9b\u202e\x7f\r\n"
    rig.status.detail = attrs.evolve(rig.status.detail, id=evil, version=evil, endpoints={evil: 1})
    rig.status.why_not = evil
    for arguments in (
        ("status",),
        ("status", "node", "local"),
        ("status", "endpoints"),
        ("status", "--json"),
        ("status", "--forward", evil.replace("n", "x")),
    ):
        done = await rig.run(*arguments)
        assert re.fullmatch(r"[\n -~]+", done.stdout + done.stderr), done
    assert (await rig.json("status", "endpoints")) == {evil: {evil: 1}}


@in_reactor
async def test_any_encoding(rig: Rig) -> None:
    """An ID that the terminal's encoding does not have is no failure."""
    rig.status.detail = attrs.evolve(rig.status.detail, endpoints={"nœud": 1})
    done = await rig.run("status", "endpoints", PYTHONIOENCODING="iso8859-1")
    assert (done.returncode, done.stderr) == (0, "")
    assert "n\\u0153ud" in done.stdout


@in_reactor
async def test_a_reader_that_leaves(rig: Rig) -> None:
    """`picoctl ... | head` is quiet; an output that cannot be written is told."""
    rig.status.detail = attrs.evolve(rig.status.detail, endpoints={f"ep-{number}": 1 for number in range(20_000)})

    def run(output: int) -> Done:
        return subprocess.run(
            [*PROGRAM, "status", "endpoints"],
            env=environment(PICO_ADMIN=rig.url),
            stdout=output,
            stderr=subprocess.PIPE,
            timeout=PATIENCE_S,
            check=False,
            encoding="utf-8",
        )

    read, write = os.pipe()
    os.close(read)
    done = await deferToThread(run, write)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")
    full = os.open("/dev/full", os.O_WRONLY)
    done = await deferToThread(run, full)
    os.close(full)
    assert (done.returncode, done.stderr) == (3, "picoctl: the output cannot be written: No space left on device\n")
