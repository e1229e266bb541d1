"""The traces of a daemon, where they are configured."""

from __future__ import annotations

from typing import Final

from pico_twisted import __version__
from pico_twisted.app.process.ports import CannotStart
from pico_twisted.app.process.reactor import IDaemonReactor
from pico_twisted.net.observe.metrics import Metrics
from pico_twisted.net.observe.tracing import Tracer
from pico_twisted.net.observe.tracing.export import SpanExport, is_available

LAST_S: Final = 2.0
"""Most seconds that the last spans get at a stop."""


class Spans:
    """What is recorded of requests, on its way to a collector; nothing, and at no cost, when there is none.

    Args:
        endpoint: URL of the collector; empty for none.
        ratio: of the requests that are recorded, as of `Tracer`.
        reactor: of the process.

    Attributes:
        tracer: for the parts that have requests; None when nothing is recorded.
    """

    def __init__(self, endpoint: str, ratio: float, reactor: IDaemonReactor) -> None:
        self._endpoint = endpoint
        self._export = SpanExport(endpoint, __version__, reactor) if endpoint and is_available() else None
        self.tracer = None if self._export is None else Tracer(ratio, self._export.put)

    def check(self) -> None:
        """Raise `CannotStart` when the library is missing that is needed."""
        if self._endpoint and self._export is None:
            raise CannotStart("tracing.endpoint needs the extra otlp: pip install 'pico-twisted[otlp]'")

    def start(self, service: str, name: str, metrics: Metrics) -> None:
        """Begin to send. The process forks no more.

        Args:
            service: what the process is.
            name: its ID.
            metrics: of the process.
        """
        if self._export is not None:
            metrics.families(self._export.families)
            self._export.start(service, name)

    def stop(self) -> None:
        """Send what is left, if there is a moment."""
        if self._export is not None:
            self._export.stop()

    def stopped(self) -> bool:
        """Whether nothing is sent any more."""
        return self._export is None or self._export.stopped
