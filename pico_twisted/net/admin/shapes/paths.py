"""Paths of routes, and what else clients of an admin port need to know."""

from __future__ import annotations

from typing import Final

AGENT_PATH: Final = "/status"
"""What an agent's admin port shows of it; nodes have no such path."""
CONFIGURATION_PATH: Final = "/status/configuration"
"""Path of the route that tells the configuration that a node goes by."""
NO_SUCH_NODE: Final = "no such node"
"""What the error of a 404 begins with when a node is unknown: so its clients tell that from a path that is."""
RELOAD_PATH: Final = "/reload"
"""Path of the route that has a process read its configuration again."""
OPERATOR: Final = "x-pico-operator"
"""Name of the field that says who asks for a change. Any value will do; it is logged."""
WHOAMI_PATH: Final = "/whoami"
"""Path of the route that tells whoever shows a credential who they are at each port."""
AGENTS_PATH: Final = "/status/upstream/agents"
"""Path of the route that tells a node's own agents; other nodes ask it."""
