"""What holds for all tests: their groups and profiles, and that each of them leaves nothing behind.

A test that leaves a timer, a socket or pipe in the reactor, or a failure in the log, fails. When somebody stops the
reactor, with SIGTERM for example, the run ends: the tests that are left could only fail.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Generator, Iterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.task import deferLater
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.python.failure import Failure
from zope.interface import implementer

from tests import examples, groups
from tools.stage.forking import ForkServer
from tools.stage.processes import ROOT, Twistd, environment

SETTLE_S = 0.5  # how long a connection that was closed may take to leave the reactor
_TURN_S = 0.01
_REACTOR_STOPPED = pytest.StashKey[bool]()

examples.register()


@implementer(ILogObserver)
class LoggedFailures:
    """The failures that were logged during a test."""

    def __init__(self) -> None:
        self.unexpected: list[Failure] = []

    def __call__(self, event: LogEvent) -> None:
        """Observe the log."""
        failure = event.get("log_failure")
        if failure is not None:
            self.unexpected.append(failure)

    def flush(self, *types: type[BaseException]) -> list[Failure]:
        """The failures of these types, or all without a type. They do not make the test fail."""
        gc.collect()  # an error that nobody took is logged when its Deferred goes
        flushed = [failure for failure in self.unexpected if not types or failure.check(*types)]
        self.unexpected = [failure for failure in self.unexpected if failure not in flushed]
        return flushed


def pytest_configure(config: pytest.Config) -> None:
    """Workers share the work of compiling the tests."""
    groups.begin_elsewhere(config)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Notice when the reactor stops."""
    from twisted.internet import reactor

    session.config.stash[_REACTOR_STOPPED] = False

    def stopped() -> None:
        session.config.stash[_REACTOR_STOPPED] = True

    reactor.addSystemEventTrigger("during", "shutdown", stopped)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(
    item: pytest.Item, nextitem: pytest.Item | None
) -> Generator[None, bool | None, bool | None]:
    """End the run when the reactor is gone, and keep what lives on after a file of tests out of the collections of
    garbage after each further test: modules, and what they remember. They would cost half of a run without processes.
    """
    done = yield
    if nextitem is None or nextitem.path != item.path:
        gc.freeze()
    if item.config.stash[_REACTOR_STOPPED]:
        item.session.shouldstop = "the reactor was stopped, as SIGTERM does: no further test can run"
    return done


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the tests that start processes, so that `-m` can leave them out."""
    groups.mark_processes(items)
    if hasattr(config, "workerinput"):
        groups.sort(items)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> groups.GroupScheduling | None:
    """`-n` shares the tests out by the groups of `tests.groups`, unless `--dist` asks for something else."""
    return groups.GroupScheduling(config, log) if config.getoption("dist") in ("load", "loadgroup") else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Tell the groups, and keep what the imports have made out of the collections of garbage after each test.

    Those collections would cost most of the run.
    """
    if hasattr(session.config, "workerinput"):
        groups.tell(session.config, session.items)
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def forks() -> Iterator[None]:
    """Daemons of the tests are forked from a process that has imported what they need, once the first is asked for."""
    Twistd.forks = ForkServer(environment(), ROOT)
    yield
    Twistd.forks.close()
    Twistd.forks = None


@pytest.fixture
def logged_failures() -> Iterator[LoggedFailures]:
    """The failures logged so far, for tests that provoke some and flush them."""
    failures = LoggedFailures()
    globalLogPublisher.addObserver(failures)
    yield failures
    globalLogPublisher.removeObserver(failures)


@pytest.fixture(autouse=True)
def nothing_left_behind(logged_failures: LoggedFailures) -> Iterator[None]:
    """Compare what the reactor holds before and after the test, and look at what was logged."""
    before = _held()
    yield
    left = _held() - before
    if left:
        left = _settle(before)
    gc.collect()
    complaints = [f"left in the reactor: {thing!r}" for thing in left]
    complaints += [f"logged: {failure.getTraceback()}" for failure in logged_failures.unexpected]
    _throw_away(left)
    if complaints:
        pytest.fail("\n".join(complaints), pytrace=False)


def _held() -> set[Any]:
    """The timers, readers and writers of the reactor, but for those that wake it up."""
    reactor: Any = sys.modules.get("twisted.internet.reactor")
    if reactor is None:
        return set()
    wakers = set(getattr(reactor, "_internalReaders", ()))
    return {*reactor.getDelayedCalls(), *reactor.getReaders(), *reactor.getWriters()} - wakers


def _settle(before: set[Any]) -> set[Any]:
    """Turn the reactor until nothing is left, or for a while; returns what is left then."""
    from twisted.internet import reactor

    left = _held() - before
    for _ in range(int(SETTLE_S / _TURN_S)):
        pytest_twisted.blockon(deferLater(reactor, _TURN_S, lambda: None))
        left = _held() - before
        if not left:
            break
    return left


def _throw_away(left: set[Any]) -> None:
    """Free the next tests of it."""
    from twisted.internet import reactor

    for thing in left:
        if hasattr(thing, "cancel"):
            if thing.active():
                thing.cancel()
        else:
            reactor.removeReader(thing)
            reactor.removeWriter(thing)
