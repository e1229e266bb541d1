"""A node for the fuzz run, in a process of its own: proxy and upstream port on loopback.

Prints its ports as one line of JSON. Then it answers each line on its standard input with a line of JSON about itself;
but "drain <endpoint>" makes it tell the agents of an endpoint that the node drains, and has no answer. Every failure
that is logged goes to standard error behind the word FAILURE. Ends with its standard input.
"""

from __future__ import annotations

import faulthandler
import gc
import json
import signal
import sys
from typing import Any

from pico_twisted.app.process.reactor import install_reactor

install_reactor()

from twisted.internet import reactor as installed_reactor  # noqa: E402
from twisted.internet.stdio import StandardIO  # noqa: E402
from twisted.logger import ILogObserver, LogEvent, globalLogBeginner  # noqa: E402
from twisted.protocols.basic import LineReceiver  # noqa: E402
from zope.interface import implementer  # noqa: E402

from tests.doubles.node import MemoryNode  # noqa: E402
from tools.stage.kernel import memory_mib  # noqa: E402

reactor: Any = installed_reactor


class Console(LineReceiver):
    """Answers questions about the node."""

    delimiter = b"\n"

    def __init__(self, parts: MemoryNode, failures: list[str]) -> None:
        self._parts = parts
        self._failures = failures

    def lineReceived(self, line: bytes) -> None:
        parts = self._parts
        if line.startswith(b"drain "):
            for tunnel in parts.cluster.tunnels():
                if tunnel.endpoint == line[6:].decode():
                    tunnel.drain()
            return
        gc.collect()
        tunnels = list(parts.upstream.connections)
        answer = {
            "memory_mib": memory_mib(),
            "failures": len(self._failures),
            "connections": len(parts.proxy.connections),
            "sessions": len(tunnels),
            "pending": len(parts.cluster.pending),
            "watched": len(parts.sweep._items),
            "held": parts.upstream.held_bytes() + parts.proxy.held_bytes(),
            "requests": parts.proxy.requests,
            "endpoints": parts.cluster.registry.counts(),
        }
        self.sendLine(json.dumps(answer).encode())

    def connectionLost(self, reason: object = None) -> None:
        reactor.stop()


def main() -> None:
    """Run until the standard input ends."""
    faulthandler.register(signal.SIGUSR1)
    failures: list[str] = []

    @implementer(ILogObserver)
    def observe(event: LogEvent) -> None:
        failure = event.get("log_failure")
        if failure is not None:
            failures.append(failure.getTraceback())
            sys.stderr.write(f"FAILURE {event.get('log_format')}\n{failures[-1]}\n")
            sys.stderr.flush()

    globalLogBeginner.beginLoggingTo([observe], redirectStandardIO=False)
    parts = MemoryNode(
        reactor,
        gathers=True,
        timeout=2.0,
        idle_timeout=1.5,
        head_timeout=0.7,
        keepalive_timeout=0.7,
        buffered_bytes=1 << 30,
        sessions=10_000,
        connections=10_000,
        write_log=lambda text: None,
    )
    proxy = reactor.listenTCP(0, parts.proxy, interface="127.0.0.1", backlog=500)
    upstream = reactor.listenTCP(0, parts.upstream, interface="127.0.0.1", backlog=500)
    StandardIO(Console(parts, failures))
    print(json.dumps({"proxy": proxy.getHost().port, "upstream": upstream.getHost().port}), flush=True)
    reactor.run()


if __name__ == "__main__":
    main()
