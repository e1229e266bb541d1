"""What systemd is told, on a socket of the test's own and with a clock of its own."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock

from pico_twisted.app.process.systemd import LOOK_S, STATUS_S, Notifier, notifier_from
from tests.conftest import LoggedFailures


class Systemd:
    """The other end: a socket that daemons are told of.

    Args:
        address: as `NOTIFY_SOCKET` has it.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self._socket.setblocking(False)

    def read(self) -> list[str]:
        """The datagrams that have come since the last time."""
        found: list[str] = []
        with contextlib.suppress(BlockingIOError):
            while True:
                found.append(self._socket.recv(4096).decode())
        return found

    def fill(self) -> None:
        """Leave no room for a datagram more."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock, contextlib.suppress(BlockingIOError):
            sock.setblocking(False)
            while True:
                sock.sendto(b"filler", self._socket.getsockname())

    def close(self) -> None:
        """Listen no more."""
        self._socket.close()


class Subject:
    """A daemon's answers."""

    ready = False
    status = "one"
    fault: Exception | None = None

    def ready_state(self) -> bool:
        if self.fault is not None:
            raise self.fault
        return self.ready

    def status_line(self) -> str:
        if self.fault is not None:
            raise self.fault
        return self.status


Make = Callable[..., Notifier]


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    """It listens."""
    made = Systemd(str(tmp_path / "notify"))
    yield made
    made.close()


@pytest.fixture
def subject() -> Subject:
    """A daemon that is not ready."""
    return Subject()


@pytest.fixture
def clock() -> Clock:
    """Of the notifier."""
    return Clock()


@pytest.fixture
def make(systemd: Systemd, subject: Subject, clock: Clock) -> Iterator[Make]:
    """Makes a notifier and stops it at the end."""
    made: list[Notifier] = []

    def notifier(**options: Any) -> Notifier:
        options = {"address": systemd.address, **options}
        made.append(Notifier(clock, subject.ready_state, subject.status_line, **options))
        return made[-1]

    yield notifier
    for one in made:
        one.stop()
    assert clock.getDelayedCalls() == []


def test_ready_is_told_once_it_is_true(make: Make, systemd: Systemd, subject: Subject, clock: Clock) -> None:
    """Not before, and never again; the status stands beside it."""
    notifier = make()
    assert systemd.read() == []
    notifier.start()
    notifier.start()
    assert systemd.read() == ["STATUS=one"]
    clock.pump([LOOK_S] * 10)
    assert systemd.read() == []
    subject.ready = True
    clock.advance(LOOK_S)
    assert systemd.read() == ["READY=1"]
    subject.ready = False
    clock.pump([STATUS_S] * 3)
    subject.ready = True
    clock.pump([STATUS_S] * 3)
    assert systemd.read() == []


def test_the_status_is_told_when_it_has_changed(make: Make, systemd: Systemd, subject: Subject, clock: Clock) -> None:
    """As one line of bounded length, whatever it is made of."""
    subject.ready = True
    make().start()
    assert systemd.read() == ["READY=1", "STATUS=one"]
    subject.status = "two"
    clock.advance(STATUS_S)
    clock.advance(STATUS_S)
    assert systemd.read() == ["STATUS=two"]
    subject.status = "line\nREADY=1\x1b[0m\0 é" + "x" * 1000
    clock.advance(STATUS_S)
    (told,) = systemd.read()
    assert told.startswith("STATUS=line READY=1 [0m  éx") and len(told) == len("STATUS=") + 200


def test_signs_of_life_come_twice_in_the_time_that_is_allowed(
    make: Make, systemd: Systemd, subject: Subject, clock: Clock
) -> None:
    """From the start on, while it is stopping too, until the end."""
    notifier = make(watchdog_s=3.0)
    notifier.start()
    assert systemd.read() == ["STATUS=one", "WATCHDOG=1"]
    clock.pump([0.5] * 6)
    assert systemd.read() == ["WATCHDOG=1"] * 2
    notifier.stopping()
    clock.pump([0.5] * 6)
    assert systemd.read() == ["STOPPING=1"] + ["WATCHDOG=1"] * 2
    notifier.stop()
    notifier.stop()
    clock.pump([0.5] * 6)
    assert systemd.read() == []


def test_without_a_watchdog_there_are_no_signs_of_life(make: Make, systemd: Systemd, clock: Clock) -> None:
    """Nobody asked for them."""
    make().start()
    clock.pump([1.0] * 60)
    assert systemd.read() == ["STATUS=one"]


def test_a_reload_begins_and_ends(make: Make, systemd: Systemd, subject: Subject) -> None:
    """With the time at which it began, and also when it fails."""
    subject.ready = True
    notifier = make()
    notifier.start()
    systemd.read()
    with notifier.reloading():
        (told,) = systemd.read()
        first, second = told.split("\n")
        assert first == "RELOADING=1"
        assert second.startswith("MONOTONIC_USEC=") and second.partition("=")[2].isdigit()
    assert systemd.read() == ["READY=1"]
    with pytest.raises(ZeroDivisionError), notifier.reloading():
        raise ZeroDivisionError
    assert [told.partition("\n")[0] for told in systemd.read()] == ["RELOADING=1", "READY=1"]


def test_a_reload_does_not_make_it_ready(make: Make, systemd: Systemd) -> None:
    """While it starts and while it stops a reload is not told."""
    notifier = make()
    notifier.start()
    systemd.read()
    with notifier.reloading():
        pass
    assert systemd.read() == []
    notifier.stopping()
    with notifier.reloading():
        pass
    assert systemd.read() == ["STOPPING=1"]


def test_stopping_is_told_once_with_the_status(make: Make, systemd: Systemd, subject: Subject, clock: Clock) -> None:
    """And readiness not any more."""
    notifier = make()
    notifier.start()
    systemd.read()
    subject.ready, subject.status = True, "draining"
    notifier.stopping()
    notifier.stopping()
    assert systemd.read() == ["STOPPING=1", "STATUS=draining"]
    clock.pump([STATUS_S] * 3)
    assert systemd.read() == []


def test_faults_of_the_daemon_do_not_end_the_signs_of_life(
    make: Make, systemd: Systemd, subject: Subject, clock: Clock, logged_failures: LoggedFailures
) -> None:
    """They are logged, and asking goes on."""
    subject.fault = KeyError("a bug")
    make(watchdog_s=2 * STATUS_S).start()
    clock.advance(LOOK_S)
    assert logged_failures.flush(KeyError)
    assert systemd.read() == ["WATCHDOG=1"]
    subject.fault, subject.ready = None, True
    clock.advance(LOOK_S)
    clock.advance(STATUS_S)
    assert systemd.read() == ["READY=1", "STATUS=one", "WATCHDOG=1"]


def test_a_full_queue_delays_what_has_to_arrive(make: Make, systemd: Systemd, subject: Subject, clock: Clock) -> None:
    """Nothing waits for systemd; what it had no room for is told again, in order, once it has."""
    notifier = make()
    systemd.fill()
    subject.ready = True
    notifier.start()
    with notifier.reloading():
        pass
    assert set(systemd.read()) == {"filler"}
    clock.advance(LOOK_S)
    assert [text.partition("\n")[0] for text in systemd.read()] == ["READY=1", "RELOADING=1", "READY=1", "STATUS=one"]


@pytest.mark.parametrize("address", ["", "/nowhere/notify", "@pico-nobody-listens-here", "/" + "x" * 200])
def test_nobody_listens(address: str, make: Make, clock: Clock) -> None:
    """Then nothing is told, and nothing fails."""
    notifier = make(address=address, watchdog_s=1.0)
    notifier.start()
    notifier.status("something")
    with notifier.reloading():
        clock.advance(1.0)
    notifier.stopping()
    clock.advance(1.0)


def test_an_abstract_socket(make: Make, subject: Subject, tmp_path: Path) -> None:
    """As systemd uses in containers."""
    systemd = Systemd(f"@pico-{tmp_path.name}-{id(subject)}")
    try:
        make(address=systemd.address).start()
        assert systemd.read() == ["STATUS=one"]
    finally:
        systemd.close()


@pytest.mark.parametrize(
    ("variables", "beats"),
    [
        ({"WATCHDOG_USEC": "2000000"}, True),
        ({"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "77"}, True),
        ({"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "78"}, False),
        ({"WATCHDOG_USEC": "0"}, False),
        ({"WATCHDOG_USEC": "-5"}, False),
        ({"WATCHDOG_USEC": "soon"}, False),
        ({"WATCHDOG_USEC": "²"}, False),
        ({}, False),
    ],
)
def test_the_environment(
    variables: dict[str, str], beats: bool, systemd: Systemd, subject: Subject, clock: Clock
) -> None:
    """Says where to tell and whether life is watched. Its variables go: no other process speaks for this one."""
    environ = {"NOTIFY_SOCKET": systemd.address, "PATH": "/bin", **variables}
    notifier = notifier_from(environ, 77, clock, subject.ready_state, subject.status_line)
    assert environ == {"PATH": "/bin"}
    notifier.start()
    clock.advance(1.0)
    assert systemd.read() == (["STATUS=one", "WATCHDOG=1", "WATCHDOG=1"] if beats else ["STATUS=one"])
    notifier.stop()


@pytest.mark.parametrize("address", ["", "relative", "vsock:2:1234"])
def test_an_environment_that_names_no_such_socket(address: str, subject: Subject, clock: Clock) -> None:
    """It is as good as none."""
    environ = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000000"}
    notifier = notifier_from(environ, 77, clock, subject.ready_state, subject.status_line)
    notifier.start()
    assert clock.getDelayedCalls() == [] and environ == {}
