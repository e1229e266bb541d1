"""What goes through the agent, as it is told: requests when they are over; what does not end, when it begins, too."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from pico_twisted.expose.lines import SWITCHED, failure_words, stream_kind
from pico_twisted.expose.notices import Notices
from pico_twisted.expose.report import Report
from pico_twisted.net.agent.serving.local_service import HeldCall
from pico_twisted.net.observe.access_log import LoggedRequest

_OUR_HOST_REFUSED = (400, 403, 421)  # with which servers refuse a `Host` that they do not know


class Traffic:
    """Tells of requests (`RequestLog`).

    Args:
        report: told.
        notices: knows why services failed.
        calls: those in progress.
        host_hint: what to say when a service seems to refuse the name that clients use; empty for nothing.
        wall: seconds of the Unix epoch.
    """

    enabled = True

    def __init__(
        self,
        report: Report,
        notices: Notices,
        calls: Callable[[], Iterable[HeldCall]],
        host_hint: str = "",
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._report = report
        self._notices = notices
        self._calls = calls
        self._host_hint = host_hint
        self._wall = wall
        self._streams: set[str] = set()  # request IDs of those whose begin was told

    def request(self, request: LoggedRequest) -> None:
        """A request is over (`RequestLog`)."""
        at = self._wall()
        request_id = request["request_id"]
        if request_id in self._streams or request["status"] == SWITCHED:
            self._streams.discard(request_id)  # it is not there when it was short
            self._report.closed(request, at)
            return
        code, service = request["error"], request["upstream"]
        why = self._notices.reason(request["endpoint"]) if code else ""
        self._report.request(request, at, failure_words(code, service, why))
        if self._host_hint and not code:
            hint, self._host_hint = self._host_hint, ""  # the first answer tells
            if request["status"] in _OUR_HOST_REFUSED:
                self._report.note(hint)

    def look(self, now: float) -> None:
        """Tell of what has begun and does not end by itself. To be called some times a second."""
        for call in self._calls():
            told = call.so_far()
            if told is not None and _is_stream(call, told) and told["request_id"] not in self._streams:
                self._streams.add(told["request_id"])
                self._report.opened(told, self._wall())

    def in_progress(self) -> str:
        """What still runs, in words: `1 WebSocket is open, 2 requests are in progress`; empty when nothing does."""
        counts: dict[str, int] = {}
        for call in self._calls():
            told = call.so_far()
            if told is not None:
                kind = stream_kind(told) if _is_stream(call, told) else "request"
                counts[kind] = counts.get(kind, 0) + 1
        return ", ".join(_words(kind, count) for kind, count in sorted(counts.items()))


def _is_stream(call: HeldCall, told: LoggedRequest) -> bool:
    """Whether a call has begun to answer, and goes on for as long as both sides like."""
    return call.never_ends or told["status"] == SWITCHED


def _words(kind: str, count: int) -> str:
    state = "in progress" if kind == "request" else "open"
    return f"1 {kind} is {state}" if count == 1 else f"{count} {kind}s are {state}"
