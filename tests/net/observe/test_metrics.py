"""The metrics: what the data path counts comes out as Prometheus expects it, and bounded."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from pico_twisted.net.observe.metrics import (
    CONNECT_FAILURES,
    METHODS,
    OTHER,
    REQUEST_BOUNDS_S,
    RESET_CODES,
    RETRY_REASONS,
    Distribution,
    Metrics,
)
from tests.conftest import LoggedFailures


def samples(metrics: Metrics) -> dict[str, dict[tuple[str, ...], float]]:
    """Sample name -> label values, in the order of the labels' names -> value."""
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(metrics.exposition().decode()):
        for sample in family.samples:
            key = tuple(value for _, value in sorted(sample.labels.items()))
            assert key not in found.setdefault(sample.name, {}), "a series appears twice"
            found[sample.name][key] = sample.value
    return found


class TestRequests:
    def test_counted(self) -> None:
        """Requests are counted by method and status, with their bytes and times."""
        metrics = Metrics("node")
        for _ in range(3):
            metrics.request_done(b"GET", 200, 0.004, 0, 100)
        metrics.request_done(b"POST", 502, 31.0, 7, 20)
        metrics.request_done(b"GET", 499, 0.0, 0, 0)
        found = samples(metrics)
        assert found["pico_requests_total"] == {("GET", "200"): 3, ("GET", "499"): 1, ("POST", "502"): 1}
        assert found["pico_request_bytes_total"] == {(): 7}
        assert found["pico_response_bytes_total"] == {(): 320}
        assert found["pico_request_seconds_count"] == {(): 5}
        assert found["pico_request_seconds_sum"][()] == pytest.approx(31.012)
        buckets = found["pico_request_seconds_bucket"]
        assert buckets[("0.001",)] == 1
        assert buckets[("0.0025",)] == 1
        assert buckets[("0.005",)] == 4
        assert buckets[("30.0",)] == 4
        assert buckets[("60.0",)] == buckets[("+Inf",)] == 5

    def test_bounds_are_inclusive(self) -> None:
        """A duration that is exactly a bound belongs under it, as Prometheus defines `le`."""
        distribution = Distribution((1.0, 2.0))
        for seconds in (1.0, 2.0, 2.5):
            distribution.observe(seconds)
        (family,) = (distribution.family("x", "x"),)
        found = {sample.labels.get("le"): sample.value for sample in family.samples if sample.name == "x_bucket"}
        assert found == {"1.0": 1, "2.0": 2, "+Inf": 3}

    @given(st.lists(st.floats(0, 100), max_size=50))
    def test_histogram(self, durations: list[float]) -> None:
        """Each bucket holds as many as a count by hand, whatever the durations."""
        metrics = Metrics("node")
        for seconds in durations:
            metrics.request_done(b"GET", 200, seconds, 0, 0)
        found = samples(metrics)
        for bound in (*REQUEST_BOUNDS_S, math.inf):
            label = "+Inf" if bound == math.inf else repr(bound)
            assert found["pico_request_seconds_bucket"][(label,)] == sum(seconds <= bound for seconds in durations)
        assert found["pico_request_seconds_sum"][()] == pytest.approx(sum(durations))


class TestBounded:
    @given(st.lists(st.tuples(st.binary(), st.integers())))
    def test_requests(self, requests: list[tuple[bytes, int]]) -> None:
        """No client can make a new series of its own: odd methods and statuses share one each."""
        metrics = Metrics("node")
        for method, status in requests:
            metrics.request_done(method, status, 0.0, 0, 0)
        counted = samples(metrics).get("pico_requests_total", {})
        for name, code in counted:
            assert name == OTHER or name.encode() in METHODS
            assert code == OTHER or 100 <= int(code) <= 599
        assert sum(counted.values()) == len(requests)

    def test_codes_and_reasons(self) -> None:
        """Codes and reasons come from fixed sets; anything else is `other`."""
        metrics = Metrics("agent")
        for code in (*RESET_CODES, "my own code", "my other code"):
            metrics.reset(True, code)
            metrics.reset(False, code)
        for reason in (*RETRY_REASONS, "because", ""):
            metrics.retried(reason)
        for reason in (*CONNECT_FAILURES, "moon", "stars"):
            metrics.connect_failed(reason)
        found = samples(metrics)
        codes = {*RESET_CODES, OTHER}
        assert set(found["pico_resets_total"]) == {(code, way) for way in ("sent", "received") for code in codes}
        assert found["pico_resets_total"][(OTHER, "sent")] == 2
        assert found["pico_resets_total"][("stop", "received")] == 1
        assert set(found["pico_retries_total"]) == {(reason,) for reason in (*RETRY_REASONS, OTHER)}
        assert set(found["pico_agent_connection_failures_total"]) == {(r,) for r in (*CONNECT_FAILURES, OTHER)}


class TestOthers:
    def test_tunnels(self) -> None:
        """Calls, heartbeats and the reactor's lag."""
        metrics = Metrics("node")
        metrics.call_started("agent")
        metrics.call_started("agent")
        metrics.heartbeat(0.003)
        metrics.lag(0.2)
        metrics.lag(-0.1)
        found = samples(metrics)
        assert found["pico_calls_total"] == {(): 2}
        assert found["pico_heartbeat_seconds_count"] == {(): 1}
        assert found["pico_heartbeat_seconds_bucket"][("0.0025",)] == 0
        assert found["pico_heartbeat_seconds_bucket"][("0.005",)] == 1
        assert found["pico_reactor_lag_seconds_count"] == {(): 2}
        assert found["pico_reactor_lag_seconds_sum"] == {(): 0.2}

    def test_agent(self) -> None:
        """An agent counts its connections; a node has no such series."""
        metrics = Metrics("agent", "1.2.3")
        metrics.connected()
        metrics.connected(True)
        metrics.refused(401)
        metrics.refused(9999)
        metrics.connect_failed("dns")
        found = samples(metrics)
        assert found["pico_agent_connects_total"] == {(): 2}
        assert found["pico_agent_reconnects_total"] == {(): 1}
        assert found["pico_agent_refusals_total"] == {("401",): 1, (OTHER,): 1}
        assert found["pico_agent_connection_failures_total"] == {("refused",): 2, ("dns",): 1}
        assert found["pico_build_info"] == {("agent", "1.2.3"): 1}
        assert not any(name.startswith("pico_agent") for name in samples(Metrics("node")))

    def test_process(self) -> None:
        """Process, platform and garbage collector are there, and each process object has a registry of its own."""
        for _ in range(2):
            found = samples(Metrics("node"))
            assert found["process_resident_memory_bytes"][()] > 0
            assert found["process_open_fds"][()] > 0
            assert "python_info" in found
            assert set(found["python_gc_collections_total"]) == {("0",), ("1",), ("2",)}

    def test_component(self) -> None:
        """Only a node or an agent has metrics."""
        with pytest.raises(ValueError, match="node or agent"):
            Metrics("service")

    def test_help(self) -> None:
        """Every metric of ours says what it is, and has the unit or the suffix that its type asks for."""
        for component in ("node", "agent"):
            for family in text_string_to_metric_families(Metrics(component).exposition().decode()):
                if family.name.startswith("pico_"):
                    assert family.documentation.endswith("."), family.name
                    if family.type == "histogram":
                        assert family.name.endswith("_seconds")


class TestGauges:
    def test_read_at_each_scrape(self) -> None:
        """A gauge is read when somebody looks."""
        metrics = Metrics("node")
        open_sessions: set[int] = set()
        metrics.gauge("pico_upstream_sessions", "Sessions.", lambda: len(open_sessions))
        assert samples(metrics)["pico_upstream_sessions"] == {(): 0}
        open_sessions.update((1, 2))
        assert samples(metrics)["pico_upstream_sessions"] == {(): 2}

    @pytest.mark.parametrize(
        "name",
        ["sessions", "pico_", "pico_Sessions", "pico_a-b", "pico_requests", "pico_request_seconds", "pico_taken"],
    )
    def test_names(self, name: str) -> None:
        """A name that is not ours, or that is taken, is refused when the gauge is added."""
        metrics = Metrics("node")
        metrics.gauge("pico_taken", "Taken.", lambda: 0)
        with pytest.raises(ValueError, match=name):
            metrics.gauge(name, "x", lambda: 0)

    def test_one_that_raises(self, logged_failures: LoggedFailures) -> None:
        """A gauge that cannot be read is logged and left out; the scrape goes on."""

        def broken() -> float:
            raise RuntimeError("no")

        metrics = Metrics("node")
        metrics.gauge("pico_broken", "Broken.", broken)
        metrics.gauge("pico_whole", "Whole.", lambda: 1)
        found: dict[str, Any] = samples(metrics)
        assert "pico_broken" not in found
        assert found["pico_whole"] == {(): 1}
        assert len(logged_failures.flush(RuntimeError)) == 1
