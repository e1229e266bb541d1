"""Which requests are recorded, what is told of them, and what goes on."""

from __future__ import annotations

import pytest

from pico_twisted.core.http1.head import HeadLimits, parse_request_head
from pico_twisted.core.trace_context import read_traceparent
from pico_twisted.net.observe.tracing.tracer import AGENT, LINK, PROXY, FinishedSpan, Tracer
from tests.core.test_trace_context import GOOD, SPAN, TRACE


def head_with(*fields: bytes, target: bytes = b"/a/b?token=secret") -> bytes:
    """A request's head."""
    return b"\r\n".join([b"GET " + target + b" HTTP/1.1", b"Host: shop.example.com", *fields, b"", b""])


class Recorder:
    """A tracer, and what it recorded."""

    def __init__(self, ratio: float = 0.0, chance: float = 0.5) -> None:
        self.spans: list[FinishedSpan] = []
        self.tracer = Tracer(ratio, self.spans.append, lambda: chance)

    def begin(self, *fields: bytes, target: bytes = b"/a/b?token=secret") -> dict[bytes, list[bytes]] | None:
        """A request comes and ends; the trace fields of what went on, or None when it goes on as it is."""
        head = parse_request_head(head_with(*fields, target=target), HeadLimits())
        begun = self.tracer.begin(head, b"r1")
        if begun is None:
            return None
        span, sent = begun
        span.end("shop", 200)
        found: dict[bytes, list[bytes]] = {}
        for name, _, value in sent.fields:
            found.setdefault(name, []).append(value)
        assert {name: values[0] for name, values in found.items()} == dict(sent.by_name)
        return found


def test_the_flag_of_the_client() -> None:
    """A client that records is followed, whatever the ratio; one that does not, or whose chance is small, is not."""
    follows = Recorder(ratio=0.0)
    sent = follows.begin(b"traceparent: " + GOOD, b"tracestate: a=1", b"X-Other: 1")
    (span,) = follows.spans
    assert span.hop == PROXY and span.trace_id == TRACE and span.parent is not None and span.parent.span_id == SPAN
    assert sent is not None and sent[b"tracestate"] == [b"a=1"] and sent[b"x-other"] == [b"1"]
    (value,) = sent[b"traceparent"]
    assert value == b"00-" + TRACE + b"-" + span.span_id + b"-01" and span.span_id != SPAN
    assert Recorder(ratio=1.0).begin(b"traceparent: " + GOOD[:-2] + b"00") is None
    assert Recorder(ratio=0.5, chance=0.5).begin() is None


def test_a_trace_begins() -> None:
    """By chance, with an ID of its own, which goes on; what was no valid context does not, nor its tracestate."""
    recorder = Recorder(ratio=0.6, chance=0.5)
    sent = recorder.begin(b"traceparent: nonsense", b"Traceparent: " + GOOD, b"tracestate: a=1")
    (span,) = recorder.spans
    assert span.parent is None and sent is not None and b"tracestate" not in sent
    (value,) = sent[b"traceparent"]
    parent = read_traceparent(value)
    assert parent is not None and (parent.trace_id, parent.span_id) == (span.trace_id, span.span_id)


def test_what_is_told() -> None:
    """Method, path, host, endpoint, ID, status and code; no query, and no more of a path than is reasonable."""
    recorder = Recorder(ratio=1.0)
    recorder.begin(b"Cookie: secret", b"Authorization: secret", target=b"/" + b"p" * 4000 + b"?token=secret")
    (span,) = recorder.spans
    assert span.attributes == {
        "http.request.method": "GET",
        "url.path": "/" + "p" * 1023,
        "server.address": "shop.example.com",
        "http.response.status_code": 200,
        "pico.hop": "proxy",
        "pico.endpoint": "shop",
        "pico.request_id": "r1",
    }
    assert not span.failed and span.ended_ns >= span.started_ns


@pytest.mark.parametrize(
    ("status", "error", "kind"), [(502, "no-upstreams", "no-upstreams"), (500, "", "500"), (404, "", ""), (0, "", "")]
)
def test_what_failed(status: int, error: str, kind: str) -> None:
    """An error of ours, a service's 5xx, and what had no answer are failures; a 404 is none."""
    recorder = Recorder(ratio=1.0)
    begun = recorder.tracer.begin(parse_request_head(head_with(), HeadLimits()), b"")
    assert begun is not None
    begun[0].end("shop", status, error)
    begun[0].end("shop", 200)
    (span,) = recorder.spans
    assert span.failed is (status != 404)
    assert span.attributes.get("error.type", "") == kind


def test_the_hops_behind() -> None:
    """They record what the hop before them does, and put their span in the same place of the same bytes."""
    recorder = Recorder(ratio=1.0, chance=0.0)
    payload = head_with(b"traceparent: " + GOOD, b"x-request-id: r1") + b"body"
    joined = recorder.tracer.joined(LINK, payload)
    assert joined is not None
    span, sent = joined
    assert sent == payload.replace(SPAN, span.span_id)
    again = recorder.tracer.joined(AGENT, sent)
    assert again is not None
    again[0].end("shop", 200)
    span.status = 200
    span.end("shop")
    last, first = recorder.spans
    assert last.parent is not None and last.parent.span_id == first.span_id == span.span_id
    assert first.parent is not None and first.parent.span_id == SPAN
    assert first.attributes["pico.request_id"] == "r1" and first.attributes["url.path"] == "/a/b"
    assert first.attributes["http.response.status_code"] == 200


@pytest.mark.parametrize("fields", [(), (b"traceparent: " + GOOD[:-2] + b"00",), (b"traceparent: x",)])
def test_hops_behind_begin_no_traces(fields: tuple[bytes, ...]) -> None:
    """What the hop before does not record goes on as it is."""
    assert Recorder(ratio=1.0, chance=0.0).tracer.joined(AGENT, head_with(*fields)) is None
