"""`picoctl bench` as a process, against real nodes."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pico_twisted.core.access.credentials_file import hash_of
from tests.ctl.harness import PATIENCE_S, PROGRAM, Done, environment, http_answer, picoctl, saying, serving
from tests.peers.pipe import Pipe
from tests.system.cluster import running_cluster
from tools.stage.certificates import Tls
from tools.stage.nodes import Node
from tools.stage.ports import free_port
from tools.stage.stage import Stage, open_stage
from tools.stage.waiting import wait_until

pytestmark = pytest.mark.processes
SHORT = ("--warm-up", "0s", "--connections", "4")


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Where the node of most tests runs; no process may have logged an exception at the end."""
    with open_stage(tmp_path_factory.mktemp("bench")) as result:
        yield result
        assert result.new_faults() == []


@pytest.fixture(scope="module")
def node(machine: Stage) -> Node:
    """One node."""
    return machine.node()


def ports(*nodes: Node) -> list[str]:
    """The options that name their ports."""
    return [part for one in nodes for part in ("--proxy", one.url(""), "--upstream", one.upstream_url)]


def figures_of(done: Done, status: int = 0) -> Any:
    """The JSON of a bench that ended with a status; its counts add up."""
    assert done.returncode == status, done
    figures = json.loads(done.stdout)
    assert figures["begun"] == figures["succeeded"] + figures["failed"] + figures["unfinished"]
    assert sum(figures["errors"].values()) == figures["failed"]
    return figures


def measured(*arguments: str, status: int = 0) -> Any:
    return figures_of(picoctl("bench", "--json", *arguments), status)


def begin(*arguments: str) -> subprocess.Popen[str]:
    """Start a bench that goes on until it is interrupted."""
    return subprocess.Popen(
        [*PROGRAM, "bench", "--json", *arguments],
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )


def interrupt(process: subprocess.Popen[str]) -> Done:
    """Ctrl-C, and what it printed."""
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=PATIENCE_S)
    assert "Traceback" not in errors, errors
    return Done(process.args, process.returncode, out, errors)


def wait_for_load(node: Node, requests: int = 200) -> None:
    """Wait until so many more requests have come to a node."""
    before = node.admin.metric("pico_requests_total")
    wait_until(lambda: node.admin.metric("pico_requests_total") >= before + requests, f"{requests} requests")


def test_counts(node: Node) -> None:
    """As many requests are made as were wanted; all are answered, their bytes are counted, and the agents leave."""
    figures = measured(*ports(node), *SHORT, "--requests", "300", "--endpoints", "3", "--response-size", "1000B")
    assert (figures["begun"], figures["succeeded"], figures["unsent"]) == (300, 300, 0)
    assert 300_000 < figures["received_bytes"] < 600_000
    assert 0 < figures["sent_bytes"] < 100_000
    latency = figures["latency_s"]
    assert 0 < latency["min"] <= latency["p50"] <= latency["p99"] <= latency["max"]
    assert figures["curve"][-1] == {"percent": 100, "latency_s": latency["max"]}
    assert figures["setting"]["endpoints"] == 3 and "token" not in figures["setting"]
    wait_until(lambda: node.admin.endpoints() == {}, "the agents to be gone")


def test_ports_that_want_a_token(machine: Stage) -> None:
    """Agents and clients show it, over HTTP and in WebSockets."""
    file, token = machine.directory / "tokens", machine.directory / "bench.token"
    token.write_text("pico_of-a-bench\n")
    file.write_text(f"bench sha256:{hash_of(b'pico_of-a-bench').hex()} listen:bench-* connect:bench-*\n")
    auth = {"auth": {"tokens_file": str(file)}}
    node = machine.node("guarded", {"proxy": auth, "upstream": auth})
    for more in ((), ("--websocket",)):
        figures = measured(*ports(node), *SHORT, "--requests", "50", "--token-file", str(token), *more)
        assert figures["succeeded"] == 50


@pytest.mark.parametrize(
    ("arguments", "least_bytes"),
    [
        (["--request-size", "200KiB"], 200 * 1024),
        (["--request-size", "1KiB", "--response-size", "2MiB"], 2 << 20),
        (["--method", "PUT", "--request-size", "0B", "--response-size", "0B"], 0),
        (["--method", "HEAD"], 0),
        (["--method", "DELETE"], 128),
        (["--websocket"], 128),
        (["--websocket", "--request-size", "0B"], 0),
        (["--websocket", "--request-size", "300KiB"], 300 * 1024),
    ],
)
def test_bodies(node: Node, arguments: list[str], least_bytes: int) -> None:
    """Bodies of any size come back whole, and so do messages."""
    figures = measured(*ports(node), *SHORT, "--requests", "20", *arguments)
    assert (figures["succeeded"], figures["failed"]) == (20, 0)
    assert figures["received_bytes"] >= 20 * least_bytes


@pytest.mark.parametrize("kind", [[], ["--websocket"]])
def test_rate(node: Node, kind: list[str]) -> None:
    """At a rate no more is begun than is due, and what could not be begun in time is told."""
    figures = measured(*ports(node), *SHORT, *kind, "--duration", "1s", "--rate", "50")
    assert 0 < figures["begun"] <= 51
    assert figures["begun"] + figures["unsent"] >= 50
    stalled = measured(*ports(node), *SHORT, *kind, "--duration", "1s", "--rate", "1000000")
    assert stalled["unsent"] > 0
    # The last one that was begun had been due in the first moments.
    assert stalled["latency_s"]["max"] > 0.5


def test_churn(node: Node) -> None:
    """Agents leave and come back while requests go on; with another one for the endpoint none fails."""
    figures = measured(*ports(node), *SHORT, "--duration", "3s", "--churn", "4", "--agents", "3")
    assert figures["churn"]["left"] > 0
    assert 0 < figures["churn"]["came_back"] <= figures["churn"]["left"]
    assert figures["churn"]["away_s"]["max"] > 0
    assert figures["errors"] == {}


def test_churn_of_websockets(node: Node) -> None:
    """An agent that leaves takes its WebSockets with it, and the next message opens another one."""
    process = begin(*ports(node), *SHORT, "--duration", "1h", "--churn", "5", "--agents", "2", "--websocket")
    upgrades = "101"
    before = node.admin.metric("pico_requests_total", upgrades)
    wait_until(lambda: node.admin.metric("pico_requests_total", upgrades) > before + 4, "WebSockets that were cut")
    figures = figures_of(interrupt(process), status=1)
    assert figures["succeeded"] > 0
    assert figures["churn"]["came_back"] > 0


def test_churn_without_another(node: Node) -> None:
    """Where the only agent leaves, its requests fail meanwhile, and status 1 says so."""
    done = picoctl("bench", *ports(node), *SHORT, "--duration", "3s", "--churn", "5", "--agents", "1", "--json")
    figures = figures_of(done, status=1)
    assert "502 no available upstreams" in figures["errors"]
    assert done.stderr == f"picoctl: {figures['failed']} of {figures['begun']} failed\n"


def test_text(node: Node) -> None:
    """Without --json there is a report to read; no progress where there is no terminal."""
    done = picoctl("bench", *ports(node), *SHORT, "--requests", "50")
    assert (done.returncode, done.stderr) == (0, "")
    assert "requests  50 in " in done.stdout
    assert "50 %" in done.stdout and "longest" in done.stdout


def test_interrupt(node: Node) -> None:
    """Ctrl-C ends it in order, with the figures up to then."""
    process = begin(*ports(node), *SHORT, "--duration", "1h")
    wait_for_load(node)
    figures = figures_of(interrupt(process))
    assert figures["interrupted"] is True
    assert figures["succeeded"] > 0
    wait_until(lambda: node.admin.endpoints() == {}, "the agents to be gone")


def test_interrupt_before_there_is_anything(node: Node) -> None:
    """Ctrl-C while it waits for the cluster is an end without figures."""
    connected: list[bytes] = []

    def hang(connection: Pipe, head: bytes) -> None:
        connected.append(head)
        connection.recv()

    with serving(hang) as url:
        process = begin("--upstream", url, "--timeout", "10m")
        wait_until(lambda: connected, "the agent")
        done = interrupt(process)
    assert (done.returncode, done.stdout) == (130, "")


def test_killed_node(machine: Stage) -> None:
    """A node that dies in the middle is seen as errors, each with its kind."""
    node = machine.node("killed")
    process = begin(*ports(node), *SHORT, "--duration", "1h")
    wait_for_load(node)
    node.kill()
    with pytest.raises(subprocess.TimeoutExpired):
        process.communicate(timeout=1)
    figures = figures_of(interrupt(process), status=1)
    assert figures["succeeded"] > 0
    assert "no connection: nothing listens there" in figures["errors"]


def test_two_nodes(tmp_path: Path) -> None:
    """Several proxy and upstream ports are shared out, and a node that dies takes only its own requests with it."""
    with running_cluster(tmp_path) as cluster:
        cluster.start("n1", "n2")
        nodes = [cluster["n1"], cluster["n2"]]
        process = begin(*ports(*nodes), *SHORT, "--duration", "1h", "--endpoints", "2")
        for node in nodes:
            wait_for_load(node)
            assert len(node.admin.endpoints()) == 2
        assert figures_of(interrupt(process))["errors"] == {}


def test_tls(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """https on both sides, with an authority of one's own."""
    tls = Tls.make(tmp_path_factory.mktemp("authority"))
    with open_stage(tmp_path, tls) as machine:
        node = machine.node()
        where = ["--proxy", node.url("", host="localhost"), "--upstream", node.upstream_url]
        for kind in ([], ["--websocket"]):
            trusted = measured(*where, *SHORT, *kind, "--requests", "20", "--ca", str(tls.authority.ca))
            assert trusted["succeeded"] == 20
        done = picoctl("bench", *where, *SHORT, "--requests", "20", "--timeout", "1s")
        assert (done.returncode, done.stdout) == (3, "")
        assert "no agent can register at https://" in done.stderr


def refused(*arguments: str) -> str:
    """What it says when the cluster cannot be reached: one line, status 3, at once."""
    done = picoctl("bench", "--timeout", "1s", *arguments)
    assert (done.returncode, done.stdout) == (3, ""), done
    assert done.stderr.count("\n") == 1
    return done.stderr


def test_not_reached(node: Node) -> None:
    """Ports that are wrong are told, with the option that names them."""
    nobody = f"http://127.0.0.1:{free_port()}"
    good = ["--upstream", node.upstream_url]
    said = refused("--upstream", nobody)
    assert f"no agent can register at {nobody}: nothing listens there" in said and "--upstream" in said
    said = refused("--proxy", nobody, *good)
    assert f"{nobody} cannot be reached" in said and "--proxy" in said
    assert "does not speak TLS" in refused("--proxy", node.url("").replace("http:", "https:"), *good)
    assert "of the same cluster" in refused("--proxy", node.upstream_url, *good)
    assert "another service" in refused("--proxy", f"http://127.0.0.1:{node.ports.admin}", *good)
    with serving(saying(b"SSH-2.0-OpenSSH\r\n")) as url:
        assert "not HTTP" in refused("--proxy", url, *good)
    with serving(saying(http_answer(b"<h1>hello</h1>"))) as url:
        assert f"no agent can register at {url}" in refused("--upstream", url)
        assert "another service" in refused("--proxy", url, *good)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--proxy", "localhost"], "expected a URL"),
        (["--upstream", "localhost"], "--upstream"),
        (["--duration", "1s", "--requests", "1"], "one of them"),
        (["--duration", "10"], "expected a duration"),
        (["--request-size", "1KiB", "--method", "GET"], "has no body"),
        (["--request-size", "65MiB"], "expected a size"),
        (["--connections", "0"], "--connections"),
        (["--connections", "20001"], "--connections"),
        (["--connections", "1_0"], "expected a whole number"),
        (["--agents", " 4"], "expected a whole number"),
        (["--requests", "+4"], "expected a whole number"),
        (["--rate", "nan"], "not a number"),
        (["--churn", "1_0"], "not a number"),
        (["--endpoints", "20000"], "--agents"),
        (["--websocket", "--method", "POST"], "--websocket"),
        (["--rate", "0"], "--rate"),
        (["--churn", "-1"], "--churn"),
        (["--ca", "ca.pem"], "no URL is"),
        (["--ca", "/nowhere", "--proxy", "https://localhost"], "cannot be read"),
        (["--token-file", "/nowhere"], "cannot be read"),
        (["--token-file", "/dev/null"], "no token"),
        (["more"], "unexpected extra argument"),
    ],
)
def test_usage(arguments: list[str], words: str) -> None:
    """A command line that makes no sense is status 2, and nothing is begun."""
    done = picoctl("bench", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
