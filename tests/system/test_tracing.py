"""Traces: real nodes and a real agent, whose spans go to a collector that speaks OTLP."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.core.test_trace_context import GOOD, SPAN, TRACE
from tests.system.collector import Collector
from tests.system.service import Service, answer
from tools.stage.asking import Admin, get
from tools.stage.nodes import Node
from tools.stage.ports import free_port
from tools.stage.stage import Stage, open_stage
from tools.stage.waiting import wait_until

SERVER, CLIENT = 2, 3
"""Kinds of spans, in OTLP."""


@pytest.fixture
def collector() -> Iterator[Collector]:
    """A collector."""
    with contextlib.closing(Collector()) as made:
        yield made


class Rig:
    """Two nodes, and an agent at the second one with a recording service.

    Args:
        stage: starts them.
        tracing: the section of the nodes; an agent has its endpoint.
    """

    def __init__(self, stage: Stage, tracing: dict[str, Any]) -> None:
        self.service = Service()
        self.first = stage.node("n1", {"tracing": tracing})
        self.second = stage.node(
            "n2", {"tracing": tracing, "cluster": {"join": [f"127.0.0.1:{self.first.ports.gossip}"]}}
        )
        self.admin = Admin(free_port())
        settings = {"tracing": {"endpoint": tracing.get("endpoint", "")}}
        settings["admin"] = {"bind_addr": f"127.0.0.1:{self.admin.port}"}
        self.agent = stage.agent(self.second, {"shop": self.service.address}, settings)
        wait_until(lambda: self.ask(self.first)[0] == 200, "the first node to know of the endpoint")
        self.service.requests.clear()

    def ask(self, node: Node, path: str = "/", **fields: str) -> tuple[int, bytes]:
        """Status and body of an answer."""
        found = get(node.ports.proxy, path, {"x-pico-endpoint": "shop", **fields})
        return found.status, found.body

    def trace_fields(self) -> list[tuple[bytes | None, bytes | None]]:
        """`traceparent` and `tracestate` of what came to the service."""
        return [(one.get("traceparent"), one.get("tracestate")) for one in self.service.requests]


@contextlib.contextmanager
def rig(directory: Path, **tracing: Any) -> Iterator[Rig]:
    """A rig, whose processes logged no exception."""
    with open_stage(directory) as stage:
        made = Rig(stage, tracing)
        with contextlib.closing(made.service):
            yield made
        assert stage.new_faults() == []


def test_off(tmp_path: Path) -> None:
    """Without a collector the service gets both fields as the client sent them, across two nodes too, valid or not."""
    with rig(tmp_path) as here:
        for value in (GOOD.decode(), "no such thing"):
            here.ask(here.first, traceparent=value, tracestate="a=1,b=2")
        here.ask(here.second, traceparent=GOOD.decode())
        here.ask(here.second)
        assert here.trace_fields() == [(GOOD, b"a=1,b=2"), (b"no such thing", b"a=1,b=2"), (GOOD, None), (None, None)]
        assert b"pico_trace_spans" not in here.first.admin.get("/metrics")[2]


def test_three_spans(tmp_path: Path, collector: Collector) -> None:
    """A request across two nodes is one trace: the client's span, the two nodes, the agent; and the service is told
    of the last one."""
    with rig(tmp_path, endpoint=collector.url, ratio=0) as here:
        parent = GOOD.decode()
        assert here.ask(here.first, "/cart?token=secret", traceparent=parent, tracestate="a=1")[0] == 200
        spans = {str(span.attributes["pico.hop"]): span for span in collector.wait(3)}
        proxy, link, agent = (spans[hop] for hop in ("proxy", "link", "agent"))
        assert {span.trace for span in spans.values()} == {TRACE.decode()}
        assert (proxy.parent, link.parent, agent.parent) == (SPAN.decode(), proxy.id, link.id)
        assert here.trace_fields() == [(b"00-%b-%b-01" % (TRACE, agent.id.encode()), b"a=1")]
        assert (proxy.kind, link.kind, agent.kind) == (SERVER, SERVER, CLIENT)
        assert proxy.took_ns >= link.took_ns >= agent.took_ns > 0
        for span in spans.values():
            assert span.name == "GET" and not span.failed
            assert span.attributes["url.path"] == "/cart" and span.attributes["pico.endpoint"] == "shop"
            assert span.attributes["http.response.status_code"] == 200
            assert span.attributes["pico.request_id"] == proxy.attributes["pico.request_id"]
        names = [(span.resource["service.name"], span.resource["service.instance.id"]) for span in (proxy, link, agent)]
        assert names == [("pico-node", "n1"), ("pico-node", "n2"), ("pico-agent", "agent-1")]
        assert b"secret" not in repr(collector.spans).encode()


def test_ratio(tmp_path: Path, collector: Collector) -> None:
    """Who says nothing is recorded by the ratio; who says no is not; what fails is told with its code."""
    with rig(tmp_path, endpoint=collector.url, ratio=1) as here:
        collector.wait(3)  # of the question whether the endpoint is known
        collector.spans.clear()
        here.ask(here.second, traceparent=GOOD.decode()[:-2] + "00")
        assert here.trace_fields() == [(GOOD[:-2] + b"00", None)]
        here.ask(here.second, **{"x-pico-endpoint": "nobody"})
        # spans of earlier requests may still come
        (span,) = wait_until(lambda: [one for one in collector.spans if one.failed], "the span of what failed")
        assert span.attributes["error.type"] == "no-upstreams" and span.parent == ""
        assert span.attributes["http.response.status_code"] == 502


def test_a_collector_that_hangs(tmp_path: Path, collector: Collector) -> None:
    """It costs lost spans, which are counted, and nothing else: requests are answered, and the daemons stop in order
    without waiting for it."""
    collector.hangs = True
    with rig(tmp_path, endpoint=collector.url, ratio=1) as here:
        here.service.handler = lambda request: answer(b"x")

        def many() -> None:
            for _ in range(1300):
                assert here.ask(here.first)[0] == 200

        threads = [threading.Thread(target=many) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(here.service.requests) == 5200
        wait_until(lambda: here.first.admin.metric("pico_trace_spans_total", '{result="lost"}') > 0, "lost spans")
        assert here.first.admin.metric("pico_trace_spans_total", '{result="sent"}') == 0
        for process in (here.agent, here.first, here.second):
            process.terminate()
            assert process.wait_exit() == 0


def test_a_collector_that_is_away(tmp_path: Path) -> None:
    """The daemons say so once, count what is lost, and send again once it is there."""
    port = free_port()
    with rig(tmp_path, endpoint=f"http://127.0.0.1:{port}", ratio=1) as here:
        here.first.wait_output("The collector takes no spans")
        lost = here.first.admin.metric("pico_trace_spans_total", '{result="lost"}')
        assert lost > 0


def test_the_last_spans(tmp_path: Path, collector: Collector) -> None:
    """What is recorded right before a stop is sent."""
    with rig(tmp_path, endpoint=collector.url, ratio=1) as here:
        collector.wait(3)
        collector.spans.clear()
        here.ask(here.second)
        for process in (here.agent, here.second):
            process.terminate()
            assert process.wait_exit() == 0
        assert {span.attributes["pico.hop"] for span in collector.spans} == {"proxy", "agent"}
