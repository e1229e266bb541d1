"""A service that dies beside others of its endpoint: whom that costs a request, and how it comes back."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from tests.ctl.harness import picoctl
from tests.system.asking import Asking
from tests.system.cluster import Cluster
from tests.system.service import Service, answer
from tools.stage.ports import free_port
from tools.stage.processes import Process
from tools.stage.waiting import wait_until

PROGRAM = """
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"morta")

    do_POST = do_GET

    def log_message(self, *args):
        pass

class Server(ThreadingHTTPServer):
    daemon_threads = True

Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


class Mortal:
    """A service that is a process, always at the same port."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self._directory = directory
        self._number = 0
        self.process = self.again()

    def again(self) -> Process:
        """Start it."""
        self._number += 1
        name = f"mortal-{self._number}"
        self.process = Process(name, [sys.executable, "-c", PROGRAM, str(self.port)], self._directory)
        return self.process


def state(cluster: Cluster, id: str, agent: str) -> str:
    """What `picoctl endpoint` says of an agent of `web`, asked at a node."""
    done = picoctl("endpoint", "web", "--admin", f"http://127.0.0.1:{cluster[id].ports.admin}")
    return next((line for line in done.stdout.splitlines() if line.strip().startswith(agent)), "")


@pytest.mark.parametrize("other_at", ["n1", "n2"])
def test_a_service_is_killed(cluster: Cluster, one: Service, tmp_path: Path, other_at: str) -> None:
    """One of two agents loses its service: what is asked after that is answered, whatever its method and wherever the
    other agent is; the nodes and the agent say that the service is out, but not that nobody serves the endpoint; and it
    gets requests again once it is back."""
    one.handler = lambda request: answer(b"other")
    cluster.start("n1", "n2")
    mortal = Mortal(tmp_path)
    agent = cluster.agent(["n1"], {"web": mortal.address}, name="agent-1")
    cluster.agent([other_at], {"web": one.address}, name="agent-2")
    cluster.wait_endpoint("n1", "web", 2 if other_at == "n1" else 1)
    cluster.wait_endpoint(other_at, "web", 2 if other_at == "n1" else 1)
    asking = [Asking([cluster[id].proxy], "web", method=method) for id in ("n1", "n2") for method in ("GET", "POST")]
    for clients in asking:
        clients.wait_more(5)
    asking[0].wait_more(1, body=b"morta")
    mortal.process.kill()
    mortal.process.wait_exit()
    killed = time.monotonic()
    wait_until(lambda: "service out for" in state(cluster, "n2", "agent-1"), "a node to tell that the service is out")
    agent.wait_output("The service is out")
    for clients in asking:
        clients.wait_more(10, body=b"other")
    assert [cluster[id].admin.metric("pico_upstream_sessions_out") for id in ("n1", "n2")] == [1, 0]
    assert [cluster[id].admin.metric("pico_endpoints_out") for id in ("n1", "n2")] == [0, 0]
    seen = time.monotonic()
    mortal.again()
    asking[0].wait_more(5, body=b"morta")
    wait_until(lambda: "active" in state(cluster, "n1", "agent-1"), "a node to tell that the service is back")
    agent.wait_output("The service is back")
    for clients in asking:
        clients.stop()
        assert [one for one in clients.failures if one.started > killed] == [], clients.name
        assert b"morta" not in {one.body for one in clients.outcomes if killed < one.started < seen - 5.0}
    mortal.process.kill()


def test_the_only_service_is_still_asked(cluster: Cluster, tmp_path: Path) -> None:
    """There is nobody else: so it is asked while it is out, and its first answer is the next one that it can give. As
    long as it is out, the node counts an endpoint that nobody serves."""
    cluster.start("n1")
    mortal = Mortal(tmp_path)
    agent = cluster.agent(["n1"], {"web": mortal.address})
    cluster.wait_endpoint("n1", "web")
    asking = Asking([cluster["n1"].proxy], "web")
    asking.wait_more(3)
    mortal.process.kill()
    mortal.process.wait_exit()
    agent.wait_output("The service is out")
    admin = cluster["n1"].admin
    wait_until(lambda: admin.metric("pico_endpoints_out") == 1, "the node to count the endpoint as out")
    mortal.again()
    asking.wait_more(3)
    wait_until(lambda: admin.metric("pico_endpoints_out") == 0, "the node to count it no more")
    asking.stop()
    mortal.process.kill()
