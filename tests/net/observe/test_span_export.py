"""Spans on their way to a collector: a real one on a socket, that takes them, hangs, or is away."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
from prometheus_client.core import Metric
from twisted.internet.interfaces import IReactorFromThreads

from pico_twisted.core.trace_context import TraceParent
from pico_twisted.net.observe.tracing import export
from pico_twisted.net.observe.tracing.export import BATCH, MOST_WAITING, SpanExport
from pico_twisted.net.observe.tracing.tracer import AGENT, PROXY, FinishedSpan
from tests.core.test_trace_context import SPAN, TRACE
from tests.system.collector import Collector
from tools.stage.waiting import wait_until


class Calls:
    """The reactor, as far as a thread asks: it keeps what it is to call."""

    def __init__(self) -> None:
        self.calls: list[tuple[Callable[..., Any], tuple[object, ...]]] = []

    def callFromThread(self, call: Callable[..., Any], *args: object) -> None:
        self.calls.append((call, args))


class Exporting:
    """An export that runs."""

    def __init__(self, url: str) -> None:
        self.reactor = Calls()
        self.export = SpanExport(url, "1.2.3", cast("IReactorFromThreads", self.reactor))
        self.export.start("pico-node", "n1")

    def put(self, count: int = 1, **changes: Any) -> None:
        """Spans are over."""
        for number in range(count):
            span = FinishedSpan(
                hop=PROXY,
                method="GET",
                trace_id=TRACE,
                span_id=b"%016x" % (number + 1),
                parent=None,
                started_ns=1_700_000_000_000_000_000,
                ended_ns=1_700_000_000_000_005_000,
                failed=False,
                attributes={"http.response.status_code": 200, "pico.endpoint": "shop"},
            )
            self.export.put(span._replace(**changes))

    def counts(self) -> dict[str, float]:
        """How many were sent, and lost."""
        families: list[Metric] = list(self.export.families())
        return {one.labels["result"]: one.value for one in families[0].samples}


@pytest.fixture
def collector() -> Iterator[Collector]:
    """A collector."""
    with contextlib.closing(Collector()) as made:
        yield made


@contextlib.contextmanager
def exporting(url: str) -> Iterator[Exporting]:
    """An export, which is stopped at the end."""
    made = Exporting(url)
    try:
        yield made
    finally:
        made.export.stop()


def test_sent(collector: Collector) -> None:
    """A collector reads what was told: IDs, times, kind, status, attributes, and whose they are."""
    with exporting(collector.url) as here:
        here.put(parent=TraceParent(TRACE, SPAN, True), hop=AGENT, failed=True)
        here.export.stop()
        (span,) = collector.wait(1)
        wait_until(lambda: here.export.stopped, "the thread to end")
        assert here.counts() == {"sent": 1, "lost": 0}
    assert (span.trace, span.id, span.parent) == (TRACE.decode(), "0" * 15 + "1", SPAN.decode())
    assert (span.name, span.kind, span.failed, span.took_ns) == ("GET", 3, True, 5000)
    assert span.attributes == {"http.response.status_code": 200, "pico.endpoint": "shop"}
    assert span.resource["service.name"] == "pico-node"
    assert (span.resource["service.instance.id"], span.resource["service.version"]) == ("n1", "1.2.3")


def test_many(collector: Collector) -> None:
    """As many as may wait are sent, in several requests, and none twice."""
    with exporting(collector.url) as here:
        here.put(3 * BATCH + 7)
        spans = collector.wait(3 * BATCH + 7)
        assert len({span.id for span in spans}) == len(spans) == 3 * BATCH + 7


def test_a_collector_that_hangs(collector: Collector) -> None:
    """Whoever gives a span waits for nothing; what is too much is lost, and counted."""
    collector.hangs = True
    with exporting(collector.url) as here:
        here.put(MOST_WAITING + BATCH + 100)
        assert here.counts()["lost"] >= 100 and here.counts()["sent"] == 0


def test_a_collector_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said once, and what waited is lost."""
    monkeypatch.setattr(export, "TIMEOUT_S", 0.5)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with exporting(f"http://127.0.0.1:{closed.getsockname()[1]}/v1/traces") as here:
            here.put(BATCH)
            wait_until(lambda: here.counts()["lost"] == BATCH, "the spans to be lost")
            here.put(BATCH)
            wait_until(lambda: here.counts()["lost"] == 2 * BATCH, "these, too")
            assert [args for _, args in here.reactor.calls] == [(False,)]
            here.reactor.calls[0][0](False)
