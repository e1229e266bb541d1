"""Which tests start processes, and which of them run in the same worker of pytest-xdist.

What several tests share has to be started once, and not once in each worker. So the tests of one fixture that lives
longer than a test are a group: those of one shape of the stack, or those of one file. A test that starts processes of
its own, or is slow, shares nothing and is a group by itself: such tests fill the gaps. All others go file by file, and
so do those that are marked to stay together, since they would take each other's ports.

The largest groups begin first, and at the end come the tests that are over quickly, so that all workers stop at about
the same time.
"""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling

TESTS = Path(__file__).resolve().parent

PROCESSES = ("fuzz", "mixed_versions", "packaging", "system")
"""Folders whose tests start processes, all of them. Elsewhere a file, or a test, says so with the marker."""

LONG = (
    "questions",
    "system/test_cluster_init.py",
    "system/test_doctor.py",
    "system/test_expose.py",
    "system/test_expose_terminal.py",
    "system/test_inspector.py",
    "system/test_intake.py",
    "system/test_macos.py",
    "system/test_page.py",
    "system/test_snapshot.py",
    "system/test_tracing.py",
    "system/test_watching.py",
)
"""Folders and files whose tests start many programs and wait for them: `make long-tests` runs them."""

_GROUPS = "pico/groups"

CHEAP = {"certificates"}
"""Fixtures that each worker may make for itself."""


def begin_elsewhere(config: pytest.Config) -> None:
    """Have each worker that is to collect all tests begin at another file.

    pytest compiles the files of tests in its own way, and keeps what it has made for whoever asks next. In a fresh
    checkout, workers that go through them in one order would each compile all of them.
    """
    worker = getattr(config, "workerinput", None)
    if worker is None or [Path(one).resolve() for one in config.args] != [TESTS]:
        return
    files = sorted(str(path) for path in TESTS.rglob("test_*.py"))
    begin = len(files) * int(worker["workerid"].removeprefix("gw")) // worker["workercount"]
    config.args = files[begin:] + files[:begin]


def folder_of(item: pytest.Item) -> str:
    """The folder of `tests` that a test is in."""
    return _place(item.path).partition("/")[0]


@functools.cache
def _place(path: Path) -> str:
    """Where a file lies in the folder of tests, or nothing when it lies elsewhere."""
    return path.relative_to(TESTS).as_posix() if path.is_relative_to(TESTS) else ""


def mark_processes(items: list[pytest.Item]) -> None:
    """Give the tests of some folders and files their markers."""
    for item in items:
        if folder_of(item) in PROCESSES:
            item.add_marker(pytest.mark.processes)
        if _place(item.path).startswith(LONG):
            item.add_marker(pytest.mark.processes)
            item.add_marker(pytest.mark.long)


def sort(items: list[pytest.Item]) -> None:
    """Put the groups that take longest first; the tests of a group keep their order.

    Before that, the order of files is made that of their names: each worker has collected them in its own.
    """
    items.sort(key=lambda item: item.path.parts)
    groups: dict[str, list[pytest.Item]] = {}
    for item in items:
        groups.setdefault(group_of(item), []).append(item)
    # sort() keeps the order of equals.
    items.sort(key=lambda item: _rank(groups[group_of(item)]))


def tell(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In a worker that has collected: leave the groups where the scheduler, in another process, finds them."""
    cache = getattr(config, "cache", None)
    if cache is not None:
        cache.set(_GROUPS, {item.nodeid: group_of(item) for item in items})


class GroupScheduling(LoadScopeScheduling):
    """Gives a worker one group after the other. pytest-xdist's own groups are lost on the way with pytest 9.2."""

    def schedule(self) -> None:
        """All workers have collected, and have put their tests into the order in which groups are to begin."""
        self.config.option.loadscopereorder = False
        self._groups: dict[str, str] = self.config.cache.get(_GROUPS, {}) if self.config.cache else {}
        super().schedule()

    def _split_scope(self, nodeid: str) -> str:
        return self._groups.get(nodeid, nodeid)


def group_of(item: pytest.Item) -> str:
    """The name of a test's group."""
    file = _place(item.path) or item.path.name
    shared = _shared_fixtures(item)
    if shared:
        callspec = getattr(item, "callspec", None)
        params = [f"{name}={callspec.params[name]}" for name in sorted(shared) if callspec and name in callspec.params]
        if "module" in shared.values():
            params.insert(0, file)
        return " ".join(params) or file
    return item.nodeid if _goes_alone(item) and item.get_closest_marker("together") is None else file


def _shared_fixtures(item: pytest.Item) -> dict[str, str]:
    """Fixtures of these tests that a test uses together with others, and their scopes."""
    definitions = getattr(item, "_fixtureinfo").name2fixturedefs  # noqa: B009 (pytest has no public name for it)
    last = {name: found[-1] for name, found in definitions.items() if found}
    return {
        name: fixture.scope
        for name, fixture in last.items()
        if fixture.scope in ("module", "session") and fixture.baseid.startswith("tests") and name not in CHEAP
    }


def _goes_alone(item: pytest.Item) -> bool:
    return any(item.get_closest_marker(name) for name in ("processes", "slow"))


def _rank(members: list[pytest.Item]) -> tuple[int, int]:
    if not _goes_alone(members[0]):
        return (2, 0)
    if len(members) > 1:
        return (0, -len(members))
    return (1, 0 if members[0].get_closest_marker("slow") else 1)
