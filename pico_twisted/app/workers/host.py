"""The parent of several nodes on one host, which share its ports.

A node uses one core. With `cluster.workers` the process that twistd started serves nothing itself: it binds the ports,
starts workers, each a full node of the cluster, and looks after them as systemd looks after it. systemd sees one
service.

Each worker has a listening socket of its own for every shared port, with SO_REUSEPORT, so the kernel spreads
connections evenly; workers that accept from one socket get shares as uneven as 94 to 6. The parent holds all of these
sockets open. When a worker dies or hangs, the kernel is told to give it no new connections (`steering`); those that
were in its queues before that wait there for the next process with its number, which takes clients once it knows what
the others know. The gossip port is not inherited: what waited in it would look younger than it is.

A worker that ends is started again, later each time until it stayed up for a while. One that ends before all were
ever ready ends everything: the configuration is bad, or the host lacks something.
"""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
import signal
import socket
import sys
from typing import Any

from twisted.internet.interfaces import IProcessTransport
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger

from pico_twisted import __version__
from pico_twisted.app.cli.banner import counted
from pico_twisted.app.cli.options import NodeOptions
from pico_twisted.app.process.advertised import AdvertisedPorts
from pico_twisted.app.process.daemon import Daemon
from pico_twisted.app.process.handed import handed_over
from pico_twisted.app.process.local_admin import local_admin_socket
from pico_twisted.app.process.own_address import is_this_machine
from pico_twisted.app.process.ports import PAIR_ATTEMPTS, Attempts, CannotStart, is_loopback
from pico_twisted.app.process.reactor import IDaemonReactor
from pico_twisted.app.process.shared_ports import bound_address, shared_sockets, shared_unix_socket
from pico_twisted.app.workers.cpu_affinity import settle, usable_cores
from pico_twisted.app.workers.process import LOOK_S, WorkerProcess
from pico_twisted.app.workers.reuseport_bpf import steer
from pico_twisted.app.workers.runtime_dir import RuntimeDir
from pico_twisted.app.workers.worker import LOCAL_ADMIN, NOTIFY, VARIABLE, Worker
from pico_twisted.config import ConfigFaults, NodeConfig
from pico_twisted.config.values import Address
from pico_twisted.net.admin.shapes.reload import Reloaded
from pico_twisted.net.observe.logs import Logging
from pico_twisted.net.socket.socket_files import SocketFile

log = Logger()

SHARED = ("proxy", "upstream", "admin")
FIRST_DESCRIPTOR = 3
"""The first descriptor that a worker inherits; those below it are the standard ones."""
MARGIN_S = 5.0
"""Seconds that workers get to end by themselves, beyond their grace period."""
MAX_SOCKET_PATH = 100
"""Most bytes of the path of a Unix socket. Systems have room for 104 to 108, with the zero at the end."""
RUN = "from twisted.scripts.twistd import run; run()"


class Host(Daemon[NodeConfig]):
    """The parent.

    Args:
        reactor: of the process.
        config: of all workers.
        options: how twistd was called; workers are called in the same way.
        logging: of the process.
        count: how many workers.
    """

    def __init__(
        self, reactor: IDaemonReactor, config: NodeConfig, options: NodeOptions, logging: Logging, count: int
    ) -> None:
        super().__init__(reactor, options, config.grace_period + MARGIN_S, logging)
        self._config = config
        self._node_id = config.cluster.node_id or config.cluster.node_id_prefix + secrets.token_hex(4)
        self._count = count
        cores = usable_cores()
        self._cores = cores if len(cores) == count else []
        self._sockets: dict[str, list[socket.socket]] = {}
        self._files: dict[str, SocketFile] = {}
        self._local_admin: socket.socket | None = None
        self._bound: dict[str, Address] = {}
        self._pipe: tuple[int, int] = (-1, -1)
        self._runtime_dir: RuntimeDir | None = None
        self._gossip_port = 0
        self._joins_others = False
        self._was_ready = False
        self._advertised: AdvertisedPorts | None = None
        self.workers: list[WorkerProcess] = []

    # Daemon

    def bind(self) -> None:
        """Bind the shared ports, and find numbers for the gossip ports. See `Daemon.bind`."""
        cluster = self._config.cluster
        if handed_over(self.reactor).left:
            raise CannotStart(
                "cluster.workers cannot use sockets that systemd hands over, since each worker has its own: disable "
                "the socket unit, or set cluster.workers to 1"
            )
        attempts = Attempts()
        for name in SHARED:
            address = getattr(self._config, name).listen_addr
            with attempts.each():
                if address.path:
                    mode = getattr(self._config, name).socket_mode
                    shared = shared_unix_socket(f"{name}.bind_addr", address, mode, self._count)
                    self._sockets[name], self._files[name] = shared
                else:
                    self._sockets[name] = shared_sockets(f"{name}.bind_addr", address, self._count)
                self._bound[name] = bound_address(self._sockets[name][0])
        attempts.check()
        self._gossip_port = _free_row(cluster.gossip_bind_addr, self._count)
        self._bound["gossip"] = Address(_bound_ip(cluster.gossip_bind_addr), self._gossip_port)
        self._joins_others = not all(map(self._is_ours, cluster.join))
        self._local_admin = local_admin_socket(os.environ)
        self._pipe = os.pipe()

    def make_ready(self) -> None:
        """Make the directory of the workers' sockets, which is for the user that they run as."""
        try:
            self._runtime_dir = RuntimeDir()
        except OSError as error:
            raise CannotStart(f"cannot make a directory for the workers' sockets: {error}") from error
        if len(self.socket_path(self._count)) > MAX_SOCKET_PATH:
            raise CannotStart(f"the path of the directory for temporary files is too long: {self._runtime_dir.path}")

    def serve(self) -> None:
        """Start the workers."""
        self.workers = [WorkerProcess(self, number) for number in range(self._count)]
        self._advertised = AdvertisedPorts(self._config, self._bound)  # looks names up: before the reactor runs
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
        if self._runtime_dir is not None:
            self._runtime_dir.remove()

    def reload(self, by: str) -> Reloaded:
        """Read the configuration again, and pass it on: each worker does the same, if all is well with it."""
        reloaded = super().reload(by)
        if not reloaded.faults:
            for worker in self.workers:
                worker.pass_on(signal.SIGHUP)
        return reloaded

    def worker_reloads(self) -> None:
        """A worker was asked for a reload, and has taken the configuration: so do we."""
        with contextlib.suppress(ConfigFaults):
            self._reload()

    def reopen_logs(self) -> None:
        """Pass it on, too: each worker writes access lines to their file by itself."""
        super().reopen_logs()
        for worker in self.workers:
            worker.pass_on(signal.SIGUSR1)

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
        for file in self._files.values():
            file.remove()
        for sockets in self._sockets.values():
            for sock in sockets:
                sock.close()
        self._sockets.clear()
        if self._local_admin is not None:
            self._local_admin.close()

    # What a WorkerProcess asks and tells

    def worker_is_ready(self, number: int, pid: int) -> None:
        """A worker has started, for which it had all cores."""
        if self._cores:
            settle(pid, self._cores[number])

    def worker_changed(self) -> None:
        """New connections go where they are taken. Once all are ready the host is up."""
        numbers = [worker.number for worker in self.workers if worker.takes]
        for name, sockets in self._sockets.items():
            if name not in self._files:  # of whose sockets a worker takes what it can
                steer(sockets[0], numbers, self._count)
        if not self._was_ready and not self.stopping and self.ready_state():
            self._was_ready = True
            self._say_up()

    def worker_ended(self, number: int, status: str) -> bool:
        """A worker ended. Returns whether it is to be started again."""
        if self.stopping:
            return False
        if not self._was_ready:
            self.fail(f"worker {number} ended before all were ready: {status}")
            return False
        log.warn("Worker {number} ended and is started again", number=number, status=status)
        return True

    def socket_path(self, number: int) -> str:
        """The path of the socket on which a worker tells that it is ready and alive."""
        return self._path(f"{NOTIFY}{number}")

    def _path(self, name: str) -> str:
        assert self._runtime_dir is not None
        return os.path.join(self._runtime_dir.path, name)

    def spawn(self, protocol: ProcessProtocol, number: int) -> IProcessTransport:
        """Start the process of a worker."""
        assert self._runtime_dir is not None
        given = [self._sockets[name][number].fileno() for name in SHARED] + [
            self._pipe[0],
            self._runtime_dir.descriptor,
        ]
        inherited = {name: FIRST_DESCRIPTOR + at for at, name in enumerate(SHARED)}
        if self._local_admin is not None:
            inherited[LOCAL_ADMIN] = FIRST_DESCRIPTOR + len(given)
            given.append(self._local_admin.fileno())
        descriptors = {FIRST_DESCRIPTOR + at: descriptor for at, descriptor in enumerate(given)}
        bind = self._config.cluster.gossip_bind_addr
        near = "127.0.0.1" if bind.is_all else bind.host
        advertise = self._config.cluster.gossip.advertise_addr
        worker = Worker(
            node_id=f"{self._node_id}-w{number}",
            gossip=Address(bind.host, self._gossip_port + number),
            advertised=None if advertise is None else Address(advertise.host, advertise.port + number),
            others=tuple(Address(near, self._gossip_port + at) for at in range(self._count) if at != number),
            descriptors=inherited,
            pipe=FIRST_DESCRIPTOR + len(SHARED),
            number=number,
            sockets=tuple(self._path(f"admin-{at}") for at in range(self._count)),
            # Those that were there before know what the cluster knows; new ones know nothing but each other.
            joins_others=self._joins_others and not self._was_ready,
        )
        environment = {
            **os.environ,
            VARIABLE: worker.to_json(),
            "NOTIFY_SOCKET": self.socket_path(number),
            "WATCHDOG_USEC": str(int(2 * LOOK_S * 1_000_000)),  # signs of life come twice within this time
        }
        return self.reactor.spawnProcess(
            protocol,
            sys.executable,
            [sys.executable, "-c", RUN, "-n", "--pidfile=", "pico", *self.options.arguments()],
            env=environment,
            path=self.options.directory,
            childFDs={0: 0, **self._outputs(), **descriptors},
        )

    def _outputs(self) -> dict[int, int | str]:
        """What a worker has as stdout and stderr: where our own log goes, through us if that is a file of twistd's."""
        # usage.Options has no types
        twistd: Any = self.options.parent or {}
        path = twistd.get("logfile") or ""
        if path == "-":
            return {1: 1, 2: 1}
        return {1: "r", 2: "r"} if path or self.options.background else {1: 1, 2: 2}

    def worker_wrote(self, text: str) -> None:
        """Lines of a worker's log, which has no file of its own."""
        self.logging.write(text)

    # What is said at the start

    def _say_up(self) -> None:
        ports = self._advertised
        assert ports is not None
        if self.on_terminal(lambda: ports.banner(self._node_id, self._count)):
            return
        log.info(
            "Node {node_id} is up with {workers} workers",
            node_id=self._node_id,
            workers=self._count,
            version=__version__,
            cluster=self._config.cluster.name,
            **ports.urls,
        )
        loopback = is_loopback(self._bound["gossip"])
        guarded = bool(self._config.cluster.secrets) or loopback
        ports.warn(gossip_is_guarded=guarded)

    def _is_ours(self, address: Address) -> bool:
        """Whether an address in `cluster.join` is a gossip port of this host."""
        advertise = self._config.cluster.gossip.advertise_addr
        rows = [(self._config.cluster.gossip_bind_addr.host, self._gossip_port)]
        rows += [] if advertise is None else [(advertise.host, advertise.port)]
        if not any(port <= address.port < port + self._count for _, port in rows):
            return False
        return any(address.host == host for host, _ in rows) or _is_this_machine(address.host)


_is_this_machine = functools.cache(is_this_machine)


def _bound_ip(address: Address) -> str:
    """The IP that a host name is bound as."""
    if address.is_all:
        return address.host or "::"
    return str(socket.getaddrinfo(address.host, None)[0][4][0])


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
