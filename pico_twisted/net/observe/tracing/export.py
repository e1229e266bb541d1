"""Sends finished spans to a collector, by OTLP over HTTP.

What can go wrong: the collector is away, slow, or takes connections and says nothing. Nothing waits for it but a thread
of our own, and what waits there is bounded; spans beyond that are lost, and counted. At a stop the thread has a moment
for what it holds.

The library is OpenTelemetry's own, of the extra `otlp`. It is loaded only where a collector is configured. The
variables of the environment that it knows count, such as `OTEL_EXPORTER_OTLP_HEADERS` for what a collector wants to be
shown, and `OTEL_EXPORTER_OTLP_CERTIFICATE` for the authority of its certificate.
"""

from __future__ import annotations

import importlib.util
import logging
import threading
from collections import deque
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from prometheus_client.core import Metric
from twisted.internet.interfaces import IReactorFromThreads
from twisted.logger import Logger

from pico_twisted.core.trace_context import TraceParent
from pico_twisted.net.observe.metrics import by_label
from pico_twisted.net.observe.tracing.tracer import AGENT, FinishedSpan

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

log = Logger()

MOST_WAITING: Final = 4096
"""Most spans that wait to be sent: some 8 MB."""
BATCH: Final = 512
"""Most spans of one request to the collector."""
PAUSE_S: Final = 2.0
"""Seconds that spans wait for others to go with."""
TIMEOUT_S: Final = 10.0
"""Most seconds for one request to the collector, tries that it asks for included."""

_EXPORTER: Final = "opentelemetry.exporter.otlp.proto.http.trace_exporter"


def is_available() -> bool:
    """Whether the extra `otlp` is installed. Loads some of it."""
    try:
        return importlib.util.find_spec(_EXPORTER) is not None
    except ModuleNotFoundError:
        return False


class SpanExport:
    """The spans of a process, on their way to the collector.

    Args:
        url: of the collector.
        version: of the program.
        reactor: runs what is to be logged.
    """

    def __init__(self, url: str, version: str, reactor: IReactorFromThreads) -> None:
        import requests
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        logging.getLogger("opentelemetry").addHandler(logging.NullHandler())  # it would write on stderr
        self._url = url
        self._reactor = reactor
        session = requests.Session()
        session.trust_env = False  # neither a proxy nor a password that the environment has for others
        self._exporter = OTLPSpanExporter(endpoint=url, timeout=TIMEOUT_S, session=session)
        self._version = version
        self._of: dict[str, Any] = {}  # of each span, as the library wants it
        self._waiting: deque[FinishedSpan] = deque()
        self._work = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="spans", daemon=True)
        self._overflowed = 0  # counted by the reactor; the others by the thread
        self._sent = 0
        self._failed = 0
        self._troubled = False

    def start(self, service: str, name: str) -> None:
        """Begin to send. The process forks no more.

        Args:
            service: what the process is: `pico-node` or `pico-agent`.
            name: its ID.
        """
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope

        told = {"service.name": service, "service.instance.id": name, "service.version": self._version}
        self._of = {
            "resource": Resource.create(told),
            "instrumentation_scope": InstrumentationScope("pico_twisted", self._version),
        }
        self._thread.start()

    def put(self, span: FinishedSpan) -> None:
        """Send a span soon, unless too many wait."""
        if len(self._waiting) >= MOST_WAITING:
            self._overflowed += 1
            return
        self._waiting.append(span)
        if len(self._waiting) >= BATCH:
            self._work.set()

    def stop(self) -> None:
        """Send what waits, and nothing more; see `stopped`."""
        self._stopping = True
        self._work.set()

    @property
    def stopped(self) -> bool:
        """Whether nothing is sent any more."""
        return not self._thread.is_alive()

    def families(self) -> Iterable[Metric]:
        """How many spans were sent, and how many lost."""
        counts = {"sent": self._sent, "lost": self._overflowed + self._failed}
        yield by_label("pico_trace_spans", "Spans for the collector, by what became of them.", "result", counts)

    # In the thread

    def _run(self) -> None:
        while not self._stopping or self._waiting:
            if not self._waiting or len(self._waiting) < BATCH:
                self._work.wait(PAUSE_S)
            self._work.clear()
            batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
            if batch:
                self._send(batch)

    def _send(self, batch: Sequence[FinishedSpan]) -> None:
        from opentelemetry.sdk.trace.export import SpanExportResult

        try:
            good = self._exporter.export([self._readable(span) for span in batch]) is SpanExportResult.SUCCESS
        except Exception:  # whatever the library meets: spans are lost, and the next ones are tried
            good = False
        if good:
            self._sent += len(batch)
        else:
            self._failed += len(batch)
        if self._troubled is good:
            self._troubled = not good
            self._reactor.callFromThread(self._tell, good)

    def _tell(self, good: bool) -> None:
        if good:
            log.info("The collector takes spans again", url=self._url)
        else:
            log.warn("The collector takes no spans: they are lost until it does", url=self._url)

    def _readable(self, span: FinishedSpan) -> ReadableSpan:
        """A span as the library wants it."""
        from opentelemetry.sdk.trace import ReadableSpan
        from opentelemetry.trace import SpanContext, SpanKind, TraceFlags
        from opentelemetry.trace.status import Status, StatusCode

        def context(trace_id: bytes, span_id: bytes, remote: bool) -> SpanContext:
            return SpanContext(int(trace_id, 16), int(span_id, 16), remote, TraceFlags(TraceFlags.SAMPLED))

        parent: TraceParent | None = span.parent
        return ReadableSpan(
            name=span.method,
            context=context(span.trace_id, span.span_id, False),
            parent=None if parent is None else context(parent.trace_id, parent.span_id, True),
            attributes=span.attributes,
            kind=SpanKind.CLIENT if span.hop == AGENT else SpanKind.SERVER,
            status=Status(StatusCode.ERROR if span.failed else StatusCode.UNSET),
            start_time=span.started_ns,
            end_time=span.ended_ns,
            **self._of,
        )
