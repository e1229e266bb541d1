"""What the gossip counts, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from pico_twisted.core.gossip import REASONS, Gossip
from pico_twisted.core.gossip.packets import KINDS
from pico_twisted.net.observe.metrics import Distribution, Metrics, by_label, labelled

DELAY_BOUNDS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the histogram of delays, in seconds."""
STATUSES: Final = ("active", "draining", "unreachable", "left")
"""Statuses by which other nodes are counted."""
_WAYS: Final = ("sent", "received")


class GossipMetrics:
    """Turns what the core counts into metrics at each scrape.

    Args:
        core: decides.
        metrics: of the process.
        clock: monotonic seconds.
        statuses: how many other nodes there are of each status.
    """

    def __init__(
        self,
        core: Gossip,
        metrics: Metrics,
        clock: Callable[[], float],
        statuses: Callable[[], Mapping[str, int]],
    ) -> None:
        self._core = core
        self._clock = clock
        self._statuses = statuses
        self._delays_s = Distribution(DELAY_BOUNDS_S)
        self._not_sent = 0
        self._syncs_failed = 0
        metrics.families(self._families)

    def not_sent(self) -> None:
        """Count a packet that the system did not take."""
        self._not_sent += 1

    def sync_failed(self) -> None:
        """Count maps that were wanted and not got."""
        self._syncs_failed += 1

    def gather(self) -> None:
        """Take the delays out of the core; called often enough that they do not pile up."""
        for delay_s in self._core.delays():
            self._delays_s.observe(delay_s)

    def _families(self) -> Iterator[Metric]:
        self.gather()
        core, counts = self._core, self._core.counts
        yield labelled(
            "pico_gossip_packets",
            "Gossip packets, by kind.",
            ("direction", "kind"),
            {(way, kind): counts.get(f"{way} {kind}", 0) for way in _WAYS for kind in KINDS.values()},
        )
        size = {way: counts.get(f"{way} bytes", 0) for way in _WAYS}
        yield by_label("pico_gossip_bytes", "Bytes of gossip packets.", "direction", size)
        dropped = {reason: counts.get(f"dropped {reason}", 0) for reason in REASONS}
        yield by_label("pico_gossip_dropped", "Gossip packets dropped, by reason.", "reason", dropped)
        yield CounterMetricFamily(
            "pico_gossip_not_sent", "Gossip packets that the system did not take.", value=self._not_sent
        )
        yield CounterMetricFamily("pico_gossip_entries", "Entries taken from other nodes.", value=core.view.entries)
        yield self._delays_s.family("pico_gossip_delay_seconds", "From the writing of an entry to its coming here.")
        syncs = {"taken": counts.get("maps taken", 0), "answered": counts.get("syncs answered", 0)}
        syncs["failed"] = self._syncs_failed
        yield by_label("pico_gossip_syncs", "Maps over links, by what came of it.", "result", syncs)
        yield CounterMetricFamily(
            "pico_gossip_pauses", "Times that this process did not run for a while.", value=counts.get("pauses", 0)
        )
        now = self._clock()
        members = core.view.members.values()
        yield GaugeMetricFamily(
            "pico_gossip_suspicion",
            "The highest suspicion of a live node; from 8 on it is unreachable.",
            value=max((member.suspicion(now) for member in members), default=0.0),
        )
        keys = GaugeMetricFamily("pico_gossip_keys", "Keys and tombstones known of all nodes.", labels=("kind",))
        maps = [core.view.own.map, *(member.map for member in members)]
        keys.add_metric(("live",), sum(one.keys for one in maps))
        keys.add_metric(("tombstone",), sum(one.tombstones for one in maps))
        yield keys
        nodes = GaugeMetricFamily("pico_nodes", "Other nodes of the cluster, by status.", labels=("status",))
        statuses = self._statuses()
        for status in STATUSES:
            nodes.add_metric((status,), statuses.get(status, 0))
        yield nodes
