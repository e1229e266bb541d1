"""Routes of an admin port, in groups: each part that has something to show or to change brings its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from twisted.internet.defer import Deferred
from zope.interface import Interface

Routes = Mapping[str, tuple[str, Callable[..., bytes | Deferred[bytes]]]]
"""Path -> (what is there, for the index; what answers)."""


class IRouteGroup(Interface):
    """Some routes of an admin port."""

    def routes() -> Routes:
        """Those that show something, for GET and HEAD."""

    def changes() -> Routes:
        """Those that change something, for POST; only operators get there."""
