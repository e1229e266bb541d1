"""Measures what the test suite must not assert: times, and memory under long transfers. Run by `make soak`.

    python -m tests.soak.run                      every part
    python -m tests.soak.run latency memory       some of them
    python -m tests.soak.run memory --size 200    with transfers of 200 MB

Each part starts a node and an agent of its own as real processes, prints what it measured beside its bound, and the
exit status is 1 when a bound was broken or a request failed.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import sys
import threading
import time

from tests.soak.floods import floods
from tests.soak.hostile import hostile
from tests.soak.memory import memory
from tests.soak.readers import readers
from tests.soak.rig import PAUSE, head, rig_of
from tests.soak.unread import unread
from tests.system import wire
from tests.system.asking import Asking
from tests.system.balancer import Balancer
from tests.system.service import Connection, Service, answer, chunk
from tools.stage.certificates import Tls
from tools.stage.nodes import Node
from tools.stage.processes import Process
from tools.stage.report import Options, Report, exit_status
from tools.stage.stage import Stage, open_stage
from tools.stage.wrk import Wrk

MAX_CHUNK_MS = 100.0
MAX_DISCONNECT_MS = 1000.0
MAX_RETURN_MS = 1000.0
MAX_TIMEOUT_MS = 2500.0  # for a timeout of 1 s: a hop may wait a second longer than the one behind it


def latency(stage: Stage, options: argparse.Namespace, report: Report) -> None:
    """How long a chunk takes from one end to the other, both ways, fast and at a byte a second."""
    with rig_of(stage) as rig:
        for pause_s, count in ((0.02, 200), (1.0, options.seconds)):
            sent: list[float] = []

            def download(
                connection: Connection, pause_s: float = pause_s, count: int = count, sent: list[float] = sent
            ) -> None:
                connection.read_request()
                connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                for _ in range(count):
                    PAUSE.wait(pause_s)
                    sent.append(time.monotonic())
                    connection.send(chunk(b"."))
                connection.send(chunk(b""))
                connection.linger()

            rig.service.reset()
            rig.service.script = download
            client = rig.connect()
            client.send(head("GET / HTTP/1.1"))
            client.response_head()
            came = []
            while client.body_piece():
                came.append(time.monotonic())
            client.close()
            # Pieces that were read together count as late as the last of them.
            delays = [there - here for here, there in zip(sent[-len(came) :], came, strict=True)]
            report.check(f"every byte arrived alone, {pause_s} s apart, down", len(came) == count, str(len(came)))
            report.times(f"a byte down, one each {pause_s} s", delays, MAX_CHUNK_MS)

            arrived: list[float] = []

            def upload(connection: Connection, arrived: list[float] = arrived) -> None:
                connection.request_head()
                while connection.body_piece():
                    arrived.append(time.monotonic())
                connection.send(answer(b"ok"))
                connection.linger()

            rig.service.reset()
            rig.service.script = upload
            client = rig.connect()
            client.send(head("POST / HTTP/1.1", f"Content-Length: {count}"))
            left = []
            for _ in range(count):
                PAUSE.wait(pause_s)
                left.append(time.monotonic())
                client.send(b".")
            assert client.read_response().status == 200
            client.close()
            report.check(f"every byte arrived alone, {pause_s} s apart, up", len(arrived) == count, str(len(arrived)))
            delays = [there - here for here, there in zip(left[-len(arrived) :], arrived, strict=True)]
            report.times(f"a byte up, one each {pause_s} s", delays, MAX_CHUNK_MS)

        def echo(connection: Connection) -> None:
            connection.request_head()
            connection.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\n")
            while True:
                connection.send(connection.read(1, 3600))

        rig.service.reset()
        rig.service.script = echo
        client = rig.connect()
        client.send(head("GET / HTTP/1.1", "Connection: Upgrade", "Upgrade: raw"))
        assert client.read_response().status == 101
        turns = []
        for _ in range(200):
            begin = time.monotonic()
            client.send(b".")
            client.read(1)
            turns.append(time.monotonic() - begin)
        client.close()
        report.times("a byte there and back over an upgrade", turns, 2 * MAX_CHUNK_MS)


def disconnect(stage: Stage, options: argparse.Namespace, report: Report) -> None:
    """How soon the service sees that its client has gone, waiting, reading and uploading."""
    with rig_of(stage) as rig:
        for what in ("waiting", "reading", "uploading"):
            times = []
            for number in range(20):
                seen: list[float] = []
                begun, gone = threading.Event(), threading.Event()

                def script(
                    connection: Connection,
                    what: str = what,
                    seen: list[float] = seen,
                    begun: threading.Event = begun,
                    gone: threading.Event = gone,
                ) -> None:
                    connection.request_head()
                    begun.set()
                    if what == "reading":
                        connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(b"x"))
                    connection.wait_gone(3600)
                    seen.append(time.monotonic())
                    gone.set()

                rig.service.reset()
                rig.service.script = script
                client = rig.connect()
                client.send(head("POST / HTTP/1.1", f"Content-Length: {9 if what == 'uploading' else 0}"))
                if what == "reading":
                    client.response_head()
                begun.wait(30)
                begin = time.monotonic()
                if number % 2:
                    client.pipe.reset()
                else:
                    client.close()
                if not gone.wait(30):
                    report.check(f"a client that leaves while {what} is seen", False, "not within 30 s")
                    return
                times.append(seen[0] - begin)
            report.times(f"a client that leaves while {what} is seen", times, MAX_DISCONNECT_MS)


def timeouts(stage: Stage, options: argparse.Namespace, report: Report) -> None:
    """How long a client waits for its 504 when proxy.timeout, or the listener's, is a second."""
    service = Service(lambda connection: connection.linger())
    try:
        for name, node_timeout, agent_timeout in (("the node", "1s", "30s"), ("the agent", "30s", "1s")):
            node = stage.node(settings={"proxy": {"timeout": node_timeout}})
            agent = stage.agent(node, {"web": {"addr": service.address, "timeout": agent_timeout}})
            for line in ("GET / HTTP/1.1", "POST / HTTP/1.1"):
                client = wire.connect(node.proxy, tls=stage.tls.context if stage.tls else None)
                begin = time.monotonic()
                client.send(head(line, "Content-Length: 0"))
                status = client.read_response().status
                took = time.monotonic() - begin
                report.check(f"{line.partition(' ')[0]} to a silent service is 504", status == 504, str(status))
                report.line(f"timeout of 1 s, 504 by {name}", took * 1000, MAX_TIMEOUT_MS)
                client.close()
            agent.close()
            node.close()
    finally:
        service.close()


def back(stage: Stage, options: argparse.Namespace, report: Report) -> None:
    """How soon an agent is back when its node returns after kill -9, and an endpoint gone after the agent's."""
    service = Service()
    try:
        returns, vanishes = [], []
        for number in range(5):
            node = stage.node(f"node-{number}")
            agent = stage.agent(node, {"web": service.address}, name=f"agent-{number}")
            node.kill()
            again = stage.node(f"node-{number}", ports=node.ports, wait=False)
            listening(again)
            begin = time.monotonic()
            registered(again, 1)
            returns.append(time.monotonic() - begin)
            again.wait_ready()
            begin = time.monotonic()
            agent.kill()
            registered(again, 0)
            vanishes.append(time.monotonic() - begin)
            again.close()
        report.times("agent back after kill -9 of its node", returns, MAX_RETURN_MS)
        report.times("endpoint gone after kill -9 of the agent", vanishes, MAX_RETURN_MS)
    finally:
        service.close()


def listening(node: Node) -> None:
    """Wait until the node's upstream port takes connections."""

    def reached() -> bool:
        try:
            wire.connect(node.upstream, tls=node.tls.context if node.tls else None).close()
        except OSError:
            return False
        return True

    while not reached():
        PAUSE.wait(0.005)


def registered(node: Node, count: int) -> None:
    """Wait for the number of registrations of `web`."""
    while True:
        if node.admin.status("/health") == 200 and node.admin.endpoints().get("web", 0) == count:
            return
        PAUSE.wait(0.005)


# -- memory


def load(stage: Stage, options: argparse.Namespace, report: Report) -> None:
    """wrk and keep-alive clients through SIGTERM to one of two agents, and to one of two nodes."""
    one, two = Service(), Service()
    context = stage.tls.context if stage.tls else None

    def end_one(what: str, process: Process, url: str, nodes: list[Node]) -> None:
        wrk = Wrk(url, "web", seconds=options.seconds, connections=32)
        clients = Asking([node.proxy for node in nodes], "web", clients=8, pause_s=0.0, tls=context)
        clients.wait_more(500, 120)
        process.terminate()
        report.check(f"{what}: exit status 0", process.wait_exit(90) == 0)
        result = wrk.result()
        clients.stop()
        report.line(f"{what}: requests of wrk", result.requests, unit="")
        report.line(f"{what}: failed requests of wrk", result.failed, 0, "")
        report.check(f"{what}: {len(clients.outcomes)} others", not clients.failures, str(clients.failures[:3]))

    try:
        node = stage.node("node-1")
        first = stage.agent(node, {"web": one.address}, name="agent-1")
        stage.agent(node, {"web": two.address}, name="agent-2")
        end_one("SIGTERM to an agent", first, node.url(), [node])
        other = stage.node("node-2")
        stage.agent(other, {"web": one.address}, name="agent-3")
        balancer = Balancer([node.proxy, other.proxy])
        scheme = "https" if stage.tls else "http"
        end_one("SIGTERM to a node", node, f"{scheme}://127.0.0.1:{balancer.port}/", [node, other])
        balancer.close()
    finally:
        one.close()
        two.close()


PARTS = {
    "latency": latency,
    "disconnect": disconnect,
    "timeouts": timeouts,
    "back": back,
    "load": load,
    "memory": memory,
    "unread": unread,
    "readers": readers,
    "hostile": hostile,
    "floods": floods,
}


def main() -> int:
    """Run the parts that were asked for; the exit status."""
    parser = Options(__doc__, PARTS)
    parser.number("--size", 2000, "megabytes of each long transfer")
    parser.add_argument("--rate", type=float, default=40.0, help="megabytes a second of the slow ends (40)")
    parser.number("--websockets", 1000, "idle WebSockets")
    parser.number("--readers", 1500, "clients that read nothing")
    parser.number("--hostile", 1000, "hostile peers at a time")
    parser.number("--unread", 60, "seconds of load on a node whose log nobody reads")
    parser.number("--seconds", 10, "of a run of wrk, and of single bytes")
    parser.add_argument("--tls", action="store_true", help="TLS on all ports")
    options = parser.read()
    if shutil.which("wrk") is None and "load" in options.parts:
        parser.error("wrk is not installed")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Each WebSocket takes two descriptors here, and two in node and agent, who inherit this.
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return Report().run(
        "soak", PARTS, options, lambda directory: open_stage(directory, Tls.make(directory) if options.tls else None)
    )


if __name__ == "__main__":
    sys.exit(exit_status(main))
