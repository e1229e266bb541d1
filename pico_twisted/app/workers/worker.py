"""What a worker is given by its parent: one of several processes that share the ports of a host.

It comes in one variable of the environment, as JSON, and holds no secret: who the worker is, where its siblings are,
and the numbers of descriptors that it has inherited. The last of them is a pipe on which nothing is ever sent: it ends
with the parent, however that ends, and then the worker drains.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Callable, Mapping, MutableMapping

import attrs
from twisted.internet.interfaces import IReadDescriptor
from twisted.logger import ILogObserver, LogEvent
from twisted.python.failure import Failure
from zope.interface import implementer

from pico_twisted.app.process.reactor import IDaemonReactor
from pico_twisted.config import NodeConfig
from pico_twisted.config.values import Address
from pico_twisted.net.admin.workers import Siblings

VARIABLE = "PICO_WORKER"
LOCAL_ADMIN = "local-admin"
"""The name of the admin port as a file among the descriptors of a worker."""
NOTIFY = "notify-"
"""Beginning of the names of the sockets at which workers speak as if to systemd."""


@attrs.frozen(kw_only=True)
class Worker:
    """One worker.

    Attributes:
        node_id: its ID in the cluster.
        gossip: where its gossip port listens.
        advertised: what gossip tells in its place, if the operator set that.
        others: the gossip port of each other worker.
        descriptors: listening sockets, by the name of the port; `LOCAL_ADMIN` is that of operators of this machine.
        pipe: ends when the parent ends.
        number: its own, from 0.
        sockets: paths of the workers' Unix sockets for the admin port, by number; its own is among them.
        joins_others: whether it has joined only once it knows a node of another host.
    """

    node_id: str
    gossip: Address
    advertised: Address | None
    others: tuple[Address, ...]
    descriptors: Mapping[str, int]
    pipe: int
    number: int
    sockets: tuple[str, ...]
    joins_others: bool

    @property
    def host_id(self) -> str:
        """What the IDs of all workers of the host begin with."""
        return self.node_id.removesuffix(f"-w{self.number}")

    def is_sibling(self, node_id: str) -> bool:
        """Whether a node is another worker of the host."""
        return node_id in (f"{self.host_id}-w{at}" for at in range(len(self.sockets)))

    def to_json(self) -> str:
        """The text that `worker_from` reads."""
        return json.dumps(attrs.asdict(self))

    def configured(self, config: NodeConfig) -> NodeConfig:
        """The host's configuration, as this worker is to understand it."""
        gossip = attrs.evolve(config.cluster.gossip, bind_addr=self.gossip, advertise_addr=self.advertised)
        return attrs.evolve(config, cluster=attrs.evolve(config.cluster, node_id=self.node_id, gossip=gossip))

    def local_admin(self) -> socket.socket | None:
        """The socket at which all workers answer operators of this machine, if there is one."""
        descriptor = self.descriptors.get(LOCAL_ADMIN)
        return None if descriptor is None else socket.socket(fileno=descriptor)

    def siblings(self) -> Siblings:
        """The other workers of the host, which the admin port asks."""
        others = {f"{self.host_id}-w{at}": at for at in range(len(self.sockets)) if at != self.number}
        return Siblings(
            label=str(self.number),
            labels={node_id: str(at) for node_id, at in others.items()},
            sockets={node_id: self.sockets[at] for node_id, at in others.items()},
        )

    def numbered(self, observer: ILogObserver) -> ILogObserver:
        """An observer of the log whose lines say which worker they are of."""
        return _Numbered(observer, self.number)

    def clean_up(self) -> None:
        """Remove what is left of the host's directory, when the parent that made it is gone. The last worker does."""
        directory, own = os.path.split(self.sockets[self.number])
        for name in (own, f"{NOTIFY}{self.number}"):
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(directory, name))
        with contextlib.suppress(OSError):
            os.rmdir(directory)

    def watch_parent(self, reactor: IDaemonReactor, ended: Callable[[], None]) -> None:
        """Have `ended` called once, when the parent is gone."""
        reactor.addReader(_ParentPipe(reactor, self.pipe, ended))


@implementer(ILogObserver)
class _Numbered:
    """Gives each event the number of a worker."""

    def __init__(self, observer: ILogObserver, number: int) -> None:
        self._observer = observer
        self._number = number

    def __call__(self, event: LogEvent) -> None:
        self._observer({**event, "worker": self._number})


@implementer(IReadDescriptor)
class _ParentPipe:
    """Reads the pipe. It is never readable but at its end."""

    def __init__(self, reactor: IDaemonReactor, descriptor: int, ended: Callable[[], None]) -> None:
        self._reactor = reactor
        self._descriptor = descriptor
        self._ended = ended

    def fileno(self) -> int:
        return self._descriptor

    def logPrefix(self) -> str:
        return "parent"

    def doRead(self) -> None:
        self._reactor.removeReader(self)
        self.connectionLost(None)

    def connectionLost(self, reason: Failure | None) -> None:
        """The pipe ended, which epoll tells as a hang-up, or the reactor ends."""
        os.close(self._descriptor)
        self._descriptor = -1
        if self._reactor.running:
            self._ended()


def worker_from(environ: MutableMapping[str, str]) -> Worker | None:
    """The worker that the environment makes of this process, if any. The variable is taken out."""
    text = environ.pop(VARIABLE, "")
    if not text:
        return None
    given = json.loads(text)
    advertised = given.pop("advertised")
    return Worker(
        gossip=Address(**given.pop("gossip")),
        advertised=None if advertised is None else Address(**advertised),
        others=tuple(Address(**one) for one in given.pop("others")),
        sockets=tuple(given.pop("sockets")),
        **given,
    )
