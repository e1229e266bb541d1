"""What is remembered of requests that are over, and at what price."""

from __future__ import annotations

from typing import Any, cast

import pytest

from pico_twisted.net.observe.access_log import AccessLog, LoggedRequest
from pico_twisted.net.observe.metrics.requests import REQUEST_BOUNDS_S
from pico_twisted.net.observe.requests import (
    LOOKED_S,
    MAX_TARGET_BYTES,
    MOST_ENDPOINTS,
    MOST_FAILED,
    MOST_FINE,
    MOST_REFUSED,
    MOST_UNSERVED,
    WINDOW_S,
    RequestWatch,
)


class Bench:
    """A watch on a clock of its own.

    Attributes:
        now_s: the time of both its clocks.
        written: lines of the access log.
    """

    def __init__(self, *, logs: bool = False) -> None:
        self.now_s = 1000.0
        self.written: list[str] = []
        self.log = AccessLog(self.written.append, enabled=logs)
        self.watch = RequestWatch(self.log, "proxy", lambda: self.now_s, lambda: self.now_s)

    def ended(self, **more: Any) -> None:
        """A request is over, and is handed in where it would be."""
        request: dict[str, Any] = {
            "client": "203.0.113.9",
            "proxies": b"",
            "method": b"GET",
            "target": b"/",
            "endpoint": "shop",
            "upstream": "agent-1",
            "status": 200,
            "bytes_in": 0,
            "bytes_out": 2,
            "first_byte_s": 0.002,
            "duration_s": 0.003,
            "request_id": "r-1",
            "error": "",
            "protocol": "HTTP/1.1",
            "fields": {b"cookie": b"secret"},
            "subject": "",
            **more,
        }
        if request["status"] >= 499 or request["error"] or self.watch.wants_all:
            over_link = bool(request.pop("over_link", False))
            self.watch.request(over_link, cast(LoggedRequest, request))

    def pass_time(self, seconds: float) -> None:
        """That much later, the sweep turns."""
        self.now_s += seconds
        self.watch.turn(self.now_s)

    @property
    def ids(self) -> list[str]:
        """Request IDs of what is remembered."""
        return [request.told["request_id"] for request in self.watch.remembered()]


def test_what_failed_is_kept_when_nobody_looks() -> None:
    """And what is fine is not even wanted."""
    bench = Bench()
    assert not bench.watch.wants_all
    bench.ended(request_id="fine")
    bench.ended(request_id="service", status=500)
    bench.ended(request_id="ours", status=502, error="no-upstreams")
    bench.ended(request_id="left", status=499, error="client-gone")
    assert bench.ids == ["service", "ours", "left"]
    assert [request.hop for request in bench.watch.remembered()] == ["service", "proxy", "client"]
    assert bench.watch.all_since_s is None
    assert bench.watch.failed_since_s == 1000.0


def test_all_are_kept_while_somebody_looks() -> None:
    """And for a while afterwards; then they are forgotten, and nothing is wanted any more."""
    bench = Bench()
    bench.ended(request_id="before")
    bench.watch.looked()
    bench.ended(request_id="seen")
    assert bench.ids == ["seen"]
    assert bench.watch.all_since_s == 1000.0
    bench.pass_time(LOOKED_S + 1)
    assert not bench.watch.wants_all
    assert bench.ids == []


def test_the_access_log_has_all_kept() -> None:
    """Its lines cost more. Switched off by a reload, it has nothing kept."""
    bench = Bench(logs=True)
    bench.ended(request_id="logged")
    bench.log.flush()
    assert bench.ids == ["logged"]
    assert len(bench.written) == 1
    bench.watch.log_all(False)
    bench.ended(request_id="not logged")
    bench.log.flush()
    assert bench.ids == []
    assert len(bench.written) == 1


def test_strangers_do_not_drive_out_what_failed() -> None:
    """Somebody who is refused a thousand times takes no place of what an operator looks for."""
    bench = Bench()
    bench.ended(request_id="looked for", status=502, error="service-unreachable")
    for _ in range(1000):
        bench.ended(request_id="stranger", status=401, error="missing", endpoint="")
    assert bench.ids.count("looked for") == 1
    assert bench.ids.count("stranger") == MOST_REFUSED


def test_strangers_who_guess_endpoints_do_not_either() -> None:
    """That nobody serves an endpoint is a failure, since its agent may be away; a scan of names drives no other out."""
    bench = Bench()
    bench.ended(request_id="looked for", status=502, error="service-unreachable")
    for number in range(MOST_FAILED):
        bench.now_s += 1
        bench.ended(request_id="guess", status=502, error="no-upstreams", endpoint=f"guess-{number}")
    assert bench.ids.count("looked for") == 1
    assert bench.ids.count("guess") == MOST_UNSERVED
    assert all(request.failed for request in bench.watch.remembered())
    assert bench.watch.failed_since_s == bench.now_s - MOST_UNSERVED + 1


def test_memory_is_bounded() -> None:
    """The newest are kept, targets are cut, nothing of fields is kept."""
    bench = Bench()
    bench.watch.looked()
    for number in range(MOST_FINE + 10):
        bench.ended(request_id=f"fine-{number}", target=b"/" + b"x" * 10_000)
    for number in range(MOST_FAILED + 10):
        bench.now_s += 1
        bench.ended(request_id=f"failed-{number}", status=500)
    assert len(bench.ids) == MOST_FINE + MOST_FAILED
    assert bench.ids[0] == "fine-10"
    assert bench.ids[-1] == f"failed-{MOST_FAILED + 9}"
    assert bench.watch.failed_since_s == 1011.0
    remembered = list(bench.watch.remembered())
    assert max(len(request.told["target"]) for request in remembered) == MAX_TARGET_BYTES
    assert not any("secret" in str(request) for request in remembered)


def test_a_long_method_is_cut() -> None:
    """Any method is forwarded, however long: no more of it is kept than of a target."""
    bench = Bench(logs=True)
    bench.ended(method=b"M" * 10_000)
    (request,) = bench.watch.remembered()
    assert len(request.told["method"]) == MAX_TARGET_BYTES


def test_a_client_that_had_enough_is_no_failure() -> None:
    """Pages that listen for events leave in the middle of an answer, every time."""
    bench = Bench()
    bench.watch.looked()
    bench.ended(error="client-gone")
    (request,) = bench.watch.remembered()
    assert not request.failed
    assert request.hop == "client"


def test_endpoints_are_counted_while_somebody_looks() -> None:
    """Of the last one or two windows; what failed, too."""
    bench = Bench()
    bench.ended(status=500)
    assert bench.watch.endpoints() == (0.0, {})
    bench.watch.looked()
    for status in (200, 200, 500):
        bench.ended(status=status)
    bench.now_s += 2
    over_s, counted = bench.watch.endpoints()
    assert over_s == 2.0
    (counts,) = counted["shop"]
    assert (counts.requests, counts.failed) == (3, 1)
    assert sum(counts.durations) == sum(counts.first_bytes) == 3
    assert counts.durations[REQUEST_BOUNDS_S.index(0.005)] == 3
    for _ in range(2):
        bench.watch.looked()
        bench.pass_time(WINDOW_S)
    assert bench.watch.endpoints() == (WINDOW_S, {})


def test_the_first_look_shows_what_the_access_log_had_kept() -> None:
    """One look is enough where requests are kept anyway; what nobody looks at is not counted."""
    bench = Bench(logs=True)
    bench.ended()
    bench.pass_time(2 * WINDOW_S)
    for _ in range(3):
        bench.ended(status=500)
    bench.now_s += 1
    assert bench.watch.endpoints() == (0.0, {})
    bench.watch.looked()
    over_s, counted = bench.watch.endpoints()
    assert over_s == WINDOW_S
    assert [(one.requests, one.failed) for one in counted["shop"]] == [(3, 3)]


def test_strangers_names_are_bounded() -> None:
    """Whoever asks for endpoints that nobody serves fills no memory, and takes no place of those that are served."""
    bench = Bench()
    bench.watch.looked()
    for number in range(MOST_ENDPOINTS + 10):
        bench.ended(endpoint=f"guess-{number}", status=502, error="no-upstreams")
    assert len(bench.watch.endpoints()[1]) == MOST_ENDPOINTS // 2
    for number in range(MOST_ENDPOINTS):
        bench.ended(endpoint=f"served-{number}")
    counted = bench.watch.endpoints()[1]
    assert len(counted) == MOST_ENDPOINTS and "served-0" in counted


@pytest.mark.parametrize(("over_link", "hop"), [(True, "link"), (False, "agent")])
def test_what_broke_on_the_way(over_link: bool, hop: str) -> None:
    """A connection that broke is the agent's, or that to another node."""
    bench = Bench()
    bench.ended(status=502, error="upstream-unreachable", over_link=over_link)
    (request,) = bench.watch.remembered()
    assert request.hop == hop
