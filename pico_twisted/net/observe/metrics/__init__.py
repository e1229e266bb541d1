"""What the parts of a process count, and how Prometheus reads it. Each subject has a file; `Metrics` holds them all."""

from pico_twisted.net.observe.metrics.families import Distribution, by_label, labelled, levels
from pico_twisted.net.observe.metrics.registry import CONTENT_TYPE, Metrics

__all__ = ["CONTENT_TYPE", "Distribution", "Metrics", "by_label", "labelled", "levels"]
