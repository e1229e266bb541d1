"""Traces of requests for OpenTelemetry: for those who configure a collector, and only then is anything of it loaded."""

from pico_twisted.net.observe.tracing.tracer import AGENT, LINK, HopSpan, Tracer

__all__ = ["AGENT", "LINK", "HopSpan", "Tracer"]
