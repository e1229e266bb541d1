"""A cluster on five machines of a network of our own: packets are lost, the network parts, a machine dies.

    python -m tests.netns.run                      every part
    python -m tests.netns.run loss partition-wire  some of them

Run by `make netns`. Each machine is a network namespace; nodes are bound to every interface and find their own address.
Needs root, iproute2 and nftables. Prints what it measured beside what is promised; the exit status is 1 when a promise
was broken.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.netns.machines import HALVES, Network, missing, network
from tests.system.asking import Asking, came_twice
from tests.system.cluster import FIVE, SECRET, detail, log_time, noticed, registrations
from tests.system.service import Service, answer
from tools.stage.nodes import Agent, Node
from tools.stage.ports import Ports
from tools.stage.report import Options, Report, exit_status
from tools.stage.stage import Stage
from tools.stage.waiting import wait_until

PORTS = Ports(8000, 8001, 8002, 8003)
PAUSE = threading.Event()  # never set: its `wait` is a pause

FORGOTTEN_S = 295.0  # from then on a dead node may be listed no more

SEEN_MS = 3000.0  # a part of the network that cannot be reached is shown so
HEALED_MS = 10_000.0
ANSWERED_MS = 8000.0  # no request waits longer for a node that is gone: gossip notices, then its link may still answer
AGENT_MOVED_MS = 35_000.0  # 20 s of silence, one attempt that is never answered, then another address


class NetworkRig:
    """A node on each machine, and agents: `ep-n1` to `ep-n5` are held by one node each, `both` by n1 and by n4."""

    def __init__(self, net: Network, directory: Path) -> None:
        self.net = net
        self.stage = Stage(directory)
        self.services: dict[str, Service] = {}
        self.nodes: dict[str, Node] = {}
        for id in FIVE:
            self.nodes[id] = net[id].do(self._node, id)
        for id in FIVE:
            net[id].do(self.nodes[id].wait_ready)
        for id in FIVE:
            service = self.services[id] = net[id].do(self._service, id)
            listeners = {f"ep-{id}": service.address}
            if id in ("n1", "n4"):
                listeners["both"] = service.address
            net[id].do(self.agent, listeners, [id], f"agent-{id}")
        self.wait_whole()

    def _node(self, id: str) -> Node:
        settings = {
            section: {"bind_addr": f":{port}"}
            for section, port in (("proxy", 8000), ("admin", 8001), ("upstream", 8002))
        }
        join = [machine.ip for machine in self.net.machines.values()]
        cluster = {"gossip": {"bind_addr": ":8003"}, "join": join, "secrets": [SECRET]}
        return self.stage.node(id, {**settings, "cluster": cluster}, ports=PORTS, wait=False)

    @staticmethod
    def _service(id: str) -> Service:
        service = Service()
        service.handler = lambda request: answer(id.encode())
        return service

    def agent(self, listeners: dict[str, str], ids: Sequence[str], name: str) -> Agent:
        """Start an agent that connects to one of these nodes (called on its machine)."""
        urls = [f"http://{self.net[id].ip}:{PORTS.upstream}" for id in ids]
        return self.stage.agent(urls[0], listeners, {"connect": {"url": urls, "proxy": "none"}}, name=name, wait=False)

    def ask(self, id: str, endpoint: str, method: str = "GET", clients: int = 1, pause_s: float = 0.02) -> Asking:
        """Clients on a machine that ask its node."""
        place = [self.nodes[id].proxy]
        return self.net[id].do(Asking, place, endpoint, method=method, clients=clients, pause_s=pause_s)

    def statuses(self, id: str) -> dict[str, str]:
        """What a node lists."""
        return self.net[id].do(self.nodes[id].admin.statuses)

    def metric(self, id: str, name: str) -> float:
        """A metric of a node."""
        return self.net[id].do(self.nodes[id].admin.metric, name)

    def served(self, id: str, endpoint: str) -> bool:
        """Whether a node serves an endpoint now."""
        asking = self.ask(id, endpoint)
        wait_until(lambda: asking.outcomes, "an answer")
        self.net[id].do(asking.stop)
        return not asking.outcomes[0].problem

    def wait_whole(self, timeout: float = 60.0) -> None:
        """Wait until each node lists all as active and knows what all of them hold, and serves it."""
        for id in FIVE:
            what = f"{id} to list all nodes as active"
            wait_until(lambda id=id: self.statuses(id) == dict.fromkeys(FIVE, "active"), what, timeout)  # type: ignore[misc]
        for id in FIVE:
            for holder in FIVE:
                what = f"{id} to serve ep-{holder}"
                wait_until(lambda id=id, holder=holder: self.served(id, f"ep-{holder}"), what, timeout)  # type: ignore[misc]

    def blamed(self, since: float) -> list[str]:
        """Who called whom unreachable since then (`time.time`)."""
        return [
            f"{id}: {record['node']}"
            for id, node in self.nodes.items()
            for record in node.records
            if record.get("status") == "unreachable" and log_time(record) >= since
        ]

    def close(self) -> None:
        """The end."""
        self.stage.close()
        for service in self.services.values():
            service.close()


def latencies(report: Report, what: str, askings: Sequence[Asking]) -> None:
    """Print how long the requests took."""
    times = sorted(outcome.ended - outcome.started for asking in askings for outcome in asking.outcomes)
    report.line(f"{what}: median of {len(times)}", statistics.median(times) * 1000)
    report.line(f"{what}: 99 of 100 took at most", times[len(times) * 99 // 100] * 1000)
    report.line(f"{what}: the slowest took", times[-1] * 1000)


def whole(rig: NetworkRig, options: argparse.Namespace, report: Report) -> None:
    """Nodes on machines of their own, each bound to every interface, find their own addresses and each other."""
    for id in FIVE:
        own = rig.net[id].do(detail, rig.nodes[id], "local")
        ip = rig.net[id].ip
        wanted = (f"{ip}:8003", f"{ip}:8000", f"{ip}:8001")
        found = (own["gossip_addr"], own["proxy_addr"], own["admin_addr"])
        report.check(f"{id} advertises {ip}", found == wanted, str(found))
    status, _, body = rig.net["n1"].do(rig.nodes["n1"].admin.get, "/status/upstream/endpoints?forward=n5")
    report.check("the admin port of another machine is reached", (status, b"ep-n5" in body) == (200, True), str(body))


def loss(rig: NetworkRig, options: argparse.Namespace, report: Report) -> None:
    """Every link loses 20 % of the packets in each direction."""
    began = time.time()
    askings = [rig.ask("n3", "ep-n1"), rig.ask("n1", "ep-n4"), rig.ask("n5", "both"), rig.ask("n2", "ep-n5", "POST")]
    for asking in askings:
        asking.wait_more(20)
    rig.net.lose(options.loss)
    suspicion = 0.0
    while time.time() < began + options.loss_seconds:
        PAUSE.wait(1.0)
        suspicion = max(suspicion, *(rig.metric(id, "pico_gossip_suspicion") for id in FIVE))
    blamed = rig.blamed(began)
    listed = {id: rig.statuses(id) for id in FIVE}
    rig.net.heal()
    for asking in askings:
        asking.stop()
    report.check(f"{options.loss_seconds} s of loss: nobody was ever unreachable", not blamed, str(blamed))
    strange = {id: seen for id, seen in listed.items() if seen != dict.fromkeys(FIVE, "active")}
    report.check("all list all as active", not strange, str(strange))
    failures = [f"{asking.name}: {failed.problem}" for asking in askings for failed in asking.failures]
    report.line("failed requests", len(failures), None, "")
    print(f"    {failures[:5]}" if failures else "", end="\n" if failures else "")
    latencies(report, "requests over links with loss", askings)
    report.line("the highest suspicion seen (from 8 on: unreachable)", suspicion, 7.99, "")
    rig.wait_whole()


def partition(
    rig: NetworkRig, options: argparse.Namespace, report: Report, part: Callable[[], None], heal: Callable[[], None]
) -> None:
    """Part 2 + 3 nodes for a while, look at both halves, and heal."""
    across = [rig.ask("n1", "ep-n4"), rig.ask("n5", "ep-n2"), rig.ask("n3", "ep-n1", "POST"), rig.ask("n2", "both")]
    across.append(rig.ask("n5", "both", "POST"))
    inside = [rig.ask("n1", "ep-n2"), rig.ask("n3", "ep-n5"), rig.ask("n2", "ep-n2", "POST"), rig.ask("n5", "both")]
    for asking in across + inside:
        asking.wait_more(20)
    since = time.time()
    part()
    times = [
        noticed(rig.nodes[id], other, "unreachable", since)
        for half, others in (HALVES, HALVES[::-1])
        for id in half
        for other in others
    ]
    report.times("parted to unreachable at the other half", times, SEEN_MS)
    until = since + options.partition_seconds
    strange: list[str] = []
    while time.time() < until:
        PAUSE.wait(2.0)
        for half, others in (HALVES, HALVES[::-1]):
            wanted = dict.fromkeys(half, "active")
            if time.time() - since < FORGOTTEN_S:
                wanted |= dict.fromkeys(others, "unreachable")
            listed = {id: rig.statuses(id) for id in half}
            at = f"after {time.time() - since:.0f} s"
            strange += [f"{id} {at}: {seen}" for id, seen in listed.items() if not known(seen, wanted)]
    report.check(
        f"{options.partition_seconds} s: each half lists itself and nobody else", not strange, str(strange[:3])
    )
    for asking in inside:
        asking.stop()
    print("  what a half holds is served throughout:")
    for asking in inside:
        failed = asking.failures
        report.check(f"  {asking.name}: none of {len(asking.outcomes)} failed", not failed, str(failed[:3]))
    gone = [one for asking in across[:3] for one in asking.outcomes if one.problem]
    report.check(
        "what only the other half holds is 502", all(one.problem.startswith("502") for one in gone), str(gone[:3])
    )
    report.line("the longest wait for such an answer", max(one.ended - one.started for one in gone) * 1000, ANSWERED_MS)
    first = min(one.started for one in gone)
    later = [one for one in gone if one.started > first + 10.0]
    if later:
        report.line("  of those asked 10 s later", max(one.ended - one.started for one in later) * 1000)
    report.line(
        "what both halves hold: longest wait", max(asking.longest_s for asking in across[3:]) * 1000, ANSWERED_MS
    )
    failed = across[3].failures
    report.check(f"  none of {len(across[3].outcomes)} GETs failed", not failed, str(failed[:3]))
    report.line("  POSTs that failed, in flight at the parting", len(across[4].failures), 3, "")
    healed = time.monotonic()
    heal()
    rig.wait_whole()
    report.line("healed to one cluster, all served by all", (time.monotonic() - healed) * 1000, HEALED_MS)
    for asking in across:
        asking.wait_more(20)
        asking.stop()
    report.check("no POST came twice", not came_twice(rig.services.values(), "POST"))
    for id in FIVE:
        ids = [row["id"] for row in rig.net[id].do(rig.nodes[id].admin.rows)]
        report.check(f"{id} lists each node once", sorted(ids) == sorted(FIVE), str(ids))


def known(listed: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    """Whether a node lists what is wanted, and beside it only nodes that it is about to forget."""
    more = {status for id, status in listed.items() if id not in wanted}
    return more <= {"unreachable"} and all(listed.get(id) == status for id, status in wanted.items())


def partition_wire(rig: NetworkRig, options: argparse.Namespace, report: Report) -> None:
    """The wire between the switches is broken, and mended."""
    net = rig.net
    partition(rig, options, report, lambda: net.cut_wire(cut=True), lambda: net.cut_wire(cut=False))


def partition_drop(rig: NetworkRig, options: argparse.Namespace, report: Report) -> None:
    """Each half drops what comes from the other."""
    partition(rig, options, report, rig.net.drop_between_halves, rig.net.heal)


def dead_machine(rig: NetworkRig, options: argparse.Namespace, report: Report) -> None:
    """A machine is off the network from one moment to the next: no reset, no farewell."""
    while True:
        agent = rig.net["n2"].do(rig.agent, {"moving": rig.services["n2"].address}, ["n1", "n3"], "agent-moving")
        if wait_until(lambda: _holder(rig, "moving"), "the agent that will move") == "n1":
            break
        agent.close()
        wait_until(lambda: not _holder(rig, "moving"), "the end of an agent at another node")
    askings = [rig.ask(id, "both", method) for id in ("n3", "n5") for method in ("GET", "POST")]
    for asking in askings:
        asking.wait_more(20)
    since, clock = time.time(), time.monotonic()
    rig.net.unplug("n1")
    seen = [noticed(rig.nodes[id], "n1", "unreachable", since) for id in FIVE[1:]]
    report.times("off the network to unreachable at all others", seen, SEEN_MS)
    for asking in askings:
        asking.wait_more(50)
    wait_until(lambda: rig.served("n5", "moving"), "the agent to serve elsewhere", 90.0)
    report.line("its agent serves at another node", (time.monotonic() - clock) * 1000, AGENT_MOVED_MS)
    for asking in askings:
        asking.stop()
        report.line(f"{asking.name}: longest wait", asking.longest_s * 1000, ANSWERED_MS)
        most = 0 if asking.name.startswith("GET") else 1
        report.check(
            f"  {len(asking.failures)} of {len(asking.outcomes)} failed",
            len(asking.failures) <= most,
            str(asking.failures[:3]),
        )
    report.check("no POST came twice", not came_twice(rig.services.values(), "POST"))


def _holder(rig: NetworkRig, endpoint: str) -> str | None:
    for id in FIVE:
        if rig.net[id].do(registrations, rig.nodes[id], "local", endpoint):
            return id
    return None


Part = Callable[[NetworkRig, argparse.Namespace, Report], None]
PARTS: dict[str, Part] = {
    "whole": whole,
    "loss": loss,
    "partition-wire": partition_wire,
    "partition-drop": partition_drop,
    "dead-machine": dead_machine,
}


def main() -> int:
    """Run the parts that were asked for; the exit status."""
    parser = Options(__doc__, PARTS)
    parser.number("--loss", 20, "percent of the packets that are lost")
    parser.number("--loss-seconds", 150, "for how long")
    parser.number("--partition-seconds", 180, "of each partition")
    options = parser.read()
    if lack := missing():
        print(f"netns: {lack}", file=sys.stderr)
        return 1
    return Report().run("netns", PARTS, options, on_machines)


@contextmanager
def on_machines(directory: Path) -> Iterator[NetworkRig]:
    """A NetworkRig on a network of its own."""
    with network() as net:
        rig = NetworkRig(net, directory)
        try:
            yield rig
        finally:
            rig.close()


if __name__ == "__main__":
    sys.exit(exit_status(main))
