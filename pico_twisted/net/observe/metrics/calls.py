"""Calls on tunnels and links, and how those do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

from prometheus_client.core import CounterMetricFamily, Metric

from pico_twisted.net.observe.metrics.families import Distribution, by_label, labelled
from pico_twisted.net.observe.metrics.labels import LINK_FAILURES, OTHER, RESET_CODES, RETRY_REASONS, ROUTES

HEARTBEAT_BOUNDS_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the histograms of round trips, in seconds."""


class CallCounts:
    """Calls that go over tunnels.

    Attributes:
        heartbeat: counts the round trip of one heartbeat, in seconds.
    """

    def __init__(self) -> None:
        self._calls = dict.fromkeys(ROUTES, 0)
        self._resets: Counter[tuple[str, ...]] = Counter()
        self._retries: Counter[str] = Counter()
        self._registrations = 0
        self._heartbeat_s = Distribution(HEARTBEAT_BOUNDS_S)
        self.heartbeat = self._heartbeat_s.observe

    def started(self, to: str) -> None:
        """Count an http call.

        Args:
            to: where it goes, one of `ROUTES`.
        """
        self._calls[to] += 1

    def total(self) -> int:
        """How many http calls were made."""
        return sum(self._calls.values())

    def reset(self, sent: bool, code: str) -> None:
        """Count a call that ended by a reset.

        Args:
            sent: whether it was ours.
            code: its code, as in the frame.
        """
        self._resets["sent" if sent else "received", RESET_CODES.get(code, OTHER)] += 1

    def retried(self, reason: str) -> None:
        """Count a request that is tried once more; the reasons are `RETRY_REASONS`."""
        self._retries[RETRY_REASONS.get(reason, OTHER)] += 1

    def registered(self) -> None:
        """Count a session that an agent has opened at this node."""
        self._registrations += 1

    def families(self, at_node: bool) -> Iterator[Metric]:
        """The metrics; a node has others than an agent."""
        yield CounterMetricFamily(
            "pico_calls", "HTTP calls: opened by this node, or served by this agent.", value=self.total()
        )
        if at_node:
            yield by_label(
                "pico_routed",
                "HTTP calls by where they went: an agent of this node, or another node.",
                "to",
                {to: count for to, count in self._calls.items() if to != "service"},
            )
            yield CounterMetricFamily(
                "pico_upstream_registrations",
                "Sessions that agents have opened at this node.",
                value=self._registrations,
            )
        yield labelled(
            "pico_resets",
            "Calls that ended by a reset, by who sent it and its code.",
            ("direction", "code"),
            self._resets,
        )
        yield by_label("pico_retries", "Requests that were tried once more, by reason.", "reason", self._retries)
        yield self._heartbeat_s.family("pico_heartbeat_seconds", "Round trips of heartbeats on tunnels.")


class LinkCounts:
    """Links between nodes.

    Attributes:
        round_trip: counts the round trip of one heartbeat on a link, in seconds.
    """

    def __init__(self) -> None:
        self._calls = {False: 0, True: 0}
        self._round_trip_s = Distribution(HEARTBEAT_BOUNDS_S)
        self._failures: Counter[str] = Counter()
        self.round_trip = self._round_trip_s.observe

    def call(self, sent: bool) -> None:
        """Count a request that went to another node (`sent`), or came from one."""
        self._calls[sent] += 1

    def failed(self, reason: str) -> None:
        """Count a link that could not be opened, or broke; the reasons are `LINK_FAILURES`."""
        self._failures[reason if reason in LINK_FAILURES else OTHER] += 1

    def families(self) -> Iterator[Metric]:
        """The metrics as they are now."""
        yield by_label(
            "pico_link_calls",
            "Requests over node links: sent to other nodes, and received from them.",
            "direction",
            {"sent": self._calls[True], "received": self._calls[False]},
        )
        yield self._round_trip_s.family("pico_link_round_trip_seconds", "Round trips of heartbeats on links.")
        yield by_label(
            "pico_link_failures",
            "Links to other nodes that could not be opened, or broke, by reason.",
            "reason",
            self._failures,
        )
