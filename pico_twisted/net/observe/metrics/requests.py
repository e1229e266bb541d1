"""Requests that are over, and what went wrong with them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

import attrs
from prometheus_client.core import CounterMetricFamily, Metric

from pico_twisted.net.observe.error_codes import CODES, hop_of
from pico_twisted.net.observe.metrics.families import Distribution, by_label, labelled
from pico_twisted.net.observe.metrics.labels import METHODS, OTHER, SERVICE_FAILURES

REQUEST_BOUNDS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds of the histograms of requests, in seconds."""


FAILED_FROM: Final = 499
"""The least status of a request that failed: its client left, we did, or its service did."""


@attrs.frozen(kw_only=True)
class RequestTotals:
    """What was counted of requests since the start.

    Attributes:
        requests: that are over.
        failed: those of them with a status from `FAILED_FROM` on.
        bytes_in, bytes_out: of their bodies.
        took, first_bytes: how many took so long, and how many answers began after so long; as of
            `Distribution.counts`, with `REQUEST_BOUNDS_S`.
    """

    requests: int
    failed: int
    bytes_in: int
    bytes_out: int
    took: Sequence[int]
    first_bytes: Sequence[int]


class RequestCounts:
    """The requests of a node's clients, or the calls of an agent's services.

    Attributes:
        first_byte: counts how long a client waited for the first byte of its response, in seconds.
    """

    def __init__(self) -> None:
        self._others: dict[int, int] = {}
        self._requests: dict[bytes, dict[int, int]] = {method: {} for method in METHODS}
        self._request_s = Distribution(REQUEST_BOUNDS_S)
        self._first_byte_s = Distribution(REQUEST_BOUNDS_S)
        self._observe_request = self._request_s.observe
        self.first_byte = self._first_byte_s.observe
        self._bytes_in = 0
        self._bytes_out = 0
        self._errors: Counter[tuple[str, ...]] = Counter()
        self._service_errors: Counter[str] = Counter()

    def done(self, method: bytes, status: int, seconds: float, bytes_in: int, bytes_out: int) -> None:
        """Count a request that is over.

        Args:
            method: as received; anything unusual is counted as `other`.
            status: what the client got; 499 when it went away first.
            seconds: from the first byte of its head to the last of its answer.
            bytes_in: bytes of the request's body.
            bytes_out: bytes of the answer's body.
        """
        counts = self._requests.get(method, self._others)
        if not 100 <= status <= 599:
            status = 0
        counts[status] = counts.get(status, 0) + 1
        self._observe_request(seconds)
        self._bytes_in += bytes_in
        self._bytes_out += bytes_out

    def failed(self, code: str, over_link: bool) -> None:
        """Count an error of a node; arguments as of `error_codes.hop_of`."""
        self._errors[code if code in CODES else OTHER, hop_of(code, over_link)] += 1

    def service_failed(self, reason: str) -> None:
        """Count a call that an agent could not serve, unless its listener's policy refused it: that is counted there.

        Args:
            reason: one of `SERVICE_FAILURES`, or a policy's.
        """
        if reason in SERVICE_FAILURES:
            self._service_errors[reason] += 1

    def totals(self) -> RequestTotals:
        """What was counted until now."""
        counts = [pair for counts in (*self._requests.values(), self._others) for pair in counts.items()]
        return RequestTotals(
            requests=sum(count for _, count in counts),
            failed=sum(count for status, count in counts if status >= FAILED_FROM),
            bytes_in=self._bytes_in,
            bytes_out=self._bytes_out,
            took=self._request_s.counts(),
            first_bytes=self._first_byte_s.counts(),
        )

    def families(self, at_node: bool) -> Iterator[Metric]:
        """The metrics; a node has others than an agent."""
        yield labelled(
            "pico_requests",
            "Requests that are over, by method and status; 499 is a client that left.",
            ("method", "status"),
            {
                (method.decode("ascii"), str(status) if status else OTHER): count
                for method, counts in (*self._requests.items(), (OTHER.encode(), self._others))
                for status, count in counts.items()
            },
        )
        yield self._request_s.family("pico_request_seconds", "From the head of a request to the end of its answer.")
        yield CounterMetricFamily("pico_request_bytes", "Bytes of request bodies.", value=self._bytes_in)
        yield CounterMetricFamily("pico_response_bytes", "Bytes of response bodies.", value=self._bytes_out)
        if at_node:
            yield self._first_byte_s.family(
                "pico_first_byte_seconds", "From the head of a request to the first byte of its answer."
            )
            yield labelled(
                "pico_errors",
                "Requests that failed, by the code of the error and the hop that it is about.",
                ("code", "hop"),
                self._errors,
            )
        else:
            yield by_label(
                "pico_agent_service_errors",
                "Calls that this agent could not serve, by reason.",
                "reason",
                self._service_errors,
            )
