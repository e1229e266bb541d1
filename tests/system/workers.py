"""A host with two workers, and clients that remember which of its workers each of their requests went to."""

from __future__ import annotations

import itertools
import re
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.peers.pipe import PATIENCE_S, Ended
from tests.system import wire
from tests.system.service import Service, answer
from tools.stage.asking import Admin
from tools.stage.kernel import children, runs
from tools.stage.ports import Ports, free_row
from tools.stage.processes import Process, Twistd
from tools.stage.stage import Stage
from tools.stage.waiting import wait_until

ENDPOINT = "web"
WORKERS = ("host-w0", "host-w1")


class Host(Twistd):
    """A parent with two workers, `host-w0` and `host-w1`.

    Args:
        directory: for its output.
        extra: more flags.
        terminal: a descriptor for its output, instead of the log file.
        env: more for its environment.
        gossip: its gossip port; 0 leaves it to the host, and then somebody's outgoing connection may take the number
            while its worker is away.
    """

    def __init__(
        self,
        directory: Path,
        *extra: str,
        terminal: int | None = None,
        env: Mapping[str, str] | None = None,
        gossip: int | None = None,
    ) -> None:
        self.ports = Ports.pick()
        if gossip is None:
            gossip = free_row(2)
        flags = [*self.ports.flags()[:3], f"--cluster.gossip.bind-addr=127.0.0.1:{gossip}"]
        flags += ["--cluster.workers=2", "--cluster.node-id=host", *extra]
        self._temporary = tempfile.TemporaryDirectory(prefix="pico-test-")  # the path of pytest's is too long
        self.scratch = Path(self._temporary.name)
        here = {"TMPDIR": str(self.scratch), **(env or {})}
        super().__init__("host", ["pico", *flags], directory, here, terminal)
        self.admin = Admin(self.ports.admin, None)

    def close(self) -> None:
        """End it, and its workers."""
        workers = self.workers()
        super().close()
        wait_until(lambda: not any(map(runs, workers)), "the end of the workers")
        self._temporary.cleanup()

    def workers(self) -> list[int]:
        """Process IDs of its workers, the older first."""
        return children(self.pid)

    def up(self) -> None:
        """Wait until all workers serve."""
        self.wait_output("is up with 2 workers")

    def serve(self, stage: Stage, service: Service) -> Process:
        """Wait until all workers serve, with an agent at both of them, which is returned."""
        self.up()
        self.wait_nodes()
        url = f"http://127.0.0.1:{self.ports.upstream}"
        agent = stage.agent(url, {ENDPOINT: service.address}, {"connect": {"connections": "2"}})
        self.wait_agents()
        return agent

    def nodes(self) -> dict[str, str]:
        """The cluster's nodes with their status, as one of the workers sees it."""
        return self.admin.statuses()

    def wait_nodes(self, *others: str) -> None:
        """Wait until both workers, and these nodes, are active."""
        wanted = dict.fromkeys((*WORKERS, *others), "active")
        wait_until(lambda: self.nodes() == wanted, f"active nodes {sorted(wanted)}")

    def told_by(self, node_id: str, path: str) -> object:
        """What one worker answers on the admin port."""
        told: object = self.admin.try_json(f"{path}?forward={node_id}")
        return told

    def wait_agents(self, count: int = 1) -> None:
        """Wait until so many agents are registered at each worker, and each worker knows that of the other."""

        def registered() -> bool:
            return all(
                isinstance(row := self.told_by(asked, f"/status/cluster/nodes/{node_id}"), dict)
                and row["endpoints"] == {ENDPOINT: count}
                for asked in WORKERS
                for node_id in WORKERS
            )

        wait_until(registered, f"{count} agents at each worker")


def saying_who_asked() -> Service:
    """A service whose answers name the node that the request came through."""

    def say(request: wire.Request) -> bytes:
        found = re.search(rb"pico-(host-w\d+)", b", ".join(request.all("via")))
        return answer(found[1] if found else b"nobody")

    service = Service()
    service.handler = say
    return service


@dataclass(frozen=True)
class Asked:
    """How one request went.

    Attributes:
        worker: that answered the first request of its connection; "" when none was answered yet.
        dialled: when its connection was begun; all times are monotonic seconds.
        answered: by which worker.
        problem: "" when a whole 200 came.
    """

    worker: str
    dialled: float
    started: float
    ended: float
    answered: str
    problem: str


class Clients:
    """Clients of a host's proxy port that ask one request after the other.

    Args:
        port: of 127.0.0.1.
        count: how many.
        kept: how many requests go over one connection; None for as many as it lasts.
    """

    def __init__(
        self, port: int, count: int, *, kept: int | None = None, pause_s: float = 0.02, path: str = "/"
    ) -> None:
        self.asked: list[Asked] = []
        self._port = port
        self._kept = kept
        self._pause_s = pause_s
        self._request = f"GET {path} HTTP/1.1\r\nHost: a.example\r\nx-pico-endpoint: {ENDPOINT}\r\n\r\n".encode()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._client, daemon=True) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def _client(self) -> None:
        while not self._stop.is_set():
            dialled = time.monotonic()
            worker = ""
            try:
                client = wire.connect(("127.0.0.1", self._port))
            except OSError as error:
                self._note(Asked("", dialled, dialled, time.monotonic(), "", f"no connection: {error}"))
                return
            for number in itertools.count(1):
                started = time.monotonic()
                answered, problem, last = "", "", number == self._kept
                try:
                    client.send(self._request)
                    response = client.read_response("GET", PATIENCE_S)
                    answered = response.body.decode()
                    if response.status != 200:
                        answered, problem = "", f"{response.status} {response.body!r}"
                    last = last or response.get("connection") == b"close"
                except (Ended, wire.Broken, wire.Malformed, OSError) as error:
                    problem, last = f"{type(error).__name__}: {error}", True
                self._note(Asked(worker, dialled, started, time.monotonic(), answered, problem))
                worker = worker or answered
                if last or self._stop.wait(self._pause_s):
                    break
            client.close()

    def _note(self, asked: Asked) -> None:
        self.asked.append(asked)

    def good(self, since: float = 0.0) -> list[Asked]:
        """The requests that succeeded, of those on connections that were begun since then."""
        return [one for one in list(self.asked) if not one.problem and one.dialled >= since]

    def failed(self, since: float = 0.0) -> list[Asked]:
        """The others of them."""
        return [one for one in list(self.asked) if one.problem and one.dialled >= since]

    def wait_good(self, count: int, worker: str = "", since: float | None = None) -> None:
        """Wait until so many requests that were started from now on (or since then) succeeded, at one worker."""
        begin = time.monotonic() if since is None else since

        def enough() -> bool:
            return (
                sum(
                    one.started >= begin and not one.problem and worker in (one.answered, "")
                    for one in list(self.asked)
                )
                >= count
            )

        wait_until(enough, f"{count} good requests at {worker or 'the host'}; failures: {self.failed()[-3:]}")

    def stop(self) -> None:
        """End all after their current request."""
        self._stop.set()
        for thread in self._threads:
            thread.join(PATIENCE_S)
