"""A host with two workers, and a service that says which of them a request came through."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tests.system import wire
from tests.system.asking import Asking
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
        given = {flag.partition("=")[0] for flag in extra}
        flags = [flag for flag in self.ports.flags()[:3] if flag.partition("=")[0] not in given]
        flags += [f"--cluster.gossip.bind-addr=127.0.0.1:{gossip}", "--cluster.workers=2"]
        flags += ["--cluster.node-id=host", "--proxy.via=true", *extra]
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


def clients_of(host: Host, count: int, *, kept: int | None = None, pause_s: float = 0.02, path: str = "/") -> Asking:
    """Clients of a host's proxy port.

    Args:
        host: that they ask.
        count: how many.
        kept: how many requests go over one connection; None for as many as it lasts.
        pause_s: between two requests of one.
        path: what they ask for.
    """
    return Asking([("127.0.0.1", host.ports.proxy)], ENDPOINT, clients=count, kept=kept, pause_s=pause_s, path=path)
