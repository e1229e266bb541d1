"""What becomes of requests that are over: lines of the access log, and a memory of the newest.

What is needed. Somebody asks what became of a request, or how an endpoint does, when something has gone wrong: then it
is too late to begin to write down. And a request that is fine must cost nothing for that while nobody asks.

What was chosen. Those that failed are kept always. All are kept while the access log is on, which has them put together
anyway, and for a while after somebody has looked. Who has a request that is over asks `wants_all`, an attribute, before
anything is put together, and what is kept is made readable only for who looks. What is told of endpoints is counted for
a while after somebody has looked. Numbers of the whole process are differences of counters that are there anyway; see
`busyness`.

What can go wrong. Strangers send nonsense all night: what is refused for the client's own fault did not fail, is kept
apart, and drives nothing out that an operator looks for. Nor does what they ask of endpoints that they guess: that
nobody serves one is a failure, since its agent may be away, but it has its place apart. Targets may be long and hold
credentials: they are cut, and values in them are hidden before anybody sees them; of fields nothing is kept. Endpoint
IDs are strangers' words, too: only so many are counted.
"""

from __future__ import annotations

import itertools
import math
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from operator import itemgetter
from typing import Final, NamedTuple

from pico_twisted.net.observe.access_log import NO_FIELDS, LoggedRequest, RequestLog
from pico_twisted.net.observe.error_codes import CLIENT, SERVICE, hop_of
from pico_twisted.net.observe.metrics.requests import FAILED_FROM, REQUEST_BOUNDS_S

MOST_FAILED: Final = 500
"""Most requests that failed, and are remembered for that."""
MOST_REFUSED: Final = 250
"""Most requests that were refused, for their clients' own fault, and are remembered for that."""
MOST_UNSERVED: Final = 250
"""Most requests for endpoints that nobody served, and are remembered for that."""
MOST_FINE: Final = 1000
"""Most others that are remembered."""
MAX_TARGET_BYTES: Final = 512
"""Most bytes of a target that are kept: all that is kept together then has two megabytes at most."""
LOOKED_S: Final = 10.0
"""Seconds after a look in which all requests are kept for the next one."""
WINDOW_S: Final = 5.0
"""Seconds of one window in which the requests of endpoints are counted; a rate is of the last one or two."""
MOST_ENDPOINTS: Final = 1000
"""Most endpoints that are counted in a window; half of them may be such as nobody serves. What belongs to others is not
counted by its endpoint."""

CLIENT_LEFT: Final = 499
"""Status of a request whose client left before the answer."""

_CLIENT_GONE: Final = "client-gone"
_NO_UPSTREAMS: Final = "no-upstreams"

LINK: Final = "link"
"""The port of requests that other nodes sent."""


class FinishedRequest(NamedTuple):
    """A request that is over, as one hop of its way saw it.

    Attributes:
        seq: its number.
        at_s: when it ended, in seconds since 1970.
        port: where it came in: `proxy`, `link` or `tunnel`.
        over_link: the last that was tried was another node.
        told: what is known of it.
    """

    seq: int
    at_s: float
    port: str
    over_link: bool
    told: LoggedRequest

    @property
    def failed(self) -> bool:
        """Whether it failed: it was not answered, or its answer was cut, or the service says that something is wrong
        with itself. A client that leaves in the middle of an answer may have had enough of it."""
        return _has_failed(self.told["status"], self.told["error"])

    @property
    def refused(self) -> bool:
        """Whether the client got no more than an error of ours that says what it did wrong."""
        return _is_refused(self.told["status"], self.told["error"])

    @property
    def hop(self) -> str:
        """Where it failed, one of `error_codes.HOPS`; empty when it did not."""
        status, error = self.told["status"], self.told["error"]
        if error:
            return hop_of(error, self.over_link)
        return "" if status < FAILED_FROM else CLIENT if status == CLIENT_LEFT else SERVICE


_Kept = tuple[int, float, str, bool, LoggedRequest]
"""What a `FinishedRequest` is made of, once somebody looks."""


def _has_failed(status: int, error: str) -> bool:
    return status >= FAILED_FROM or (status < 400 and error not in ("", _CLIENT_GONE))


def _is_refused(status: int, error: str) -> bool:
    return error != "" and 400 <= status < FAILED_FROM


def _since_when(*rings: deque[_Kept]) -> Iterator[float]:
    """The times since when those that are full remember all."""
    return (ring[0][1] for ring in rings if len(ring) == ring.maxlen)


def unwatched() -> RequestWatch:
    """What takes requests that nobody wants to hear of."""
    return RequestWatch(None, "tunnel", time.monotonic)


class EndpointCounts:
    """What was counted of the requests of one endpoint in a window.

    Attributes:
        requests, failed: how many there were, and how many of them failed.
        durations: how many took so long from their heads to their ends; as of `Distribution.counts`, with
            `REQUEST_BOUNDS_S`.
        first_bytes: the same from their heads to the beginning of their answers.
    """

    __slots__ = ("durations", "failed", "first_bytes", "requests")

    def __init__(self) -> None:
        self.requests = 0
        self.failed = 0
        self.durations = [0] * (len(REQUEST_BOUNDS_S) + 1)
        self.first_bytes = [0] * (len(REQUEST_BOUNDS_S) + 1)


class RequestWatch:
    """Takes the requests of one process that are over.

    Args:
        access_log: told of each, while it is enabled; None where there is none.
        port: where they come in.
        clock: seconds that only advance.
        wall: seconds since 1970.

    Attributes:
        wants_all: requests that did not fail are wanted, too. Who has one that is over asks this first.
        looked_at: somebody looks, or did a moment ago: endpoints are counted, and all requests of other nodes wanted,
            too, of which the access log has no lines.
    """

    def __init__(
        self,
        access_log: RequestLog | None,
        port: str,
        clock: Callable[[], float],
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._access_log = access_log
        self._port = port
        self._clock = clock
        self._wall = wall
        self._seqs = itertools.count(1)
        self._failed: deque[_Kept] = deque(maxlen=MOST_FAILED)
        self._unserved: deque[_Kept] = deque(maxlen=MOST_UNSERVED)
        self._refused: deque[_Kept] = deque(maxlen=MOST_REFUSED)
        self._fine: deque[_Kept] = deque(maxlen=MOST_FINE)
        self._looked_until = -math.inf
        self._began_s = wall()
        self._all_since_s: float | None = None
        self._window: dict[str, EndpointCounts] = {}
        self._window_before: dict[str, EndpointCounts] = {}
        self._window_at = self._window_before_at = clock()
        self.looked_at = False
        self.wants_all = False
        self._decide()

    # What the data path calls

    def request(self, over_link: bool, request: LoggedRequest) -> None:
        """Take a request that failed, or any while `wants_all`.

        Args:
            over_link: the last that was tried was another node.
            request: what is known of it. Nobody else may change it from here on.
        """
        access_log = self._access_log
        logs = access_log is not None and access_log.enabled
        self._keep(self._port, over_link, request if logs else {**request, "fields": NO_FIELDS})
        if access_log is not None and logs:
            access_log.request(request)

    def _keep(self, port: str, over_link: bool, request: LoggedRequest) -> None:
        status, error = request["status"], request["error"]
        failed = False
        ring = self._fine
        if error or status >= FAILED_FROM:
            failed = _has_failed(status, error)
            if failed:
                ring = self._unserved if error == _NO_UPSTREAMS else self._failed
            elif _is_refused(status, error):
                ring = self._refused
        if len(request["target"]) > MAX_TARGET_BYTES or len(request["method"]) > MAX_TARGET_BYTES:
            short = request["target"][:MAX_TARGET_BYTES]
            request = {**request, "target": short, "method": request["method"][:MAX_TARGET_BYTES], "fields": NO_FIELDS}
        ring.append((next(self._seqs), self._wall(), port, over_link, request))
        if self.looked_at and request["endpoint"] and port != LINK:
            self._count(request, failed)

    def link_request(
        self,
        *,
        node_id: str,
        method: bytes,
        target: bytes,
        endpoint: str,
        upstream: str,
        over_link: bool,
        status: int,
        duration_s: float,
        request_id: str,
        error: str,
    ) -> None:
        """Take a request that came from another node, and failed here; any while `looked_at`.

        Args:
            node_id: of the other node.
            method: of the request.
            target: of the request.
            endpoint: that it is for.
            upstream: agent that was tried last; empty when none was.
            over_link: the link to the other node broke.
            status: that the client gets, unless the other node finds another agent.
            duration_s: from its head to its end.
            request_id: of the request.
            error: code of what went wrong.
        """
        self._keep(
            LINK,
            over_link,
            {
                "client": node_id,
                "proxies": b"",
                "method": method,
                "target": target,
                "endpoint": endpoint,
                "upstream": upstream,
                "status": status,
                "bytes_in": 0,
                "bytes_out": 0,
                "first_byte_s": None,
                "duration_s": duration_s,
                "request_id": request_id,
                "error": error,
                "protocol": "",
                "fields": NO_FIELDS,
                "subject": "",
            },
        )

    # What is decided, and when

    def log_all(self, wanted: bool) -> None:
        """Have the access log written, or not, from now on."""
        if self._access_log is not None:
            self._access_log.enabled = wanted
        self._decide()

    def turn(self, now: float) -> None:
        """Called by the sweep: forget what nobody has looked at for long, and begin the next window."""
        self._decide()
        if self.looked_at and self._clock() - self._window_at >= WINDOW_S:
            self._next_window()

    def looked(self) -> None:
        """Somebody looks: keep all for the next look."""
        self._looked_until = self._clock() + LOOKED_S
        self._decide()

    def _decide(self) -> None:
        looking = self._clock() < self._looked_until
        wants_all = looking or (self._access_log is not None and self._access_log.enabled)
        if wants_all != self.wants_all:
            self.wants_all = wants_all
            self._all_since_s = self._wall() if wants_all else None
            self._fine.clear()
        if looking != self.looked_at:
            self.looked_at = looking
            self._window, self._window_before = {}, {}
            self._window_at = self._window_before_at = self._clock()
            if looking:
                self._count_remembered()

    def _count_remembered(self) -> None:
        """Begin the first window with what was kept for the access log, so that the first look shows something."""
        now_s = self._wall()
        since_s = max(self.all_since_s or now_s, now_s - WINDOW_S)
        self._window_at = self._window_before_at = self._clock() - (now_s - since_s)
        for _, at_s, port, _, request in self._kept():
            if at_s > since_s and request["endpoint"] and port != LINK:
                self._count(request, _has_failed(request["status"], request["error"]))

    def _next_window(self) -> None:
        self._window_before, self._window = self._window, {}
        self._window_before_at, self._window_at = self._window_at, self._clock()

    def _count(self, request: LoggedRequest, failed: bool) -> None:
        counts = self._window.get(request["endpoint"])
        if counts is None:
            if len(self._window) >= MOST_ENDPOINTS // (2 if request["error"] == _NO_UPSTREAMS else 1):
                return
            counts = self._window[request["endpoint"]] = EndpointCounts()
        counts.requests += 1
        counts.failed += failed
        counts.durations[bisect_left(REQUEST_BOUNDS_S, request["duration_s"])] += 1
        if (first_byte_s := request["first_byte_s"]) is not None:
            counts.first_bytes[bisect_left(REQUEST_BOUNDS_S, first_byte_s)] += 1

    # What is remembered

    @property
    def failed_since_s(self) -> float:
        """Since when all requests that failed are remembered, in seconds since 1970."""
        return max((self._began_s, *_since_when(self._failed, self._unserved)))

    @property
    def all_since_s(self) -> float | None:
        """Since when all requests are remembered; None when only those that failed are."""
        if self._all_since_s is None:
            return None
        rings = (self._failed, self._unserved, self._refused, self._fine)
        return max((self._all_since_s, *_since_when(*rings)))

    def remembered(self) -> Iterator[FinishedRequest]:
        """All that is remembered, in the order in which it ended."""
        return map(FinishedRequest._make, self._kept())

    def _kept(self) -> list[_Kept]:
        return sorted((*self._failed, *self._unserved, *self._refused, *self._fine), key=itemgetter(0))

    def endpoints(self) -> tuple[float, Mapping[str, list[EndpointCounts]]]:
        """What was counted lately.

        Returns:
            For how many seconds, and what of each endpoint.
        """
        found: dict[str, list[EndpointCounts]] = {}
        for window in (self._window_before, self._window):
            for endpoint, counts in window.items():
                found.setdefault(endpoint, []).append(counts)
        return self._clock() - self._window_before_at if self.looked_at else 0.0, found
