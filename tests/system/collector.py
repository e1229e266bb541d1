"""A collector of OpenTelemetry, as far as it takes spans: OTLP over HTTP, read with OpenTelemetry's own messages."""

from __future__ import annotations

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tools.stage.waiting import wait_until


class Span(NamedTuple):
    """A span that came; IDs are hexadecimal, `parent` is empty for the first of a trace."""

    trace: str
    id: str
    parent: str
    name: str
    kind: int
    failed: bool
    took_ns: int
    attributes: dict[str, str | int]
    resource: dict[str, str]


class Collector:
    """Takes spans on a port of 127.0.0.1.

    Attributes:
        url: where.
        spans: that came.
        hangs: it takes requests, and says nothing.
    """

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.hangs = False
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"collector": self}))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1/traces"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self) -> None:
        """Take no more."""
        self._server.shutdown()
        self._server.server_close()

    def wait(self, count: int) -> list[Span]:
        """Wait until so many came; all of them."""
        wait_until(lambda: len(self.spans) >= count, f"{count} spans")
        return self.spans

    def take(self, body: bytes) -> None:
        """Read what came."""
        request = ExportTraceServiceRequest.FromString(body)
        for group in request.resource_spans:
            resource = {one.key: one.value.string_value for one in group.resource.attributes}
            for span in (span for scope in group.scope_spans for span in scope.spans):
                values = {one.key: one.value for one in span.attributes}
                self.spans.append(
                    Span(
                        trace=span.trace_id.hex(),
                        id=span.span_id.hex(),
                        parent=span.parent_span_id.hex(),
                        name=span.name,
                        kind=span.kind,
                        failed=span.status.code == 2,
                        took_ns=span.end_time_unix_nano - span.start_time_unix_nano,
                        attributes={key: value.string_value or value.int_value for key, value in values.items()},
                        resource=resource,
                    )
                )


class _Handler(BaseHTTPRequestHandler):
    collector: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.collector.hangs:
            time.sleep(3600)
        assert self.path == "/v1/traces" and self.headers["content-type"] == "application/x-protobuf"
        self.collector.take(body)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""
