"""The inspector of an agent: what passes, kept for the developer who looks, on a port of its own."""

from pico_twisted.net.agent.inspect.inspector import Inspector

__all__ = ["Inspector"]
