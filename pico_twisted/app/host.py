"""The parent of several nodes on one host, which share its ports.

A node uses one core. With `cluster.workers` the process that twistd started serves nothing itself: it binds the ports,
starts workers, each a full node of the cluster, and looks after them as systemd looks after it. systemd sees one
service.

Each worker has a listening socket of its own for every shared port, with SO_REUSEPORT, so the kernel spreads
connections evenly; workers that accept from one socket get shares as uneven as 94 to 6. The parent holds all of these
sockets open. When a worker dies, the connections in its queues wait there for the next process with its number.
The gossip port is not inherited: what waited in it would look younger than it is.

A worker that ends is started again, later each time until it stayed up for a while. One that ends before all were
ever ready ends everything: the configuration is bad, or the host lacks something.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
from typing import TYPE_CHECKING, Any

from twisted.internet.protocol import DatagramProtocol, ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from pico_twisted.app.daemon import Daemon, counted
from pico_twisted.app.ports import PAIR_ATTEMPTS, CannotStart, shared_sockets
from pico_twisted.app.worker import VARIABLE, Worker
from pico_twisted.config import NodeConfig
from pico_twisted.config.values import Address
from pico_twisted.net.logs import Logging

if TYPE_CHECKING:
    from pico_twisted.app.options import NodeOptions

log = Logger()

SHARED = ("proxy", "upstream", "admin")
FIRST_DESCRIPTOR = 3
"""Of those that a worker inherits; below it are the standard ones."""
BACKOFF_S = (0.1, 5.0)
"""The first and the longest wait before a worker is started again. It doubles."""
HEALTHY_S = 60.0
"""After so long a life the wait begins anew."""
WATCHDOG_S = 30.0
"""A worker that shows no sign of life for so long is killed."""
MARGIN_S = 5.0
"""What workers get to end by themselves, beyond their grace period."""
RUN = "from twisted.scripts.twistd import run; run()"


def usable_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Host(Daemon):
    """The parent.

    Args:
        reactor: of the process.
        config: of all workers.
        options: how twistd was called; workers are called in the same way.
        logging: of the process.
        count: how many workers.
    """

    def __init__(self, reactor: Any, config: NodeConfig, options: NodeOptions, logging: Logging, count: int) -> None:
        super().__init__(reactor, options.command, config.grace_period + MARGIN_S, logging)
        self._config = config
        self._options = options
        self._node_id = config.cluster.node_id or config.cluster.node_id_prefix + secrets.token_hex(4)
        self._count = count
        self._sockets: dict[str, list[socket.socket]] = {}
        self._pipe: tuple[int, int] = (-1, -1)
        self._directory = ""
        self._gossip_port = 0
        self._was_ready = False
        self.workers: list[WorkerProcess] = []

    # Daemon

    def bind(self) -> None:
        """Bind the shared ports, and find numbers for the gossip ports."""
        for name in SHARED:
            address = getattr(self._config, name).bind_addr
            self._sockets[name] = shared_sockets(f"{name}.bind_addr", address, self._count)
        self._gossip_port = _free_row(self._config.cluster.gossip_bind_addr, self._count)
        self._pipe = os.pipe()
        self._directory = tempfile.mkdtemp(prefix="pico-")  # 0700

    def serve(self) -> None:
        """Start the workers."""
        self.workers = [WorkerProcess(self, number) for number in range(self._count)]
        self.reactor.callWhenRunning(self._start_all)

    def _start_all(self) -> None:
        for worker in self.workers:
            worker.start()

    async def drain(self) -> None:
        """Take no connections any more, pass the signal on, wait for all."""
        self._close_sockets()
        for worker in self.workers:
            worker.signal(signal.SIGTERM)
        await self.until(lambda: not any(worker.running for worker in self.workers))

    def cut(self) -> None:
        """End what has not ended."""
        for worker in self.workers:
            worker.cut()
        self._close_sockets()
        if self._directory:
            shutil.rmtree(self._directory, ignore_errors=True)

    def reload(self) -> None:
        """Pass it on: each worker reads the configuration again, and says what is wrong with it."""
        for worker in self.workers:
            worker.signal(signal.SIGHUP)

    def ready_state(self) -> bool:
        """All workers serve."""
        return bool(self.workers) and all(worker.ready for worker in self.workers)

    def status_line(self) -> str:
        """How many workers serve."""
        if self.stopping:
            return f"draining, {counted(sum(worker.running for worker in self.workers), 'worker')} left"
        ready = sum(worker.ready for worker in self.workers)
        return f"{ready} of {counted(self._count, 'worker')} ready"

    def _close_sockets(self) -> None:
        for sockets in self._sockets.values():
            for sock in sockets:
                sock.close()

    # What a WorkerProcess asks and tells

    def worker_ready(self) -> None:
        """One more worker serves."""
        if not self._was_ready and self.ready_state():
            self._was_ready = True
            log.info("Node {node_id} is up with {workers} workers", node_id=self._node_id, workers=self._count)

    def worker_ended(self, worker: WorkerProcess, status: str) -> bool:
        """A worker ended. Returns whether it is to be started again."""
        if self.stopping:
            return False
        if not self._was_ready:
            self.fail(f"worker {worker.number} ended before all were ready: {status}")
            return False
        log.warn("Worker {worker} ended and is started again", worker=worker.number, status=status)
        return True

    def socket_path(self, number: int) -> str:
        """Where a worker tells that it is ready and alive."""
        return os.path.join(self._directory, f"notify-{number}")

    def spawn(self, protocol: ProcessProtocol, number: int) -> Any:
        """Start the process of a worker."""
        given = [self._sockets[name][number].fileno() for name in SHARED] + [self._pipe[0]]
        descriptors = {FIRST_DESCRIPTOR + at: descriptor for at, descriptor in enumerate(given)}
        bind = self._config.cluster.gossip_bind_addr
        near = "127.0.0.1" if bind.is_all else bind.host
        advertise = self._config.cluster.gossip.advertise_addr
        worker = Worker(
            node_id=f"{self._node_id}-w{number}",
            gossip=(bind.host, self._gossip_port + number),
            advertised=None if advertise is None else (advertise.host, advertise.port + number),
            seeds=tuple((near, self._gossip_port + at) for at in range(self._count) if at != number),
            descriptors={name: FIRST_DESCRIPTOR + at for at, name in enumerate(SHARED)},
            pipe=FIRST_DESCRIPTOR + len(SHARED),
            number=number,
            sockets=tuple(os.path.join(self._directory, f"admin-{at}") for at in range(self._count)),
        )
        environment = {
            **os.environ,
            VARIABLE: worker.to_json(),
            "NOTIFY_SOCKET": self.socket_path(number),
            "WATCHDOG_USEC": str(int(WATCHDOG_S * 1_000_000)),
        }
        return self.reactor.spawnProcess(
            protocol,
            sys.executable,
            [sys.executable, "-c", RUN, "-n", "--pidfile=", "pico", *self._options.arguments()],
            env=environment,
            path=self._options.directory,
            childFDs={0: 0, 1: 1, 2: 2, **descriptors},
        )


class WorkerProcess(ProcessProtocol):
    """One worker, over all of its processes.

    Args:
        host: its parent.
        number: its own, from 0.
    """

    def __init__(self, host: Host, number: int) -> None:
        self.number = number
        self.ready = False
        self.running = False
        self._host = host
        self._reactor = host.reactor
        self._transport: Any = None
        self._listener: Any = None
        self._wait_s = BACKOFF_S[0]
        self._started_s = 0.0
        self._watchdog: Any = None
        self._again: Any = None

    def start(self) -> None:
        """Start the process."""
        self._again = None
        if self._host.stopping:
            return
        if self._listener is None:
            self._listener = self._reactor.listenUNIXDatagram(self._host.socket_path(self.number), _Notices(self))
        self._started_s = self._reactor.seconds()
        self.running = True
        self._watchdog = self._reactor.callLater(WATCHDOG_S, self._silent)
        self._transport = self._host.spawn(self, self.number)

    def signal(self, number: int) -> None:
        """Send a signal, if there is a process."""
        if self.running:
            self._transport.signalProcess(number)

    def cut(self) -> None:
        """Kill the process, and start none."""
        if self._again is not None:
            self._again.cancel()
            self._again = None
        self.signal(signal.SIGKILL)
        if self._listener is not None:
            self._listener.stopListening()
            self._listener = None

    def noticed(self, line: str) -> None:
        """It tells something, as it would systemd."""
        if not self.running:
            return
        if self._watchdog.active():
            self._watchdog.reset(WATCHDOG_S)
        if line == "READY=1" and not self.ready:
            self.ready = True
            self._host.worker_ready()
        elif line == "STOPPING=1":
            self.ready = False

    def _silent(self) -> None:
        log.error("Worker {worker} shows no sign of life and is killed", worker=self.number)
        self.signal(signal.SIGKILL)

    def processEnded(self, reason: Failure) -> None:
        """Start it again, if it is to go on."""
        self.running = self.ready = False
        if self._watchdog.active():
            self._watchdog.cancel()
        error: Any = reason.value
        status = f"signal {error.signal}" if error.signal else f"status {error.exitCode}"
        if not self._host.worker_ended(self, status):
            return
        if self._reactor.seconds() - self._started_s >= HEALTHY_S:
            self._wait_s = BACKOFF_S[0]
        self._again = self._reactor.callLater(self._wait_s, self.start)
        self._wait_s = min(2 * self._wait_s, BACKOFF_S[1])


class _Notices(DatagramProtocol):
    """Where a worker speaks as to systemd."""

    def __init__(self, worker: WorkerProcess) -> None:
        self._worker = worker

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        """Lines of NAME=value."""
        for line in datagram.decode("utf-8", "replace").splitlines():
            self._worker.noticed(line)


def _free_row(address: Address, count: int) -> int:
    """The first of as many numbers in a row as there are workers; with port 0 of numbers that are free now."""
    if address.port:
        return address.port
    for _ in range(PAIR_ATTEMPTS):
        with socket.create_server((address.host or "0.0.0.0", 0)) as first:
            port: int = first.getsockname()[1]
        if port + count <= 65536 and all(_free(address.host, number) for number in range(port, port + count)):
            return port
    raise CannotStart(f"no {count} free ports in a row (cluster.gossip.bind_addr)")


def _free(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as tcp, socket.socket(family, socket.SOCK_DGRAM) as udp:
        try:
            tcp.bind((host, port))
            udp.bind((host, port))
        except OSError:
            return False
    return True
