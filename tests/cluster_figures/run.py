"""Measures what the test suite must not assert: how quickly five nodes notice what happens to one of them.

    python -m tests.cluster_figures.run                 every part
    python -m tests.cluster_figures.run spread stop     some of them

Run by `make cluster-figures`. Nodes and agents are real processes on 127.0.0.1. Each part starts a cluster of its own,
and prints what it measured beside what is promised; the exit status is 1 when a promise was broken.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from tests.peers import v2
from tests.peers.pipe import Ended
from tests.system import wire
from tests.system.asking import Asking
from tests.system.balancer import Balancer
from tests.system.cluster import FIVE, Cluster, Watch, log_time, noticed, running_cluster
from tests.system.handing import Systemd, bound
from tests.system.service import Service, answer
from tests.system.test_restart import opened, streams
from tools.stage.processes import CLOCK_BACK
from tools.stage.report import Options, Report, exit_status
from tools.stage.waiting import wait_until
from tools.stage.wrk import Wrk

SERVED_MEDIAN_MS = 100.0
SERVED_WORST_MS = 500.0
UNREACHABLE_MS = 3000.0
BACK_ELSEWHERE_MS = 2000.0
DRAINING_MS = 500.0
LEFT_MS = 500.0
RESTARTED_MS = 5000.0
BEYOND_MS = 1000.0

_POLL_S = 0.002


@contextmanager
def served(port: tuple[str, int], endpoint: str) -> Iterator[None]:
    """A test's agent, registered, whose service answers at once."""
    peer = v2.Agent(port, endpoint)

    def serve() -> None:
        try:
            while True:
                peer.answer_call(peer.next_call(3600).call, answer(b"ok"))
        except Ended:
            pass

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield
    finally:
        peer.close()


def asked_until_served(clients: dict[str, wire.Stream], endpoint: str) -> float:
    """Ask all nodes until each has served; when the last did (`time.monotonic`)."""
    request = f"GET / HTTP/1.1\r\nHost: a.example\r\nx-pico-endpoint: {endpoint}\r\n\r\n".encode()
    pause = threading.Event()
    for client in clients.values():
        while True:
            client.send(request)
            if client.read_response().status == 200:
                break
            pause.wait(_POLL_S)
    return time.monotonic()


def spread(cluster: Cluster, options: argparse.Namespace, report: Report) -> None:
    """An endpoint registered at one node, served through all five."""
    cluster.start(*FIVE)
    clients = {id: wire.connect(cluster[id].proxy) for id in FIVE}
    times = []
    for number in range(options.tries):
        endpoint = f"fresh-{number}"
        with served(cluster[FIVE[number % 5]].upstream, endpoint):
            registered = time.monotonic()
            times.append(asked_until_served(clients, endpoint) - registered)
    report.times("registered to served by all", times, SERVED_WORST_MS, SERVED_MEDIAN_MS)
    for client in clients.values():
        client.close()


def crash(cluster: Cluster, options: argparse.Namespace, report: Report) -> None:
    """kill -9 of the node that an endpoint's only agent is connected to."""
    service = Service()
    cluster.start(*FIVE)
    unreachable, outages, elsewhere, false = [], [], [], 0
    for number in range(options.crashes):
        # a new one each time: an agent that loses a session every few seconds takes its time
        agent = cluster.agent(["n1", "n2"], {"web": service.address}, name=f"agent-{number}")
        (holder,) = cluster.holders("web")
        (other,) = {"n1", "n2"} - {holder}
        cluster.wait_endpoint(holder, "web")
        cluster.wait_endpoint(other, "web", 0)
        askings = [Asking([cluster[id].proxy], "web", clients=1) for id in (other, "n3", "n4", "n5")]
        for asking in askings:
            asking.wait_more(20)
        watched = cluster.running(but=[holder])
        since = time.time()
        cluster[holder].kill()
        unreachable.append(max(noticed(node, holder, "unreachable", since) for node in watched))
        cluster[other].wait_endpoint("web")
        registered = [one for one in cluster[other].records if one.get("endpoint") == "web" and "slot" in one]
        elsewhere.append(log_time(registered[-1]) - since)
        for asking in askings:
            asking.wait_more(20)
            asking.stop()
        outages.append(max(asking.outage_s for asking in askings))
        agent.terminate()
        agent.wait_exit()
        cluster.again(holder)
        cluster.wait_all(FIVE)
    for node in cluster.running():
        blamed = {one["node"] for one in node.records if one.get("status") == "unreachable"}
        false += len(blamed - {"n1", "n2"})
    report.times("kill -9 to unreachable at all others", unreachable, UNREACHABLE_MS)
    report.times("its agent serves at another node", elsewhere, BACK_ELSEWHERE_MS)
    report.times("longest outage of any client", outages, UNREACHABLE_MS)
    report.check("nobody else was unreachable", not false, str(false))
    service.close()


def stop(cluster: Cluster, options: argparse.Namespace, report: Report) -> None:
    """SIGTERM, under load, of the node that an endpoint's only agent is connected to."""
    service = Service()
    cluster.start(*FIVE)
    cluster.agent(["n1", "n2"], {"web": service.address})
    draining, left, requests, failures = [], [], 0, []
    for _ in range(options.stops):
        (leaver,) = cluster.holders("web")
        (other,) = {"n1", "n2"} - {leaver}
        cluster.wait_endpoint(leaver, "web")
        cluster.wait_endpoint(other, "web", 0)
        balancer = Balancer([cluster[leaver].proxy, cluster["n5"].proxy])
        urls = [f"http://127.0.0.1:{balancer.port}/", cluster["n3"].url()]
        wrks = [Wrk(url, "web", seconds=4, connections=4) for url in urls]
        places = [[cluster[leaver].proxy, cluster["n4"].proxy], [cluster[other].proxy], [cluster["n3"].proxy]]
        askings = [Asking(place, "web", method=method, clients=1) for place in places for method in ("GET", "POST")]
        for asking in askings:
            asking.wait_more(20)
        watched = cluster.running(but=[leaver])
        since = time.time()
        cluster[leaver].terminate()
        draining.append(max(noticed(node, leaver, "draining", since) for node in watched))
        report.check("exit status 0", cluster[leaver].wait_exit() == 0)
        gone = time.time()
        left.append(max(noticed(node, leaver, "left", since) for node in watched) - (gone - since))
        for asking in askings:
            asking.wait_more(20)
            asking.stop()
            requests += len(asking.outcomes)
            failures += [f"{asking.name}: {failed.problem}" for failed in asking.failures]
        for wrk in wrks:
            result = wrk.result()
            requests += result.requests
            failures += [f"wrk: {result.failed}: {result.output}"] if result.failed else []
        balancer.close()
        cluster.again(leaver)
        cluster.wait_all(FIVE)
    report.times("SIGTERM to draining at all others", draining, DRAINING_MS)
    report.times("left at all others, after its exit", left, LEFT_MS)
    report.check(f"none of {requests} requests failed", not failures, f"{len(failures)}: {failures[:3]}")
    service.close()


def restart(cluster: Cluster, options: argparse.Namespace, report: Report) -> None:
    """A node that is started again with the same ID."""
    cluster.start(*FIVE)
    watch = Watch(list(cluster.nodes.values()))
    for end in ("killed", "stopped"):
        for prelude, clock in (("", "its clock is right"), (CLOCK_BACK, "its clock is an hour back")):
            times = []
            for _ in range(options.restarts):
                if end == "killed":
                    cluster["n1"].kill()
                else:
                    cluster.stop("n1")
                since = time.monotonic()
                cluster.again("n1", prelude=prelude)
                for id in FIVE[1:]:
                    wait_until(lambda id=id: knows_new_life(cluster, id), f"{id} to know the new life")  # type: ignore[misc]
                times.append(time.monotonic() - since)
                cluster.wait_all(FIVE)
            report.times(f"{end}, {clock}: start to active everywhere", times, RESTARTED_MS)
    watch.stop()
    try:
        watch.check_unique()
    except AssertionError as error:
        report.check("no node was listed twice", False, str(error))
    else:
        report.check("no node was listed twice", True)


def only(cluster: Cluster, options: argparse.Namespace, report: Report) -> None:
    """The only agent, then the only node, restarted under 200 requests a second while endless streams are open."""
    _restarted_alone(cluster, options, report, ("agent", "node"))


def held(cluster: Cluster, options: argparse.Namespace, report: Report) -> None:
    """The only node, restarted like that, while systemd holds its ports: no connection is refused."""
    held_by = Systemd(cluster.stage.directory / "systemd", {"pico.socket": bound(cluster.ports("n1"))})
    with contextlib.closing(held_by):
        _restarted_alone(cluster, options, report, ("node",), held_by.prelude)


def _restarted_alone(
    cluster: Cluster, options: argparse.Namespace, report: Report, who_restarts: Sequence[str], prelude: str = ""
) -> None:
    service = Service(streams)
    cluster.start("n1", prelude=prelude)
    agent = cluster.agent(["n1"], {"web": service.address})
    for who in who_restarts:
        beyond = []
        for _ in range(options.restarts):
            clients = opened(cluster["n1"])
            load = Asking([cluster["n1"].proxy], "web", clients=8, pause_s=0.035, kept=1)
            load.wait_more(100)
            leaver = agent if who == "agent" else cluster["n1"]
            leaver.terminate()
            leaver.wait_exit()
            since = time.monotonic()
            if who == "agent":
                agent = cluster.agent(["n1"], {"web": service.address})
            else:
                cluster.again("n1", prelude=prelude)
                cluster["n1"].wait_endpoint("web")
            process_s = time.monotonic() - since
            load.wait_more(50)
            load.stop()
            beyond.append(max(0.0, load.outage_s - process_s))
            problems = Counter(outcome.problem.partition(":")[0] for outcome in load.failures)
            report.line(f"{who}: of {len(load.outcomes)} requests failed", len(load.failures), unit="")
            if prelude:
                answered = [problem for problem in problems if problem[:3] in ("502", "503")]
                report.check("no connection was refused or cut", len(answered) == len(problems), str(problems))
            report.line(f"{who}: outage", load.outage_s * 1000)
            report.line(f"{who}: of it the restart of the process itself", process_s * 1000)
            for client in clients:
                client.close()
        report.times(f"{who}: outage beyond the restart of the process", beyond, BEYOND_MS)
    service.close()


def knows_new_life(cluster: Cluster, id: str) -> bool:
    """Whether a node lists the life of the first node that runs now, as active."""
    generation = cluster["n1"].admin.json("/status/gossip/nodes/local")["generation"]
    seen = cluster[id].admin.json("/status/gossip/nodes/n1")
    return bool(seen["generation"] == generation and seen["status"] == "active")


Part = Callable[[Cluster, argparse.Namespace, Report], None]
PARTS: dict[str, Part] = {
    "spread": spread,
    "crash": crash,
    "stop": stop,
    "restart": restart,
    "only": only,
    "held": held,
}


def main() -> int:
    """Run the parts that were asked for; the exit status."""
    parser = Options(__doc__, PARTS)
    parser.number("--tries", 100, "registrations")
    parser.number("--crashes", 10, "nodes killed")
    parser.number("--stops", 5, "nodes stopped")
    parser.number("--restarts", 3, "restarts of each kind")
    options = parser.read()
    return Report().run("cluster-figures", PARTS, options, running_cluster)


if __name__ == "__main__":
    sys.exit(exit_status(main))
