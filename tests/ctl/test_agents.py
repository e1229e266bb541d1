"""`picoctl agents`, `picoctl endpoint`, `--watch`, narrow terminals, and nodes of earlier versions."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import attrs
import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from pico_twisted.ctl.tables import agents_table, sessions_table
from pico_twisted.net.admin.cluster_agents import MOST_SESSIONS
from pico_twisted.net.admin.shapes.agents import AgentSession
from tests.ctl.harness import PATIENCE_S, PROGRAM, Done, environment, http_answer, picoctl, serving
from tests.net.admin.admin_fakes import Served, Status, node_app, session
from tests.net.in_reactor import in_reactor
from tests.peers.pipe import Pipe


class Three(Status):
    """A node that knows two others, which hold the same endpoint."""

    def nodes(self) -> Any:
        row = self.detail.row()
        others = [attrs.evolve(row, id=id, status=status) for id, status in (("n2", "active"), ("n3", "draining"))]
        return [row, *others, attrs.evolve(row, id="n4", status="unreachable")]

    def cluster_endpoints(self) -> Any:
        return {"web": {"n1": 2, "n2": 1, "n3": 1}, "api": {"n1": 1}}


class Rig:
    """Such a node, and the admin port of the second one; at the third nothing listens."""

    def __init__(self) -> None:
        self.status = Three()
        self.far = Status("n2")
        self.far.sessions = [session("n2", "agent-2", "web"), session("n2", "agent-9", "api")]
        self.ports = [Served(node_app(self.status)), Served(node_app(self.far))]
        self.status.urls = {"n2": self.ports[1].url, "n3": "http://127.0.0.1:1"}

    async def run(self, *arguments: str) -> Done:
        return await deferToThread(picoctl, *arguments, PICO_ADMIN=self.ports[0].url)

    async def close(self) -> None:
        for port in self.ports:
            await port.close()


@pytest.fixture
def rig() -> Iterator[Rig]:
    """A cluster of three."""
    made = Rig()
    yield made
    pytest_twisted.blockon(Deferred.fromCoroutine(made.close()))


@in_reactor
async def test_agents(rig: Rig) -> None:
    """All agents of the cluster, one line each, with all nodes and endpoints; a node that does not answer is named, and
    those that are not there are not asked. The command stands alone and among those of status."""
    expected = """\
agents of the cluster
AGENT    ADDRESS   VERSION  SINCE     RTT  NODES   ENDPOINTS
agent-1  10.1.2.3  0.1.0      2 h  8.0 ms  n1      web
agent-2  10.1.2.3  0.1.0      2 h  8.0 ms  n1, n2  web
agent-9  10.1.2.3  0.1.0      2 h  8.0 ms  n2      api

node n3 is missing: cannot be reached: nothing listens there
"""
    for command in (("agents",), ("status", "agents")):
        done = await rig.run(*command)
        assert (done.returncode, done.stdout, done.stderr) == (0, expected, "")
    rig.far.sessions[0] = attrs.evolve(rig.far.sessions[0], subject="acme")
    for command in (("agents",), ("endpoint", "web")):
        lines = (await rig.run(*command)).stdout.splitlines()
        assert lines[1].endswith("  SUBJECT") and sum(line.endswith("  acme") for line in lines) == 1
    told = json.loads((await rig.run("agents", "--json")).stdout)
    assert sorted(one["agent"] for one in told["sessions"]) == ["agent-1", "agent-2", "agent-2", "agent-9"]
    assert list(told["unanswered"]) == ["n3"]


@in_reactor
async def test_endpoint(rig: Rig) -> None:
    """Who serves an endpoint, session by session; only nodes that hold it are asked. Nobody is status 1."""
    rig.far.sessions[0] = attrs.evolve(rig.far.sessions[0], version="", rtt_s=None, in_flight=3, draining=True)
    expected = """\
agents that serve web
AGENT    ADDRESS         VERSION  SINCE     RTT  NODE  IN FLIGHT  STATE
agent-1  10.1.2.3:40000  0.1.0      2 h  8.0 ms  n1            0  active
agent-2  10.1.2.3:40000  0.1.0      2 h  8.0 ms  n1            0  active
agent-2  10.1.2.3:40000  -          2 h       -  n2            3  draining

node n3 is missing: cannot be reached: nothing listens there
"""
    for command in (("endpoint", "web"), ("status", "endpoint", "WEB")):
        done = await rig.run(*command)
        assert (done.returncode, done.stdout.replace("WEB", "web"), done.stderr) == (0, expected, "")
    done = await rig.run("endpoint", "nobody's")
    assert (done.returncode, done.stdout) == (1, "no agent serves nobody's\n")
    done = await rig.run("endpoint", "web", "--forward", "n2")
    assert (done.returncode, "agent-2" in done.stdout, "agent-1" in done.stdout) == (0, True, False)


@in_reactor
async def test_a_node_of_an_earlier_version() -> None:
    """A node that does not have these routes: its own endpoints are shown, and said to be its own; one among others is
    named as missing."""

    def old(connection: Pipe, head: bytes) -> None:
        path = head.split()[1].decode()
        row = {"id": "old", "status": "active", "proxy_addr": "a:1", "admin_addr": "a:2"}
        answers: dict[str, Any] = {
            "/ready": {"status": "ready"},
            "/status/cluster/nodes": [row],
            "/status/cluster/nodes/local": {**row, "endpoints": {"web": 2}},
        }
        known = path in answers
        body = answers.get(path, {"error": "no such path; GET / lists what is here"})
        connection.send(http_answer(json.dumps(body).encode(), "200 OK" if known else "404 Not Found"))

    rig = Rig()
    with serving(old) as url:
        done = await deferToThread(picoctl, "status", PICO_ADMIN=url)
        assert (done.returncode, done.stderr) == (0, "")
        assert "endpoints of node old, which is of an earlier version and tells only its own\n" in done.stdout
        assert "web               2  old\n" in done.stdout
        rig.status.urls["n3"] = url
        assert "node n3 is missing: it is of an earlier version" in (await rig.run("agents")).stdout
    await rig.close()


def test_agents_of_few_words() -> None:
    """Without agents there are words; what an agent did not say is a dash."""
    assert agents_table([]) == "no agent has registered an endpoint at a node that answers"
    silent = AgentSession(agent="a", address="h:1", node="n1", endpoint="e", since_s=5.0)
    assert agents_table([silent]).splitlines()[2].split() == ["a", "h", "-", "5", "s", "-", "n1", "e"]


def test_other_protocols() -> None:
    """Where something else than HTTP is served it is told, beside the endpoint and in a column of its own."""
    web = AgentSession(agent="a", address="h:1", node="n1", endpoint="web", since_s=5.0)
    db = attrs.evolve(web, endpoint="db", protocol="tcp")
    assert agents_table([web, db]).splitlines()[2].endswith("  db (tcp), web")
    url = "wss://db.example.com/_pico/v1/tcp/db"
    lines = sessions_table("db", [attrs.evolve(db, url=url)]).splitlines()
    assert lines[0] == f"agents that serve db, {url}"
    assert "PROTOCOL" in lines[1] and " tcp " in lines[2]
    assert "PROTOCOL" not in sessions_table("web", [web])


def test_a_service_that_is_out() -> None:
    """It is told of the endpoint and of the session, with since when; an agent that drains does no more than that."""
    web = AgentSession(agent="a", address="h:1", node="n1", endpoint="web", since_s=500.0, out_for_s=7.5)
    assert agents_table([web]).splitlines()[2].endswith("  web (service out)")
    assert sessions_table("web", [web]).splitlines()[2].endswith("  service out for 7 s")
    assert sessions_table("web", [attrs.evolve(web, draining=True)]).splitlines()[2].endswith("  draining")
    assert sessions_table("web", [attrs.evolve(web, out_for_s=None)]).splitlines()[2].endswith("  active")


def test_an_agent_that_is_slow() -> None:
    """It is told of the endpoint and of the session, with how long its answers take to begin."""
    web = AgentSession(
        agent="a", address="h:1", node="n1", endpoint="web", since_s=500.0, standing="slow", first_byte_s=0.2521
    )
    assert agents_table([web]).splitlines()[2].endswith("  web (slow)")
    assert sessions_table("web", [web]).splitlines()[2].endswith("  slow (252 ms to the first byte)")


@in_reactor
async def test_a_narrow_terminal(rig: Rig) -> None:
    """On 60 columns no line wraps: a table that is wider is a block of lines for each row."""
    output = await deferToThread(_on_terminal, 60, "status", "nodes", PICO_ADMIN=rig.ports[0].url)
    assert max(map(len, output.splitlines())) <= 60
    assert "id         n2\r\nstatus     active\r\nproxy      10.0.0.1:8000\r\n" in output
    output = await deferToThread(_on_terminal, 100, "status", "nodes", PICO_ADMIN=rig.ports[0].url)
    assert "ID  STATUS " in output


@in_reactor
async def test_watch(rig: Rig) -> None:
    """With --watch it is shown again and again until Ctrl-C, which is no fault."""

    def look() -> int:
        command = [*PROGRAM, "agents", "--watch", "--json"]
        running = subprocess.Popen(command, env=environment(PICO_ADMIN=rig.ports[0].url), stdout=subprocess.PIPE)
        assert running.stdout is not None
        seen = b""
        while seen.count(b'"sessions"') < 2:
            seen += os.read(running.stdout.fileno(), 65536)
        running.send_signal(signal.SIGINT)
        running.communicate(timeout=PATIENCE_S)
        return running.returncode

    assert await deferToThread(look) == 0


def test_version_and_help() -> None:
    """The version by command and by both options; the help of picoctl and of a subcommand, as its --help has it."""
    said = {picoctl(*arguments).stdout for arguments in (("version",), ("-V",), ("--version",))}
    assert len(said) == 1 and said.pop().startswith("picoctl ")
    assert picoctl("help").stdout == picoctl("--help").stdout
    assert picoctl("help", "status", "node").stdout == picoctl("status", "node", "--help").stdout
    done = picoctl("help", "nothing")
    assert (done.returncode, "No such command 'nothing'" in done.stderr) == (2, True)


@in_reactor
async def test_completion(rig: Rig) -> None:
    """A shell completes commands, and the IDs of nodes, which are asked for."""

    def complete(*words: str) -> list[str]:
        variables = {"COMP_WORDS": " ".join(["picoctl", *words]), "COMP_CWORD": str(len(words))}
        done = subprocess.run(
            PROGRAM,
            env=environment(_PICOCTL_COMPLETE="bash_complete", PICO_ADMIN=rig.ports[0].url, **variables),
            capture_output=True,
            timeout=PATIENCE_S,
            check=False,
            encoding="utf-8",
        )
        return [line.partition(",")[2] for line in done.stdout.splitlines()]

    assert "endpoint" in await deferToThread(complete, "e")
    assert await deferToThread(complete, "status", "node", "n") == ["n1", "n2", "n3", "n4"]


def _on_terminal(columns: int, *arguments: str, **variables: str) -> str:
    """What picoctl writes on a terminal of that width."""
    ours, theirs = pty.openpty()
    done = subprocess.run(
        [*PROGRAM, *arguments],
        env=environment(COLUMNS=str(columns), **variables),
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        timeout=PATIENCE_S,
        check=False,
    )
    os.close(theirs)
    assert done.returncode == 0
    seen = b""
    try:
        while piece := os.read(ours, 65536):
            seen += piece
    except OSError:  # its other end is closed
        pass
    os.close(ours)
    return seen.decode()


@in_reactor
async def test_too_many(rig: Rig) -> None:
    """Beyond what a person reads sessions are only counted, of one node and of all together."""
    rig.status.sessions = [session("n1", f"agent-{number}", "web") for number in range(MOST_SESSIONS - 1)]
    rig.status.left_out = 7
    told = json.loads((await rig.run("agents", "--json")).stdout)
    assert (len(told["sessions"]), told["more"]) == (MOST_SESSIONS, 7 + 1)
    assert "\nand 8 more sessions\nnode n3 is missing" in (await rig.run("agents")).stdout
