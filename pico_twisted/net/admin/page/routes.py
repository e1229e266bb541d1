"""The routes of the page: its files, the stream of what it shows, and what other nodes ask for theirs."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.web.server import Request
from zope.interface import implementer

from pico_twisted.core.access.rules import Action
from pico_twisted.net.access.interfaces import IGate
from pico_twisted.net.admin.answers import JSON, answer, fail
from pico_twisted.net.admin.asking_nodes import AskingNodes
from pico_twisted.net.admin.page.feed import Feed, TellsNews
from pico_twisted.net.admin.page.files import PageFiles
from pico_twisted.net.admin.page.own_news import OwnNews
from pico_twisted.net.admin.page.viewers import EVENT_STREAM, MOST_VIEWERS, Viewer, event
from pico_twisted.net.admin.routes import IRouteGroup, Routes
from pico_twisted.net.admin.shapes.news import NEWS_PATH
from pico_twisted.net.admin.shapes.reading import to_json
from pico_twisted.net.admin.site import AdminRequest

LIVE_PATH: Final = "/live"
"""Path of the stream."""

_MAY: Final = {Action.ADMIN_READ: "read", Action.ADMIN_OPERATE: "operate", None: ""}


@implementer(IRouteGroup)
class PageRoutes:
    """See above.

    Args:
        files: of the page, which browsers also get at `/`.
        feed: tells what it shows.
        own: what is new at this node.
        about: of the node, for the page: `node`, `cluster` and `version`.
        now: tells the time, in seconds.
    """

    def __init__(
        self, files: PageFiles, feed: Feed, own: TellsNews, about: Mapping[str, str], now: Callable[[], float]
    ) -> None:
        self.files = files
        self._feed = feed
        self._own = own
        self._about = about
        self._now = now

    def routes(self) -> Routes:
        """See `IRouteGroup`."""
        return {
            "/page/<name>": ("the files of the page that browsers get at /", self.files.file),
            LIVE_PATH: ("what that page shows, as server-sent events", self.live),
            NEWS_PATH: ("what is new at this node, for the pages of others: since=<seconds since 1970>", self.news),
        }

    def changes(self) -> Routes:
        """See `IRouteGroup`."""
        return {}

    def news(self, request: Request) -> bytes:
        """Tell another node what is new here."""
        given: dict[bytes, list[bytes]] = request.args or {}
        try:
            since_s = float(given.get(b"since", [b"0"])[0])
        except ValueError:
            since_s = math.nan
        if not math.isfinite(since_s):
            return fail(request, HTTPStatus.BAD_REQUEST, "since takes seconds since 1970")
        news = to_json(self._own(since_s, b"agents" in given))
        return answer(request, json.dumps(news).encode("ascii") + b"\n", JSON)  # in few bytes: it is asked for often

    def live(self, request: AdminRequest) -> bytes | Deferred[bytes]:
        """Tell a viewer what the page shows, until they leave."""
        if EVENT_STREAM not in (request.getHeader("accept") or ""):
            return fail(request, HTTPStatus.NOT_ACCEPTABLE, f"this goes on for ever: ask with Accept: {EVENT_STREAM}")
        if len(self._feed) >= MOST_VIEWERS:
            words = f"{MOST_VIEWERS} people look at this page of this process, and that is all that may: try again"
            return fail(request, HTTPStatus.SERVICE_UNAVAILABLE, words)
        request.setHeader(b"content-type", EVENT_STREAM.encode("ascii"))
        request.setHeader(b"x-accel-buffering", b"no")  # a proxy in front would keep it, and nobody would see it
        if request.method == b"HEAD":
            return b""
        viewer = Viewer(request, self._now)
        viewer.write(event("hello", self._hello(request)))
        viewer.ended.addBoth(lambda result: self._left(viewer, result))
        self._feed.add(viewer)
        return viewer.ended

    def _hello(self, request: AdminRequest) -> dict[str, object]:
        operator = request.operator
        return {
            **self._about,
            "operator": operator.name,
            "may": _MAY[operator.action],
            "logged_in": operator.logged_in,
        }

    def _left(self, viewer: Viewer, result: bytes) -> bytes:
        self._feed.remove(viewer)
        return result


def page_of_node(
    own: OwnNews, asking: AskingNodes, gate: IGate, clock: IReactorTime, about: Mapping[str, str]
) -> PageRoutes:
    """Put the page of a node together.

    Args:
        own: what is new at this node.
        asking: asks the others.
        gate: of the admin port.
        clock: tells the time, and wakes.
        about: as of `PageRoutes`.
    """
    feed = Feed(own.status, own, asking, lambda: gate.enabled, clock, own.memory.wall)
    return PageRoutes(PageFiles(), feed, own, about, clock.seconds)
