"""Host names into IPs, so that names whose look-up hangs hold up neither other names nor the end of the process.

What is needed: the answers of getaddrinfo(3), with /etc/hosts, search domains and whatever else a machine is set up to
ask. It blocks, for as long as name servers are silent, and cannot be cancelled; so it needs threads.

What can go wrong with a pool of threads, as Twisted has one: a few requests to one name that nobody answers take all of
its ten threads, and every other name of the process waits behind them. Whoever waited has long given up, and the
look-up still has its thread. And the process cannot end before all threads have.

What was chosen: one look-up in flight for a name, whose answer all get who wait for it; a thread for each, for which
nobody waits at the end. A name that was slow before is kept to a part of the threads, so there are always some for the
others. A look-up that takes too long is over for those who wait, and the next who asks starts another.

What was rejected: asking name servers ourselves (twisted.names), which would answer other than every other program of
the machine does. Nothing is kept either: how long an answer holds is not told, and the machine has its own cache if it
has any.
"""

from __future__ import annotations

import _thread
import socket
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal

import attrs
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IAddress, IDelayedCall, IHostnameResolver, IHostResolution, IResolutionReceiver
from twisted.logger import Logger
from zope.interface import implementer

log = Logger()

LOOKUP_S: Final = 30.0
"""Seconds after which whoever waits for a name is told that it has no address: glibc asks three silent name servers
twice in that time."""
SLOW_S: Final = 1.0
"""Seconds that a look-up takes from which its name counts as slow, until one is quicker."""
MAX_LOOKUPS: Final = 64
"""Most look-ups at a time, each with a thread; others wait in line."""
MAX_SLOW_LOOKUPS: Final = 48
"""Most look-ups at a time of names that were slow before."""
MAX_SLOW_NAMES: Final = 1024
"""Most names that are remembered as slow; the one that has been for longest is forgotten."""

# IReactorTime and IReactorFromThreads: Python has no name for both at once
LookupReactor = Any

Found = Sequence[tuple[Any, ...]]  # what getaddrinfo returns, whose addresses differ by the family
GetAddrInfo = Callable[[str, int, int, int], Found]

_FAMILIES: Final = {
    frozenset((IPv4Address,)): socket.AF_INET,
    frozenset((IPv6Address,)): socket.AF_INET6,
}
_KINDS: Final = {"TCP": socket.SOCK_STREAM, "UDP": socket.SOCK_DGRAM}


@implementer(IHostResolution)
@attrs.frozen(eq=False)
class _Waiting:
    """One who waits for a name."""

    name: str
    receiver: IResolutionReceiver
    port: int
    leave: Callable[[_Waiting], object]

    def cancel(self) -> None:
        """Wait no more."""
        self.leave(self)


@attrs.define(eq=False)
class _Lookup:
    """One call of getaddrinfo, from the first who asked until it has returned."""

    host: str
    family: int
    transport: Literal["TCP", "UDP"]
    began_s: float = 0.0
    timer: IDelayedCall | None = None
    waiting: dict[_Waiting, None] = attrs.Factory(dict)

    @property
    def key(self) -> tuple[str, int, str]:
        """What those who share a look-up agree in."""
        return (self.host, self.family, self.transport)


@implementer(IHostnameResolver)
class NameLookups:
    """The resolver of a process; see the module. To be installed in its reactor.

    Args:
        reactor: takes the answers.
        getaddrinfo: looks a name up, and may take for ever.
    """

    def __init__(self, reactor: LookupReactor, getaddrinfo: GetAddrInfo = socket.getaddrinfo) -> None:
        self._reactor = reactor
        self._getaddrinfo = getaddrinfo
        self._wanted: dict[tuple[str, int, str], _Lookup] = {}
        self._line: dict[_Lookup, None] = {}
        self._running: dict[_Lookup, None] = {}
        self._slow: dict[str, None] = {}

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[type[IAddress]] | None = None,
        transportSemantics: str = "TCP",
    ) -> IHostResolution:
        """See `IHostnameResolver.resolveHostName`."""
        family = _FAMILIES.get(frozenset(addressTypes or ()), socket.AF_UNSPEC)
        lookup = _Lookup(hostName, family, "UDP" if transportSemantics == "UDP" else "TCP")
        known = self._wanted.setdefault(lookup.key, lookup)
        waiting = _Waiting(hostName, resolutionReceiver, portNumber, lambda one: known.waiting.pop(one, None))
        known.waiting[waiting] = None
        resolutionReceiver.resolutionBegan(waiting)
        if known is lookup:
            lookup.timer = self._reactor.callLater(LOOKUP_S, self._give_up, lookup)
            self._line[lookup] = None
            self._start_next()
        return waiting

    def _start_next(self) -> None:
        """Start the first in line for which there is a thread."""
        slow = sum(lookup.host in self._slow for lookup in self._running)
        for lookup in list(self._line):
            if len(self._running) >= MAX_LOOKUPS:
                return
            is_slow = lookup.host in self._slow
            if is_slow and slow >= MAX_SLOW_LOOKUPS:
                continue
            slow += is_slow
            del self._line[lookup]
            self._running[lookup] = None
            lookup.began_s = self._reactor.seconds()
            try:
                # Not of `threading`: that would keep us waiting until it runs. Nobody waits for its end either.
                _thread.start_new_thread(self._look_up, (lookup,))
            except RuntimeError as error:
                log.error("No thread for looking up {name}", name=lookup.host, reason=str(error))
                self._ended(lookup, [])

    def _look_up(self, lookup: _Lookup) -> None:
        """Run in a thread."""
        try:
            found = self._getaddrinfo(lookup.host, 0, lookup.family, _KINDS[lookup.transport])
        except (OSError, UnicodeError):
            found = []
        self._reactor.callFromThread(self._ended, lookup, found)

    def _ended(self, lookup: _Lookup, found: Found) -> None:
        del self._running[lookup]
        if self._reactor.seconds() - lookup.began_s >= SLOW_S:
            self._remember(lookup.host)
        else:
            self._slow.pop(lookup.host, None)
        self._tell(lookup, found)
        self._start_next()

    def _give_up(self, lookup: _Lookup) -> None:
        """It may still hold a thread, which ends by itself or not at all."""
        lookup.timer = None
        if lookup in self._running:
            self._remember(lookup.host)
        self._line.pop(lookup, None)
        self._tell(lookup, [])

    def _remember(self, host: str) -> None:
        self._slow.pop(host, None)
        self._slow[host] = None
        if len(self._slow) > MAX_SLOW_NAMES:
            del self._slow[next(iter(self._slow))]

    def _tell(self, lookup: _Lookup, found: Found) -> None:
        if self._wanted.get(lookup.key) is lookup:
            del self._wanted[lookup.key]
        timer, lookup.timer = lookup.timer, None
        if timer is not None:
            timer.cancel()
        waiting, lookup.waiting = lookup.waiting, {}
        for one in waiting:
            try:
                for family, _, _, _, address in found:
                    kind = IPv6Address if family == socket.AF_INET6 else IPv4Address
                    one.receiver.addressResolved(kind(lookup.transport, address[0], one.port, *address[2:]))
                one.receiver.resolutionComplete()
            except Exception:
                log.failure("An address could not be taken", name=lookup.host)
