"""The part of `make programs` that is about gRPC: grpcio through one node and two, and a node that is killed."""

from __future__ import annotations

import contextlib
import http.client
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tools.stage.nodes import Node
from tools.stage.processes import environment
from tools.stage.report import Report
from tools.stage.stage import Stage

HERE: Final = Path(__file__).parent
_PATIENCE_S: Final = 240
_ENDPOINT: Final = "rpc"


def python_with_grpc(directory: Path) -> Path:
    """A Python that has grpcio: this one if it does, else one of a virtual environment that is made for it."""
    if subprocess.run([sys.executable, "-c", "import grpc"], capture_output=True, check=False).returncode == 0:
        return Path(sys.executable)
    subprocess.run([sys.executable, "-m", "venv", str(directory / "grpc")], check=True)
    python = directory / "grpc" / "bin" / "python"
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", "grpcio >= 1.70"], check=True)
    return python


@contextlib.contextmanager
def service(python: Path) -> Iterator[int]:
    """The service, as its port."""
    with subprocess.Popen(
        [str(python), str(HERE / "service.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.stdin.close()
            process.wait(10)


def every_kind(python: Path, where: str, node: Node, report: Report) -> None:
    """What `client.py` checks, asked at a node."""
    result = subprocess.run(
        [str(python), str(HERE / "client.py"), str(node.ports.proxy), _ENDPOINT],
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_PATIENCE_S,
        check=False,
    )
    for line in result.stdout.splitlines():
        what, good, found = json.loads(line)
        report.check(f"{where}: {what}", good, found)
    report.check(f"{where}: the client ended well", result.returncode == 0, result.stderr[-1000:])


def killed(python: Path, entrance: Node, victim: Node, report: Report) -> None:
    """A node dies under calls and streams: what had reached the service ends as UNAVAILABLE, the rest goes on."""
    with subprocess.Popen(
        [str(python), str(HERE / "load.py"), str(entrance.ports.proxy), _ENDPOINT],
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as load:
        assert load.stdin is not None and load.stdout is not None
        load.stdout.readline()
        time.sleep(2)
        victim.kill()
        time.sleep(4)
        load.stdin.close()
        unary, streams, last = json.loads(load.stdout.readline())
    print(f"  calls: {unary}, streams: {streams}", flush=True)
    report.check("a killed node: calls end well or as UNAVAILABLE", set(unary) <= {"OK", "UNAVAILABLE"}, str(unary))
    report.check("and only those in progress do not end well", unary.get("UNAVAILABLE", 0) <= 16, str(unary))
    cut = streams.get("UNAVAILABLE", 0)
    report.check(
        "some of its streams end as UNAVAILABLE", cut > 0 and not set(streams) - {"UNAVAILABLE", "ended by us"}
    )
    report.check("the streams of the other node go on", streams.get("ended by us", 0) > 0, str(streams))
    report.check("and calls go on", last == ["OK"], str(last))


def _is_served(node: Node) -> bool:
    """Whether a node knows of others that serve the endpoint: an empty message comes back."""
    connection = http.client.HTTPConnection("127.0.0.1", node.ports.proxy, timeout=10)
    with contextlib.closing(connection):
        head = {"x-pico-endpoint": _ENDPOINT, "content-type": "application/grpc"}
        connection.request("POST", "/test.Test/Echo", bytes(5), head)
        return connection.getresponse().getheader("x-pico-error") is None


def all_checks(stage: Stage, nodes: dict[str, Node], report: Report) -> None:
    """gRPC through a node and across two, with a service behind h2c, and with two more nodes of which one is killed."""
    python = python_with_grpc(stage.directory)
    with service(python) as port:
        first = next(iter(nodes.values()))
        agent = stage.agent(first, {_ENDPOINT: {"addr": f"127.0.0.1:{port}", "protocol": "grpc"}}, name="rpc-agent")
        for where, node in nodes.items():
            every_kind(python, where, node, report)
        agent.stop()
        join = {"cluster": {"join": [f"127.0.0.1:{first.ports.gossip}"]}}
        holders = [stage.node(name, join) for name in ("h1", "h2")]
        for number, holder in enumerate(holders):
            stage.agent(holder, {_ENDPOINT: {"addr": f"h2c://127.0.0.1:{port}"}}, name=f"rpc-{number}")
        first.wait_until(lambda: _is_served(first), "news of the registrations")
        killed(python, first, holders[0], report)
