"""What a daemon does with its process: a start that fails, signals, the ordered stop, exit status. All in memory."""

from __future__ import annotations

import atexit
import io
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ReactorNotRunning
from twisted.internet.interfaces import IHostnameResolver
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher

from pico_twisted.app.process.daemon import IGNORED, Daemon
from pico_twisted.app.process.ports import CannotStart
from pico_twisted.config import ConfigFaults, Fault
from pico_twisted.config.common import LogConfig
from pico_twisted.net.admin.shapes.reload import Reloaded
from pico_twisted.net.observe.logs import Logging
from tests.conftest import LoggedFailures

GRACE_S = 5.0
SIGNALS = (signal.SIGHUP, signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, *IGNORED)


class ProcessReactor(Clock):
    """A clock that runs what other threads and signals ask for at once, and remembers that it was stopped."""

    stopped = False

    def stop(self) -> None:
        """As the real one: once."""
        if self.stopped:
            raise ReactorNotRunning
        self.stopped = True

    def callFromThread(self, what: Callable[..., object], *given: object) -> None:
        what(*given)

    def installNameResolver(self, resolver: IHostnameResolver) -> None:
        """Nothing is looked up."""

    def callWhenRunning(self, what: Callable[[], object]) -> None:
        """It does not run yet."""


class Options:
    """How twistd was called."""

    command = "pico"

    def __init__(self, background: bool) -> None:
        self.background = background


class Recorded(Daemon):
    """A daemon that says what it was told to do."""

    def __init__(self, background: bool = False) -> None:
        self.memory = ProcessReactor()
        self.log, self.stderr = io.StringIO(), io.StringIO()
        self.done: list[str] = []
        self.drained: Deferred[None] = Deferred()
        self.fault: Exception | None = None
        super().__init__(
            cast(Any, self.memory),
            cast(Any, Options(background)),
            GRACE_S,
            Logging(LogConfig(), self.log, console=self.stderr),
        )

    def start(self) -> None:
        """As twistd does."""
        self.privilegedStartService()
        self.startService()

    def bind(self) -> None:
        if self.fault is not None:
            raise self.fault
        self.done.append("bind")

    def serve(self) -> None:
        self.done.append("serve")

    async def drain(self) -> None:
        self.done.append("drain")
        await self.drained

    def cut(self) -> None:
        self.done.append("cut")

    def reopen_logs(self) -> None:
        self.done.append("reopen")

    def _reload(self) -> Reloaded:
        self.done.append("reload")
        if self.fault is not None:
            raise self.fault
        return Reloaded(changed=("log.level info -> debug",))


@pytest.fixture(autouse=True)
def own_handlers() -> Iterator[None]:
    """The signal handlers of the test run, again, whatever a test did."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(autouse=True)
def at_exit(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], None]]:
    """What is to be done at the end of the process."""
    registered: list[Callable[[], None]] = []
    monkeypatch.setattr(atexit, "register", registered.append)
    return registered


def test_a_failed_start_ends_with_one_line_and_status_1() -> None:
    """A port that is taken: one line on stderr that says why, nothing left open, nothing served, exit status 1."""
    subject = Recorded()
    subject.fault = CannotStart("proxy.bind_addr: 127.0.0.1:8000 is in use")
    with pytest.raises(SystemExit) as ended:
        subject.start()
    assert ended.value.code == 1
    assert subject.stderr.getvalue() == "pico: proxy.bind_addr: 127.0.0.1:8000 is in use\n"
    assert subject.done == ["cut"]


def test_a_failed_start_in_the_background_is_told_to_twistd(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody reads stderr any more: twistd gets the exception, for its caller."""
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    subject = Recorded(background=True)
    subject.fault = CannotStart("in use")
    with pytest.raises(CannotStart):
        subject.start()
    assert subject.stderr.getvalue() == ""
    assert subject.done == ["cut"]


def test_a_failure_while_running_ends_in_order_with_status_1(
    at_exit: list[Callable[[], None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told once, the reactor is stopped, and the process ends with status 1 when all else is done."""
    statuses: list[int] = []
    monkeypatch.setattr(os, "_exit", statuses.append)
    subject = Recorded()
    subject.start()
    subject.fail("a worker cannot be started")
    subject.fail("another one neither")
    assert subject.stderr.getvalue() == "pico: a worker cannot be started\n"
    assert subject.memory.stopped
    (end,) = at_exit
    end()
    assert statuses == [1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_the_first_signal_drains_and_the_second_cuts(number: signal.Signals) -> None:
    """The first one stops the reactor, which waits for the drain; the second one cuts what is left, once."""
    subject = Recorded()
    subject.start()
    assert subject.done == ["bind", "serve"]
    signal.raise_signal(number)
    assert subject.memory.stopped
    stopped = subject.stopService()
    assert subject.done[2:] == ["drain"]
    signal.raise_signal(number)
    signal.raise_signal(number)
    assert subject.done[2:] == ["drain", "cut"]
    subject.drained.callback(None)
    assert stopped.called
    assert subject.memory.getDelayedCalls() == []


def test_the_grace_period_cuts() -> None:
    """A drain that does not end is cut after `grace_period`, and not before."""
    subject = Recorded()
    subject.start()
    stopped = subject.stopService()
    subject.memory.advance(GRACE_S - 0.1)
    assert subject.done[2:] == ["drain"]
    subject.memory.advance(0.2)
    assert subject.done[2:] == ["drain", "cut"]
    assert not stopped.called
    subject.drained.callback(None)
    assert stopped.called


def test_a_drain_that_fails_is_logged_and_the_stop_goes_on(logged_failures: LoggedFailures) -> None:
    """A fault of ours in the drain: what is open is dropped all the same, and the process ends."""
    subject = Recorded()
    subject.start()
    stopped = subject.stopService()
    subject.drained.errback(RuntimeError("drain"))
    assert stopped.called
    assert subject.done[-1] == "cut"
    assert len(logged_failures.flush(RuntimeError)) == 1


def test_handlers_are_those_of_before_when_it_has_stopped() -> None:
    """Whoever started the process has its signal handlers back."""
    before = [signal.getsignal(number) for number in SIGNALS]
    subject = Recorded()
    subject.start()
    assert all(signal.getsignal(number) not in before for number in SIGNALS)
    subject.stopService()
    subject.drained.callback(None)
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_a_reload_gives_a_verdict(logged_failures: LoggedFailures) -> None:
    """Whoever asks for a reload reads what it changed, or every fault, or that the log has the details."""
    subject = Recorded()
    assert subject.reload("picoctl").line() == "log.level info -> debug"
    subject.fault = ConfigFaults([Fault(path=key, found="this", expected="that") for key in ("one", "two")])
    assert subject.reload("picoctl").faults == ("one: found this, expected that", "two: found this, expected that")
    subject.fault = RuntimeError("reload")
    assert subject.reload("picoctl").faults == ("internal error; the log says more",)
    assert len(logged_failures.flush(RuntimeError)) == 1


def test_sighup_reloads_until_the_stop(logged_failures: LoggedFailures) -> None:
    """SIGHUP opens the log files again and reads the configuration again; a fault in that is logged and survived.
    Whoever stops reads nothing."""
    subject = Recorded()
    subject.start()
    signal.raise_signal(signal.SIGHUP)
    subject.fault = RuntimeError("reload")
    signal.raise_signal(signal.SIGHUP)
    assert subject.done[2:] == ["reopen", "reload", "reopen", "reload"]
    assert len(logged_failures.flush(RuntimeError)) == 1
    subject.stopService()
    signal.raise_signal(signal.SIGHUP)
    assert subject.reload("picoctl").faults == ("pico stops",)
    assert subject.done[6:] == ["drain", "reopen", "reopen"]
    subject.drained.callback(None)


def test_sigusr1_only_opens_the_log_files_again() -> None:
    """SIGUSR1 is what recipes for rotating logs send; other signals that would end the process do nothing."""
    subject = Recorded()
    subject.start()
    for number in (signal.SIGUSR1, *IGNORED):
        signal.raise_signal(number)
    assert subject.done[2:] == ["reopen"]
    subject.stopService()
    subject.drained.callback(None)


@pytest.mark.parametrize("served", [True, False])
def test_a_start_that_failed_does_not_tell_of_requests(served: bool) -> None:
    """The end of a daemon that never served is told once, without a word about requests in progress."""
    subject = Recorded()
    subject.ready_state = lambda: served  # type: ignore[method-assign]
    globalLogPublisher.addObserver(subject.logging.observer)
    try:
        subject.start()
        subject.fail("could not join")
        subject.stopService()
        subject.drained.callback(None)
    finally:
        globalLogPublisher.removeObserver(subject.logging.observer)
    messages = [json.loads(line)["message"] for line in subject.log.getvalue().splitlines()]
    assert messages[0] == "The daemon ends: could not join"
    assert messages[1:] == ([f"Stopping: requests in progress have {GRACE_S} s", "Stopped"] if served else [])
