"""Pico on Twisted: a reverse tunnel for production traffic that you run yourself.

For programs: `Tunnel` here, `aio.expose`, the endpoint strings `pico:...` of Twisted, and the pytest fixture
`pico_url`. See docs/python.md. Everything else may change with each version.
"""

from __future__ import annotations

import importlib

__all__ = ["Tunnel", "__version__"]  # Tunnel is made below

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """Import `Tunnel` when it is asked for: whoever only wants a part of the package does not pay for all of it. What
    type checkers see is in `__init__.pyi`."""
    if name == "Tunnel":
        return importlib.import_module("pico_twisted.door.tunnel").Tunnel
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
