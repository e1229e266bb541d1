"""What is shown of requests: lines that fit, true words, and nothing that is secret or moves a cursor."""

from __future__ import annotations

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pico_twisted.expose.lines import Layout, closed_line, failure_words, opened_line, request_lines
from pico_twisted.net.observe.access_log import LoggedRequest

AT = 1_700_000_000.0


def request(**changes: object) -> LoggedRequest:
    """A request that is over."""
    told: LoggedRequest = {
        "client": "203.0.113.9",
        "proxies": b"",
        "method": b"GET",
        "target": b"/",
        "endpoint": "shop",
        "upstream": "localhost:3000",
        "status": 200,
        "bytes_in": 0,
        "bytes_out": 1100,
        "first_byte_s": None,
        "duration_s": 0.0024,
        "request_id": "r-1",
        "error": "",
        "protocol": "HTTP/1.1",
        "fields": {},
        "subject": "",
    }
    told.update(changes)  # type: ignore[typeddict-item]  # of the test's own
    return told


def test_a_line() -> None:
    """When, what, with which outcome, how long, how much, and for whom."""
    line = request_lines(request(), AT, "", Layout())
    assert line.split()[1:] == ["GET", "/", "200", "2.4", "ms", "1.1", "KB", "203.0.113.9"]


@pytest.mark.parametrize("columns", [60, 80, 200])
@pytest.mark.parametrize("names", [("shop",), ("shop", "a-name-that-is-longer")])
@pytest.mark.parametrize("target", [b"/", b"/" + b"a" * 300])
def test_lines_fit(columns: int, names: tuple[str, ...], target: bytes) -> None:
    """No line is wider than the terminal, also where a failure is told in words."""
    layout = Layout.of(columns, False, names)
    reason = failure_words("service-unreachable", "localhost:3000", "nothing listens there")
    shown = [
        request_lines(request(target=target), AT, "", layout),
        request_lines(request(target=target, method=b"PROPFIND", status=502), AT, reason, layout),
        opened_line(request(target=target, status=101), AT, layout),
    ]
    for line in "\n".join(shown).splitlines():
        assert len(line) <= columns, line


def test_columns_are_below_each_other() -> None:
    """Statuses of all methods stand in one column."""
    layout = Layout()
    methods = (b"GET", b"POST", b"DELETE", b"PROPFIND")
    assert len({request_lines(request(method=one), AT, "", layout).index(" 200 ") for one in methods}) == 1


def test_colour_is_a_matter_of_the_terminal() -> None:
    """Without it a line is plain text; with it the same text."""
    plain = request_lines(request(status=500), AT, "", Layout())
    coloured = request_lines(request(status=500), AT, "", Layout(colour=True))
    assert "\x1b" not in plain
    assert coloured != plain
    assert click.unstyle(coloured) == plain


def test_secrets_stay_hidden() -> None:
    """Parameters that look like credentials are not shown."""
    assert "hunter2" not in request_lines(request(target=b"/?token=hunter2"), AT, "", Layout(columns=200))


@given(
    method=st.binary(min_size=1, max_size=20),
    target=st.binary(max_size=300),
    client=st.text(max_size=40),
    status=st.integers(0, 999),
    columns=st.integers(1, 300),
)
def test_nothing_moves_the_cursor(method: bytes, target: bytes, client: str, status: int, columns: int) -> None:
    """Whatever strangers send, a line is one line of printable characters."""
    told = request(method=method, target=target, client=client, status=status)
    layout = Layout.of(columns, False, ("shop",))
    for line in (request_lines(told, AT, "", layout), opened_line(told, AT, layout), closed_line(told, AT, layout)):
        assert line.isprintable()


@pytest.mark.parametrize(
    ("code", "why", "words"),
    [
        ("", "", ""),
        ("service-unreachable", "nothing listens there", "nothing listens at localhost:3000. Is your server running?"),
        ("service-unreachable", "it is away", "localhost:3000 cannot be reached: it is away"),
        ("bad-response", "two lengths", "what your server answered is no HTTP: two lengths"),
        ("service-timeout", "no head", "your server did not answer in time"),
    ],
)
def test_what_failed_in_words(code: str, why: str, words: str) -> None:
    """Whoever runs the service reads what to do."""
    assert failure_words(code, "localhost:3000", why) == words
