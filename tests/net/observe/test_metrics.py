"""The metrics: what the data path counts comes out as Prometheus expects it, and bounded."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from pico_twisted.core.routing.table import ClusterTable, KnownNode
from pico_twisted.net.observe.error_codes import CODES, HOPS
from pico_twisted.net.observe.metrics import Distribution, Metrics
from pico_twisted.net.observe.metrics.endpoints import MOST_ENDPOINTS, EndpointCounts
from pico_twisted.net.observe.metrics.labels import (
    CONNECT_FAILURES,
    METHODS,
    OTHER,
    RESET_CODES,
    RETRY_REASONS,
    SERVICE_FAILURES,
)
from pico_twisted.net.observe.metrics.requests import REQUEST_BOUNDS_S
from pico_twisted.net.routing.cluster_metrics import MOST_VERSIONS, agent_versions, link_states
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
        codes = {*RESET_CODES.values(), OTHER}
        assert set(found["pico_resets_total"]) == {(code, way) for way in ("sent", "received") for code in codes}
        assert found["pico_resets_total"][(OTHER, "sent")] == 2
        assert found["pico_resets_total"][("stop", "received")] == 1
        assert set(found["pico_retries_total"]) == {(reason,) for reason in (*RETRY_REASONS.values(), OTHER)}
        assert not any(" " in label for labels in found["pico_resets_total"] for label in labels)
        assert set(found["pico_agent_connection_failures_total"]) == {(r,) for r in (*CONNECT_FAILURES, OTHER)}

    @given(st.lists(st.tuples(st.one_of(st.sampled_from(sorted(CODES)), st.text(max_size=8)), st.booleans())))
    def test_errors(self, errors: list[tuple[str, bool]]) -> None:
        """Errors are counted by codes that are known and the five hops, whatever an agent says its code is."""
        metrics = Metrics("node")
        for code, over_link in errors:
            metrics.failed(code, over_link)
        counted = samples(metrics).get("pico_errors_total", {})
        assert all(code in {*CODES, OTHER} and hop in HOPS for code, hop in counted)
        assert sum(counted.values()) == len(errors)

    def test_the_hop_of_an_error(self) -> None:
        """What fails on the way is at the agent, or at the other node that the request went to."""
        metrics = Metrics("node")
        for code, over_link in (
            ("upstream-unreachable", False),
            ("upstream-unreachable", True),
            ("uri-too-long", True),
        ):
            metrics.failed(code, over_link)
        assert set(samples(metrics)["pico_errors_total"]) == {
            ("upstream-unreachable", "agent"),
            ("upstream-unreachable", "link"),
            ("uri-too-long", "client"),
        }

    def test_codes_are_those_of_the_page(self) -> None:
        """Each code that the reference lists for requests has a label, and the other way round."""
        page = (Path(__file__).parents[3] / "docs" / "reference.md").read_text(encoding="utf-8")
        told: set[str] = set()
        for begin in (
            "Made by the node, on the proxy port:",
            "Made by the agent and passed on",
            "Only in the access log:",
        ):
            table = page[page.index(begin) :].split("\n\n")[1]
            for row in table.splitlines()[2:]:
                told |= set(re.findall(r"`([a-z0-9.-]+)`", row.split("|")[1]))
        assert told == set(CODES)

    def test_service_errors(self) -> None:
        """An agent counts what its services did wrong, and not what a listener's policy refused."""
        metrics = Metrics("agent")
        for reason in (*SERVICE_FAILURES, "service-failed", "listener-rate"):
            metrics.service_failed(reason)
        found = samples(metrics)["pico_agent_service_errors_total"]
        assert found == {(reason,): 2 if reason == "service-failed" else 1 for reason in SERVICE_FAILURES}


class TestEndpoints:
    """Requests by endpoint, for those who ask for it."""

    def test_off(self) -> None:
        """Without the wish there is no series of an endpoint."""
        assert b"pico_endpoint_" not in Metrics("node").exposition()

    def test_counted(self) -> None:
        """Each endpoint has its requests by class of status, its first bytes, and what is in flight."""
        metrics = Metrics("node")
        metrics.endpoints = EndpointCounts(lambda: ["a", "a", "new"], ["a"].__contains__)
        metrics.endpoints.done("a", True, 200, 0.5)
        metrics.endpoints.done("a", True, 204, 1.0)
        metrics.endpoints.done("a", True, 502, None)
        found = samples(metrics)
        assert found["pico_endpoint_requests_total"] == {("a", "2xx"): 2, ("a", "5xx"): 1}
        assert found["pico_endpoint_first_byte_seconds_sum"] == {("a",): 1.5, (OTHER,): 0}
        assert found["pico_endpoint_first_byte_seconds_count"] == {("a",): 2, (OTHER,): 0}
        assert found["pico_endpoint_requests_in_flight"] == {("a",): 2, (OTHER,): 1}

    def test_names_that_clients_make_up(self) -> None:
        """Whoever asks for endpoints that nobody serves makes no series, and takes no place from one that is served."""
        metrics = Metrics("node")
        metrics.endpoints = EndpointCounts(list, [].__contains__)
        for number in range(MOST_ENDPOINTS + 5):
            metrics.endpoints.done(f"guess-{number}", False, 502, None)
        metrics.endpoints.done("a", True, 200, None)
        assert samples(metrics)["pico_endpoint_requests_total"] == {("a", "2xx"): 1, (OTHER, "5xx"): MOST_ENDPOINTS + 5}

    def test_ceiling(self) -> None:
        """Beyond the most endpoints all are `other`, until a scrape finds that some are held by nobody any more."""
        metrics = Metrics("node")
        metrics.endpoints = counts = EndpointCounts(list, ["held-0", "late"].__contains__)
        for number in range(MOST_ENDPOINTS):
            counts.done(f"held-{number}", True, 200, None)
        counts.done("late", True, 200, None)
        assert samples(metrics)["pico_endpoint_requests_total"] == {("held-0", "2xx"): 1, (OTHER, "2xx"): 1}
        counts.done("late", True, 200, None)
        assert samples(metrics)["pico_endpoint_requests_total"][("late", "2xx")] == 1

    def test_one_that_is_called_other(self) -> None:
        """An endpoint of that name shares the series: none appears twice."""
        metrics = Metrics("node")
        metrics.endpoints = EndpointCounts(list, [].__contains__)
        metrics.endpoints.done(OTHER, True, 200, 0.1)
        assert samples(metrics)["pico_endpoint_requests_total"] == {(OTHER, "2xx"): 1}


class TestLimits:
    def test_beside_what_they_limit(self) -> None:
        """Each limit has what there may be and what there is, under one name."""
        metrics = Metrics("node")
        metrics.limit("calls", 20, lambda: 5)
        found = samples(metrics)
        assert found["pico_limit"] == {("calls",): 20}
        assert found["pico_limit_used"] == {("calls",): 5}

    def test_near(self) -> None:
        """From a share on a limit is near; one of nothing is not."""
        metrics = Metrics("node")
        metrics.limit("calls", 20, lambda: 15)
        metrics.limit("sessions", 5, lambda: 4)
        metrics.limit("links", 3, lambda: 3)
        metrics.limit("connections", 0, lambda: 0)
        assert metrics.near_limits(0.8) == {"sessions": (4, 5), "links": (3, 3)}


class TestCluster:
    def test_links(self) -> None:
        """Links are counted by how they stand, those to nodes that are gone are not."""
        table = ClusterTable(lambda: 0.0)
        for node_id, status in (("a", "active"), ("b", "active"), ("c", "draining"), ("d", "unreachable")):
            table.nodes[node_id] = KnownNode(node_id, status)
        standing = {"a": "open", "b": "no route to host", "d": "no route to host"}
        (family,) = link_states(table, lambda node_id: standing.get(node_id, ""))
        assert {one.labels["state"]: one.value for one in family.samples} == {"open": 1, "failing": 1, "idle": 1}

    @given(st.lists(st.text("0123456789.-abc", min_size=1, max_size=6), max_size=60))
    def test_versions(self, versions: list[str]) -> None:
        """Whatever agents say they are, there are few series, and every session is counted in one."""
        by_version, oldest = agent_versions(versions)
        assert len(by_version.samples) <= MOST_VERSIONS
        assert sum(one.value for one in by_version.samples) == len(versions)
        assert len(oldest.samples) == bool(versions)

    def test_oldest(self) -> None:
        """Versions are in the order of their numbers, not of their letters."""
        _, oldest = agent_versions(["0.10.0", "0.9.1", "0.9.10"])
        assert oldest.samples[0].labels == {"version": "0.9.1"}


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
