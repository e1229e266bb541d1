"""The traces of a daemon: where the library is missing, and that nothing is loaded where nobody wants it."""

from __future__ import annotations

import subprocess
import sys
from typing import cast

import pytest

from pico_twisted.app.process import spans
from pico_twisted.app.process.ports import CannotStart
from pico_twisted.app.process.reactor import IDaemonReactor
from pico_twisted.app.process.spans import Spans
from pico_twisted.net.observe.metrics import Metrics
from pico_twisted.net.observe.tracing import export

REACTOR = cast("IDaemonReactor", None)


def test_without_a_collector() -> None:
    """There is no tracer, no metric, and nothing to wait for at a stop."""
    made, metrics = Spans("", 1.0, REACTOR), Metrics("node")
    made.check()
    made.start("pico-node", "n1", metrics)
    made.stop()
    assert made.tracer is None and made.stopped() and b"pico_trace" not in metrics.exposition()


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """The start fails with words that say what to install."""
    monkeypatch.setattr(spans, "is_available", lambda: False)
    with pytest.raises(
        CannotStart, match=r"tracing\.endpoint needs the extra otlp: pip install 'pico-twisted\[otlp\]'"
    ):
        Spans("http://127.0.0.1:4318/v1/traces", 1.0, REACTOR).check()


def test_available(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is known whether all of it is there: a part of the library may be, for another program."""
    assert export.is_available()
    monkeypatch.setattr(export, "_EXPORTER", "opentelemetry.nothing.of.the.kind")
    assert not export.is_available()


def test_nothing_is_loaded() -> None:
    """A daemon that records nothing does not load the library."""
    code = (
        "import sys, pico_twisted.app.node_daemon, pico_twisted.app.agent_daemon; "
        "sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
