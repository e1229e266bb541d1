"""Traces on the whole path of a request, in memory: the spans of all hops, and what goes on."""

from __future__ import annotations

import itertools

import pytest

from benchmarks.memory_path import MemoryPath
from pico_twisted.net.observe.tracing.tracer import AGENT, LINK, PROXY, FinishedSpan, Tracer
from tests.core.test_trace_context import GOOD, SPAN, TRACE

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def request(*fields: bytes) -> bytes:
    """One of a client."""
    return b"\r\n".join([b"GET /a HTTP/1.1", b"Host: bench.example.com", *fields, b"", b""])


@pytest.mark.parametrize("two_nodes", [False, True])
@pytest.mark.parametrize("fields", [(b"traceparent: " + GOOD,), (b"TraceParent: " + GOOD, b"tracestate: a=1"), ()])
def test_spans(two_nodes: bool, fields: tuple[bytes, ...]) -> None:
    """Each hop has a span whose parent is that of the hop before, the first one that of the client, if it has one."""
    spans: list[FinishedSpan] = []
    path = MemoryPath({b"/a": ANSWER}, two_nodes=two_nodes, tracer=Tracer(1.0, spans.append))
    path.request(request(*fields))
    by_hop = {span.hop: span for span in spans}
    hops = [PROXY, LINK, AGENT] if two_nodes else [PROXY, AGENT]
    assert set(by_hop) == set(hops) and len(spans) == len(hops)
    first = by_hop[PROXY]
    if fields:
        assert first.parent is not None and first.parent.span_id == SPAN and first.trace_id == TRACE
    else:
        assert first.parent is None
    for before, behind in itertools.pairwise(hops):
        parent = by_hop[behind].parent
        assert parent is not None and parent.span_id == by_hop[before].span_id
    assert len({span.trace_id for span in spans}) == 1
    for span in spans:
        assert span.attributes["http.response.status_code"] == 200 and not span.failed
        assert span.attributes["pico.endpoint"] == "bench" and span.attributes["server.address"] == "bench.example.com"
        assert span.attributes["pico.request_id"] == first.attributes["pico.request_id"]


@pytest.mark.parametrize("two_nodes", [False, True])
def test_nothing_is_recorded(two_nodes: bool) -> None:
    """Where a client says no, and where chance does."""
    spans: list[FinishedSpan] = []
    path = MemoryPath({b"/a": ANSWER}, two_nodes=two_nodes, tracer=Tracer(0.0, spans.append))
    path.request(request(b"traceparent: " + GOOD[:-2] + b"00"))
    path.request(request())
    assert spans == []
