"""What an agent logs of the requests that it served: one line for each, when it is asked to."""

from __future__ import annotations

import json
from typing import Any

import pytest
from twisted.internet.error import ConnectionRefusedError

from pico_twisted.net.observe.access_log import AccessLog
from pico_twisted.net.observe.requests import RequestWatch
from tests.net.agent.agent_fakes import OK, UPGRADE, Bench

HEAD = b"X-Forwarded-For: 203.0.113.9, 10.0.0.1\r\nX-Request-Id: r-1\r\n"


class Logged(Bench):
    """A bench that reads the lines of its agent."""

    def __init__(self, version: int = 2, *, timeout_s: float | None = 5.0) -> None:
        super().__init__(version, timeout_s=timeout_s)
        self._written: list[str] = []
        self.log = AccessLog(self._written.append)
        self.watch = self.local.requests = RequestWatch(self.log, "tunnel", lambda: 0.0)

    @property
    def line(self) -> dict[str, Any]:
        """The only line."""
        self.log.flush()
        (line,) = self._written
        found: dict[str, Any] = json.loads(line)
        return found


@pytest.mark.parametrize("version", [1, 2])
def test_the_line_of_a_request(version: int) -> None:
    """What the node told of the client, what the service answered, and where the service is."""
    bench = Logged(version)
    bench.get(b"/hook?token=secret", HEAD)
    bench.pass_time(1)
    bench.service.last.answer(OK)
    line = bench.line
    told = {name: line[name] for name in ("client", "method", "target", "status", "bytes_in", "bytes_out", "error")}
    assert told == {
        "client": "203.0.113.9",
        "method": "GET",
        "target": "/hook?token=(hidden)",
        "status": 200,
        "bytes_in": 0,
        "bytes_out": 2,
        "error": "",
    }
    assert line["endpoint"] == "web" and line["upstream"] == bench.local.addr
    assert line["request_id"] == "r-1"
    assert line["duration_s"] == 1.0


def test_a_service_that_is_not_there() -> None:
    """A developer sees that the request came, and that nothing listens."""
    bench = Logged()
    bench.service.refusing = ConnectionRefusedError()
    bench.get()
    assert (bench.line["status"], bench.line["error"]) == (502, "service-unreachable")


def test_a_service_that_is_late() -> None:
    """So does who waits for a service that hangs."""
    bench = Logged()
    bench.get()
    bench.pass_time(7)
    assert (bench.line["status"], bench.line["error"]) == (504, "service-timeout")


def test_a_client_that_leaves() -> None:
    """A call that its client gave up is a 499."""
    bench = Logged()
    bench.get().cancel()
    assert (bench.line["status"], bench.line["error"]) == (499, "")


def test_an_upgrade() -> None:
    """A WebSocket is one line, when it is over."""
    bench = Logged()
    request = bench.get(extra=UPGRADE, more=True)
    bench.service.last.answer(b"HTTP/1.1 101 Switching Protocols\r\n" + UPGRADE + b"\r\nhello")
    bench.log.flush()
    request.send(b"bye", more=False)
    bench.service.last.finish()
    assert (bench.line["status"], bench.line["bytes_out"]) == (101, 5)


def test_switched_off() -> None:
    """Nothing is gathered of a request that nobody wants a line of; from a reload on it is."""
    bench = Logged()
    bench.watch.log_all(False)
    bench.get()
    bench.service.last.answer(OK)
    bench.watch.log_all(True)
    bench.get(b"/second")
    bench.service.last.answer(OK)
    assert bench.line["target"] == "/second"
