"""The port of the inspector: its page, what the page asks, and who may ask."""

from pico_twisted.net.admin.inspect.port import InspectorPort, open_inspector

__all__ = ["InspectorPort", "open_inspector"]
