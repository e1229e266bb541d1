"""Names that are looked up: in threads that hang, as those of silent name servers do, and that never end."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IAddress, IHostResolution, IResolutionReceiver
from twisted.internet.task import Clock
from zope.interface import implementer

from pico_twisted.net.socket.names import LOOKUP_S, MAX_LOOKUPS, MAX_SLOW_LOOKUPS, SLOW_S, NameLookups

PATIENCE_S = 30.0
V4 = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 0))
V6 = (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("2001:db8::1", 0, 0, 7))


class Reactor(Clock):
    """A clock, and a queue of what threads ask for."""

    def __init__(self) -> None:
        super().__init__()
        self._asked: list[Callable[[], object]] = []
        self._came = threading.Condition()

    def callFromThread(self, what: Callable[..., object], *given: Any) -> None:
        with self._came:
            self._asked.append(lambda: what(*given))
            self._came.notify()

    def take(self, count: int) -> None:
        """Do so much of what threads ask for, as it comes."""
        for _ in range(count):
            with self._came:
                assert self._came.wait_for(lambda: self._asked, PATIENCE_S)
                asked = self._asked.pop(0)
            asked()


@implementer(IResolutionReceiver)
class Receiver:
    """Who waits for a name."""

    def __init__(self) -> None:
        self.addresses: list[IAddress] = []
        self.complete = False
        self.resolution: IHostResolution | None = None

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        self.resolution = resolutionInProgress

    def addressResolved(self, address: IAddress) -> None:
        self.addresses.append(address)

    def resolutionComplete(self) -> None:
        assert not self.complete
        self.complete = True


class Names:
    """Look-ups in threads that hang until they are let go."""

    def __init__(self) -> None:
        self.reactor = Reactor()
        self.asked: list[tuple[Any, ...]] = []
        self._gates: dict[str, threading.Event] = {}
        self._changed = threading.Condition()
        self.lookups = NameLookups(self.reactor, self._getaddrinfo)

    def _getaddrinfo(self, host: str, *given: int) -> list[tuple[Any, ...]]:
        with self._changed:
            self.asked.append((host, *given))
            self._changed.notify()
        gate = self._gates.get(host)
        if gate is not None:
            gate.wait()
        if host == "none":
            raise socket.gaierror("no such name")
        return [V6, V4]

    def hang(self, *hosts: str) -> None:
        """Have the look-ups of these never end."""
        for host in hosts:
            self._gates[host] = threading.Event()

    def let_go(self, *hosts: str) -> None:
        """Have them end."""
        for host in hosts:
            self._gates.pop(host).set()

    def close(self) -> None:
        self.let_go(*self._gates)

    def ask(self, host: str, **more: Any) -> Receiver:
        receiver = Receiver()
        self.lookups.resolveHostName(receiver, host, **more)
        return receiver

    def wait_asked(self, count: int) -> None:
        """Wait until so many threads run."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.asked) >= count, PATIENCE_S)


@pytest.fixture
def names() -> Iterator[Names]:
    """None of whose threads are left behind."""
    result = Names()
    yield result
    result.close()


def test_addresses(names: Names) -> None:
    """The answers of getaddrinfo in its order, with the port that each asked for; none for a name without."""
    one, other = names.ask("a", portNumber=80), names.ask("a", portNumber=81)
    names.reactor.take(1)
    assert one.addresses == [IPv6Address("TCP", "2001:db8::1", 80, 0, 7), IPv4Address("TCP", "192.0.2.1", 80)]
    assert [address.port for address in other.addresses] == [81, 81]  # type: ignore[attr-defined]
    none = names.ask("none")
    names.reactor.take(1)
    assert none.complete and none.addresses == []
    names.ask("a", addressTypes=[IPv4Address], transportSemantics="UDP")
    names.reactor.take(1)
    assert names.asked[-1] == ("a", 0, socket.AF_INET, socket.SOCK_DGRAM)
    assert names.reactor.getDelayedCalls() == []


def test_one_name_has_one_look_up_in_flight(names: Names) -> None:
    """However many wait for a name that hangs, it holds one thread, and other names are found meanwhile."""
    names.hang("a")
    waiting = [names.ask("a") for _ in range(100)]
    other = names.ask("b")
    names.wait_asked(2)
    names.reactor.take(1)
    assert other.complete and {host for host, *_ in names.asked} == {"a", "b"} and len(names.asked) == 2
    assert not any(one.complete for one in waiting)
    names.let_go("a")
    names.reactor.take(1)
    assert all(len(one.addresses) == 2 for one in waiting)


def test_a_look_up_is_given_up(names: Names) -> None:
    """After a while those who wait are told that there is no address; the next who asks has another look-up."""
    names.hang("a")
    waiting = names.ask("a")
    names.wait_asked(1)
    names.reactor.advance(LOOKUP_S)
    assert waiting.complete and waiting.addresses == []
    again = names.ask("a")
    names.wait_asked(2)
    names.let_go("a")
    names.reactor.take(2)
    assert again.complete and len(again.addresses) == 2
    assert names.reactor.getDelayedCalls() == []


def test_who_has_left_is_told_nothing(names: Names) -> None:
    """A look-up that is cancelled goes on for the others only."""
    names.hang("a")
    one, other = names.ask("a"), names.ask("a")
    assert one.resolution is not None
    one.resolution.cancel()
    one.resolution.cancel()
    names.let_go("a")
    names.reactor.take(1)
    assert other.complete and not one.complete


def test_names_that_hang_leave_threads_to_the_others(names: Names) -> None:
    """Threads are bounded. Names that hung before have a part of them, so that another name never waits for one."""
    hosts = [f"h{number}" for number in range(MAX_LOOKUPS)]
    names.hang(*hosts)
    for host in hosts:
        names.ask(host)
    names.wait_asked(MAX_LOOKUPS)
    late = names.ask("b")
    assert len(names.asked) == MAX_LOOKUPS and not late.complete
    names.reactor.advance(LOOKUP_S)  # all are told, and all are slow from now on
    names.let_go(*hosts)
    names.reactor.take(MAX_LOOKUPS)
    names.hang(*hosts)
    before = len(names.asked)
    for host in hosts:
        names.ask(host)
    names.wait_asked(before + MAX_SLOW_LOOKUPS)
    other = names.ask("b")
    names.reactor.take(1)
    assert other.complete and len(names.asked) == before + MAX_SLOW_LOOKUPS + 1


def test_a_name_that_is_quick_again(names: Names) -> None:
    """A name is slow until a look-up of it is quick."""
    for took_s, slow in ((SLOW_S, {"a": None}), (0.0, {})):
        names.ask("a")
        names.reactor.advance(took_s)
        names.reactor.take(1)
        assert names.lookups._slow == slow


def test_no_thread(names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that can have no more threads says so, and goes on without that address."""

    def start(*given: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("pico_twisted.net.socket.names._thread.start_new_thread", start)
    assert names.ask("a").complete
