"""Fixtures of the end-to-end tests: running nodes and an agent for many tests, on one node and across two."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.system.cluster import SECRET, Cluster, running_cluster
from tests.system.hostile import Target
from tests.system.service import Service, answer
from tests.system.shared import Shared, sharing_stack
from tests.system.stack import SHAPES, Stack
from tools.stage.certificates import Tls
from tools.stage.stage import Stage


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the output of the processes beside a failure."""
    report = yield
    if report.failed:
        stage = getattr(item, "funcargs", {}).get("stage")
        rigs = [
            getattr(item, "funcargs", {}).get(name) for name in ("stack", "short_stack", "rig", "cluster", "target")
        ]
        for holder in (stage, *(rig.stage for rig in rigs if rig is not None)):
            if holder is not None:
                report.sections.append(("output of the processes", holder.tail()))
    return report


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    """The tests' authority and one certificate for all ports."""
    return Tls.make(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session", params=SHAPES)
def running_stack(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, certificates: Tls
) -> Iterator[Shared[Stack]]:
    """The nodes, the agent and the services that most tests share; a test runs in every shape, or in those it names."""
    yield from sharing_stack(request.param, tmp_path_factory, certificates)


@pytest.fixture
def stack(running_stack: Shared[Stack]) -> Iterator[Stack]:
    """The shared stack, running, with a recording service of this test's own at `stack.service`.

    Afterwards the test fails if a node or the agent logged an exception that nobody handled, or ended.
    """
    result = running_stack.get()
    result.begin()
    yield result
    result.end()


@pytest.fixture(params=["plain", "tls"])
def stage(request: pytest.FixtureRequest, tmp_path: Path, certificates: Tls) -> Iterator[Stage]:
    """For tests that start processes of their own; every test runs without and with TLS."""
    result = Stage(tmp_path, certificates if request.param == "tls" else None)
    try:
        yield result
        assert result.new_faults() == []
    finally:
        result.close()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """For tests of several nodes, none of which is started yet."""
    with running_cluster(tmp_path) as result:
        yield result


@pytest.fixture
def service() -> Iterator[Service]:
    """A recording service."""
    made = Service()
    yield made
    made.close()


@pytest.fixture
def other_service() -> Iterator[Service]:
    """Another one."""
    made = Service()
    yield made
    made.close()


@pytest.fixture
def one() -> Iterator[Service]:
    """A service that answers `one`."""
    service = Service()
    service.handler = lambda request: answer(b"one")
    yield service
    service.close()


@pytest.fixture
def two() -> Iterator[Service]:
    """A service that answers `two`."""
    service = Service()
    service.handler = lambda request: answer(b"two")
    yield service
    service.close()


@pytest.fixture(scope="module", params=["open", "secret"])
def running_target(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shared[Target]]:
    """Two nodes, without and with a secret, and an agent at the first."""
    secret = SECRET if request.param == "secret" else None
    settings = {"cluster": {"secrets": [secret] if secret else []}}
    with contextlib.ExitStack() as end:

        def start() -> Target:
            with contextlib.ExitStack() as begun:
                service = Service()
                begun.callback(service.close)
                directory = tmp_path_factory.mktemp(f"hostile-{request.param}")
                cluster = begun.enter_context(running_cluster(directory, settings=settings))
                cluster.start("n1", "n2")
                cluster.agent(["n1"], {"web": service.address})
                cluster.wait_endpoint("n1", "web")
                end.push(begun.pop_all())
                return Target(cluster, secret, service)

        yield Shared(f"the nodes, {request.param}", start)


@pytest.fixture
def target(running_target: Shared[Target]) -> Iterator[Target]:
    """Those nodes, for a test that tries to disturb them, and fails if it can."""
    result = running_target.get()
    result.begin()
    yield result
    result.end()
