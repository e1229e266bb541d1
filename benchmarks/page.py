"""What somebody who looks at the live page costs a node that is at work.

    python -m benchmarks.page [--endpoints 200] [--rate 1000] [--seconds 20] [--repeat 3]

A node, an agent that serves all the endpoints, and a client that sends so many requests a second to one after the
other. Nobody looks, then one does, then several, and each time the CPU of the node is told, as a share of one core. The
client sends the same whoever looks; what is more than with nobody is what the viewers cost.
"""

from __future__ import annotations

import http.client
import itertools
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from statistics import median
from typing import Final

from benchmarks.bed import bed
from tools.stage.nodes import Node
from tools.stage.ports import HOST
from tools.stage.report import Options, exit_status
from tools.stage.waiting import StageFailed

VIEWERS: Final = (0, 1, 4)
CONNECTIONS: Final = 4
"""Of the client: each sends its share of the requests, one after the other."""
SETTLE_S: Final = 12.0
"""After a viewer has come or gone: for as long after the last look all requests are kept."""
_READ_BYTES: Final = 65536


class Client:
    """Sends requests at a steady rate, in the background.

    Args:
        port: of the node.
        endpoints: that are asked for, in turn.
        rate: requests in a second.
    """

    def __init__(self, port: int, endpoints: list[str], rate: int) -> None:
        self.answered = 0
        self.failed: list[str] = []
        self._over = threading.Event()
        share = len(endpoints) // CONNECTIONS
        parts = [endpoints[at * share : (at + 1) * share] for at in range(CONNECTIONS)]
        run = partial(self._run, port, every_s=CONNECTIONS / rate)
        self._threads = [threading.Thread(target=run, args=(part,)) for part in parts]
        for thread in self._threads:
            thread.start()

    def _run(self, port: int, endpoints: list[str], every_s: float) -> None:
        try:
            with socket.create_connection((HOST, port), timeout=10) as connection:
                due = time.monotonic()
                for endpoint in itertools.cycle(endpoints):
                    if self._over.is_set():
                        return
                    head = f"GET /small HTTP/1.1\r\nHost: bench\r\nx-pico-endpoint: {endpoint}\r\n\r\n"
                    connection.sendall(head.encode())
                    if not connection.recv(_READ_BYTES).startswith(b"HTTP/1.1 200 "):
                        raise StageFailed(f"{endpoint} is not served")
                    self.answered += 1
                    due += every_s
                    time.sleep(max(0.0, due - time.monotonic()))
        except (OSError, StageFailed) as error:
            self.failed.append(str(error))

    def stop(self) -> None:
        """End it. Raises StageFailed when a request failed."""
        self._over.set()
        for thread in self._threads:
            thread.join()
        if self.failed:
            raise StageFailed(self.failed[0])


@contextmanager
def viewer(node: Node) -> Iterator[list[int]]:
    """Somebody who looks; what they were told, in bytes, is counted in the list's only number."""
    connection = http.client.HTTPConnection(HOST, node.ports.admin, timeout=30)
    connection.request("GET", "/live", headers={"accept": "text/event-stream"})
    response = connection.getresponse()
    read = [0]

    def count() -> None:
        with suppress(http.client.IncompleteRead):  # it is left in the middle
            while data := response.read1(_READ_BYTES):
                read[0] += len(data)

    reading = threading.Thread(target=count)
    reading.start()
    yield read
    connection.sock.shutdown(socket.SHUT_RDWR)
    reading.join()
    connection.close()


def measured(node: Node, client: Client, viewers: int, seconds: float) -> tuple[float, float, float]:
    """The node's share of a core in percent, requests in a second, and bytes in a second to each viewer."""
    with ExitStack() as stack:
        read = [stack.enter_context(viewer(node)) for _ in range(viewers)]
        time.sleep(SETTLE_S)
        began, cpu_s, answered, told = time.monotonic(), node.cpu_s(), client.answered, sum(one[0] for one in read)
        time.sleep(seconds)
        took_s = time.monotonic() - began
        return (
            100 * (node.cpu_s() - cpu_s) / took_s,
            (client.answered - answered) / took_s,
            (sum(one[0] for one in read) - told) / took_s / max(1, viewers),
        )


def main() -> None:
    """The command."""
    parser = Options(__doc__)
    parser.number("--endpoints", 200, "that are served and asked for")
    parser.number("--rate", 1000, "requests in a second")
    parser.number("--seconds", 20, "of one figure")
    parser.number("--repeat", 3, "rounds")
    arguments = parser.read()
    found: dict[int, list[tuple[float, float, float]]] = {count: [] for count in VIEWERS}
    with bed() as test_bed:
        node = test_bed.node("page-node")
        endpoints = [f"page-{number}" for number in range(arguments.endpoints)]
        test_bed.agent("page-agent", node, endpoints=endpoints)
        node.wait_until(lambda: len(node.admin.endpoints()) == len(endpoints), "all endpoints")
        client = Client(node.ports.proxy, endpoints, arguments.rate)
        try:
            for _ in range(arguments.repeat):
                for count in VIEWERS:
                    found[count].append(measured(node, client, count, arguments.seconds))
        finally:
            client.stop()
    alone = median(share for share, _, _ in found[0])
    print(f"{arguments.endpoints} endpoints, {arguments.repeat} rounds of {arguments.seconds} s")
    print(f"{'viewers':>8}{'% of a core':>14}{'more':>8}{'each':>8}{'requests/s':>12}{'KB/s each':>11}")
    for count, figures in found.items():
        share, rate, told = (median(column) for column in zip(*figures, strict=True))
        each = (share - alone) / count if count else 0.0
        print(f"{count:>8}{share:>14.1f}{share - alone:>8.1f}{each:>8.1f}{rate:>12.0f}{told / 1000:>11.1f}")


if __name__ == "__main__":
    sys.exit(exit_status(main))
