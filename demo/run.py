"""The demo: a cluster of three nodes, three agents and their web services as real processes, and requests through them.

    make demo

One of the nodes is killed while requests go on. On a terminal the demo then shows what the others log, until Ctrl-C.
Without a terminal it ends by itself. The exit status is 0 only if all answers were right and every process, but for
the one that was killed, ended in order.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from demo.asking import Traffic, get
from demo.cluster import Agent, Cluster, Node
from demo.service import greeting
from demo.signals import Interrupted, Signals
from demo.telling import indented, listed, say, show_command
from tools.stage.asking import NO_ANSWER, try_get
from tools.stage.ports import HOST
from tools.stage.processes import environment
from tools.stage.waiting import PATIENCE_S, StageFailed, wait_until

ENDPOINT = "my-endpoint"
OTHER_ENDPOINT = "other-endpoint"
DOMAIN = "example.com"
SOME_REQUESTS = 20
"""That are sent before the kill, and again when the others have noticed."""
_PICOCTL = "from pico_twisted.ctl.main import main; main()"


class Demo:
    """One run of the demo.

    Args:
        directory: for what its processes write.
        signals: that end it early.
    """

    def __init__(self, directory: Path, signals: Signals) -> None:
        self.cluster = Cluster(directory, signals)
        self._signals = signals
        self._serves: dict[str, list[Agent]] = {}
        self._number = 0

    def show_cluster(self) -> None:
        """Start everything, and send requests."""
        say("A cluster: a request may come to any of its nodes, whichever holds the service's tunnel.")
        say("Everything listens on 127.0.0.1 only and is gone when the demo ends.")
        self._step("Three web services. They know nothing of Pico.")
        for number in (1, 2, 3):
            self.cluster.start_service(f"service-{number}")
        self._step("Three nodes. Each has four ports: for clients, operators, agents, and other nodes.")
        for number in (1, 2, 3):
            self.cluster.start_node(f"n{number}")
        active = {node.name: "active" for node in self.cluster.nodes}
        self._wait(
            lambda: all(node.admin.statuses() == active for node in self.cluster.nodes), "the nodes to know each other"
        )
        say("   Each of them knows the other two.")
        self._start_agents()
        holders = [agent.node for agent in self._serves[ENDPOINT]]
        (asked,) = [node for node in self.cluster.nodes if node not in holders]
        self._step(f"A request to {asked.name}, where no agent is registered for {ENDPOINT}:")
        self._request(asked, ENDPOINT, "/by-header", "x-pico-endpoint", ENDPOINT)
        (holder,) = [agent.node for agent in self._serves[OTHER_ENDPOINT]]
        asked = next(node for node in self.cluster.nodes if node is not holder)
        self._step(f"One for {OTHER_ENDPOINT}, to {asked.name}. The first label of the host name says for whom it is:")
        self._request(asked, OTHER_ENDPOINT, "/by-host", "Host", f"{OTHER_ENDPOINT}.{DOMAIN}")
        self._step(f"The cluster, as {self.cluster.nodes[0].name} sees it:")
        self._picoctl("status", self.cluster.nodes[0])

    def _start_agents(self) -> None:
        nodes, services = self.cluster.nodes, self.cluster.services
        self._step(
            f"Two agents for {ENDPOINT}, one for {OTHER_ENDPOINT}. An agent takes one node of those it is given:"
        )
        first = self.cluster.start_agent("agent-1", ENDPOINT, services[0], nodes)
        others = [node for node in nodes if node is not first.node]
        second = self.cluster.start_agent("agent-2", ENDPOINT, services[1], others)
        third = self.cluster.start_agent("agent-3", OTHER_ENDPOINT, services[2], nodes)
        self._serves = {ENDPOINT: [first, second], OTHER_ENDPOINT: [third]}
        self._wait(
            lambda: all(self._known(node, endpoint) for node in nodes for endpoint in self._serves),
            "the nodes to know of the endpoints",
        )

    def lose_node(self) -> None:
        """Kill a node while requests go on."""
        lost = self._serves[ENDPOINT][0].node
        left = [node for node in self.cluster.nodes if node is not lost]
        names = listed([node.name for node in left])
        self._step(f"kill -9 for {lost.name}, while requests for {ENDPOINT} go on through {names}.")
        greetings = self._greetings(ENDPOINT)
        traffic = Traffic(
            [node.ports.proxy for node in left], {"x-pico-endpoint": ENDPOINT}, lambda body: body.startswith(greetings)
        )
        traffic.start()
        try:
            self._wait(lambda: traffic.sent >= SOME_REQUESTS, "requests")
            before = traffic.sent
            self.cluster.kill(lost)
            begin = time.monotonic()
            say(f"   Killed process {lost.process.pid} after {before} requests.")
            self._watch(lost, left, begin)
            seen = traffic.sent
            self._wait(lambda: traffic.sent >= seen + SOME_REQUESTS, "requests")
        finally:
            traffic.stop()
        failed = len(traffic.failures)
        say(
            f"   {traffic.sent} requests in all: {failed or 'none'} failed, "
            f"and the slowest took {traffic.slowest_s * 1000:.0f} ms."
        )
        if failed:
            raise StageFailed(f"{failed} of {traffic.sent} requests failed, the first with {traffic.failures[0]}")
        self._step(f"The cluster, as {left[0].name} sees it now:")
        self._picoctl("status", left[0])

    def _watch(self, lost: Node, left: Sequence[Node], begin: float) -> None:
        """Say when the others know of it, and when its agents are back."""
        moved = [agent.name for agents in self._serves.values() for agent in agents if agent.node is lost]
        waits: dict[str, Callable[[], bool]] = {
            f"{listed(moved)} registered elsewhere": lambda: all(
                sum(node.registrations(endpoint) for node in left) == len(agents)
                for endpoint, agents in self._serves.items()
            ),
            f"{listed([node.name for node in left])} call {lost.name} unreachable": lambda: all(
                node.admin.statuses().get(lost.name) == "unreachable" for node in left
            ),
        }

        def look() -> bool:
            for what, seen in list(waits.items()):
                if seen():
                    del waits[what]
                    say(f"   After {time.monotonic() - begin:.1f} s: {what}.")
            return not waits

        self._wait(look, f"the others to do without {lost.name}")

    def show_what_to_try(self) -> None:
        """Print commands and addresses."""
        node = self.cluster.nodes[0]
        proxy, admin = node.ports.proxy, node.ports.admin
        named = f"{ENDPOINT}.{DOMAIN}"
        say()
        say("Now you:")
        for one in self.cluster.nodes:
            say(f"  curl -H 'x-pico-endpoint: {ENDPOINT}' http://{HOST}:{one.ports.proxy}/")
        say(f"  curl -H 'Host: {named}' http://{HOST}:{proxy}/")
        say(f"  curl --resolve {named}:{proxy}:{HOST} http://{named}:{proxy}/")
        say(f"  curl -N -H 'x-pico-endpoint: {ENDPOINT}' http://{HOST}:{proxy}/clock  an answer of ten seconds")
        say(f"  http://{ENDPOINT}.localhost:{proxy}/     in a browser")
        say("For operators:")
        say(f"  picoctl status gossip --admin http://{HOST}:{admin}     what the nodes know of each other")
        say(f"  http://{HOST}:{admin}/     what there is")
        say(f"  http://{HOST}:{admin}/status/cluster/nodes     the cluster as JSON")
        say(f"  http://{HOST}:{admin}/metrics     for Prometheus")

    # Parts of the above

    def _step(self, text: str) -> None:
        self._signals.check()
        self._number += 1
        say()
        say(f"{self._number}  {text}")

    def _wait(self, done: Callable[[], bool], what: str) -> None:
        wait_until(done, what, pause=self._signals.pause)

    def _greetings(self, endpoint: str) -> tuple[str, ...]:
        """What the answers for an endpoint begin with."""
        return tuple(greeting(agent.service.name) for agent in self._serves[endpoint])

    def _known(self, node: Node, endpoint: str) -> bool:
        """Whether a request for this endpoint at this node finds its way."""
        return try_get(node.ports.proxy, "/known", {"x-pico-endpoint": endpoint})[0] == 200

    def _request(self, node: Node, endpoint: str, path: str, header: str, value: str) -> None:
        """Send one request, and check that the right service got it on the right way."""
        show_command(["curl", "-H", f"{header}: {value}", f"http://{HOST}:{node.ports.proxy}{path}"])
        begin = time.monotonic()
        try:
            status, reason, body = get(node.ports.proxy, path, {header: value})
        except NO_ANSWER as error:
            raise StageFailed(f"there was no answer: {error!r}") from None
        say(f"   {status} {reason} in {(time.monotonic() - begin) * 1000:.1f} ms:")
        indented(body)
        if status != 200 or not body.startswith(self._greetings(endpoint)) or f"GET {path}\n" not in body:
            raise StageFailed("this is not the web service's answer to that request")
        agent = next(one for one in self._serves[endpoint] if body.startswith(greeting(one.service.name)))
        if agent.node is node:
            raise StageFailed(f"the request did not come through {node.name} and an agent at another node")
        say(f"   {node.name} took the request, {agent.node.name} holds the tunnel of {agent.name}.")

    def _picoctl(self, command: str, node: Node) -> None:
        words = [command, "--admin", f"http://{HOST}:{node.ports.admin}"]
        show_command(["picoctl", *words])
        run = subprocess.run(
            [sys.executable, "-c", _PICOCTL, *words],
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
            env=environment(),
        )
        indented(run.stdout + run.stderr)
        if run.returncode:
            raise StageFailed(f"picoctl ended with status {run.returncode}")


def main() -> int:
    """Run the demo; the exit status."""
    with tempfile.TemporaryDirectory(prefix="pico-demo-") as directory:
        return run(Demo(Path(directory), Signals()))


def run(demo: Demo) -> int:
    """Run it; the exit status."""
    on_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    try:
        demo.show_cluster()
        demo.lose_node()
        demo.show_what_to_try()
        if on_terminal:
            demo.cluster.follow()
        in_order = demo.cluster.stop()
    except Interrupted:
        say("\nInterrupted.")
        return 130
    except StageFailed as error:
        say(f"\nThe demo failed: {error}.")
        demo.cluster.show_logs()
        return 1
    finally:
        demo.cluster.stop()
    return 0 if in_order else 1


if __name__ == "__main__":
    sys.exit(main())
