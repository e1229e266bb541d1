"""Which port of a node answered: asked by those who came to the wrong one.

Each port of a node says in its own answers which one it is. What is not told, as by older nodes, is read out of how
they have always answered.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

PORT_FIELD: Final = "x-pico-port"
"""The field of answers that names the port."""

PROXY: Final = "proxy"
ADMIN: Final = "admin"
UPSTREAM: Final = "upstream"
GOSSIP: Final = "gossip"
UNNAMED: Final = "unnamed"
"""A port of Pico that does not say which."""

_NAMED: Final = frozenset((PROXY, ADMIN, UPSTREAM, GOSSIP))
_CODES_OF_PROXY: Final = frozenset(("missing-endpoint", "no-upstreams"))


def port_that_answered(get: Callable[[str], str | None]) -> str:
    """Name the port.

    Args:
        get: gives the value of a field of the answer, by its lower-case name.

    Returns:
        One of the names of this module; empty when nothing in the answer says that it is of Pico.
    """
    named = get(PORT_FIELD)
    if named in _NAMED:
        return named
    error = get("x-pico-error")
    if error is not None:
        return PROXY if error.rpartition("; ")[2] in _CODES_OF_PROXY else UNNAMED
    if get("server") == "pico":
        return ADMIN
    return UNNAMED if get("x-pico-node-id") is not None else ""


def wrong_port(port: str, wanted: str) -> str:
    """Words for somebody who looks for one port and met another; empty when it may be the right one."""
    return f"that is the {port} port of a node" if port in _NAMED and port != wanted else ""
