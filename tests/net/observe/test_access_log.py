"""The access log: what the line of a request says, in each format, and that no client writes two."""

from __future__ import annotations

import io
import json
import time
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pico_twisted.config.common import LogConfig
from pico_twisted.core.secret_names import HIDDEN
from pico_twisted.net.observe.access_log import ACCESS_BUFFER_CHARS, AccessLog, LoggedRequest
from pico_twisted.net.observe.formats import Place
from pico_twisted.net.observe.logs import Logging

REQUEST: LoggedRequest = {
    "client": "10.0.0.9:51234",
    "proxies": b"",
    "method": b"GET",
    "target": b"/a?b=1",
    "endpoint": "my-endpoint",
    "upstream": "agent-1",
    "status": 200,
    "bytes_in": 0,
    "bytes_out": 12,
    "first_byte_s": 0.0012345,
    "duration_s": 0.002,
    "request_id": "r-1",
    "error": "",
    "protocol": "HTTP/1.1",
    "fields": {b"host": b"ep.example.com"},
    "subject": "",
}


class TestAccessLog:
    def written(self, format: str = "json", place: Place = Place.ELSEWHERE, **changed: Any) -> str:
        written: list[str] = []
        access = AccessLog(written.append, format, True, lambda: 1_700_000_000.25, None, place)
        access.request(cast(LoggedRequest, {**REQUEST, **changed}))
        assert written == []
        access.flush()
        (text,) = written
        access.flush()
        assert len(written) == 1
        return text

    def test_json(self) -> None:
        """The line of a request, with everything that an operator looks for."""
        assert json.loads(self.written()) == {
            "time": "2023-11-14T22:13:20.250Z",
            "level": "info",
            "subsystem": "access",
            "message": "request",
            "client": "10.0.0.9:51234",
            "proxies": "",
            "method": "GET",
            "host": "ep.example.com",
            "target": "/a?b=1",
            "protocol": "HTTP/1.1",
            "endpoint": "my-endpoint",
            "upstream": "agent-1",
            "status": 200,
            "bytes_in": 0,
            "bytes_out": 12,
            "first_byte_s": 0.001234,
            "duration_s": 0.002,
            "request_id": "r-1",
            "error": "",
            "referer": "",
            "user_agent": "",
        }
        found = json.loads(
            self.written(
                fields={b"referer": b"http://a/?token=s3cr3t", b"user-agent": b'say "\xe9"'}, proxies=b"10.0.0.1"
            )
        )
        told = (found["referer"], found["user_agent"], found["proxies"])
        assert told == (f"http://a/?token={HIDDEN}", 'say "\xe9"', "10.0.0.1")

    def test_text(self) -> None:
        """The same as text."""
        assert self.written("text", error="not-here") == (
            '2023-11-14T22:13:20.250Z info     access: GET "/a?b=1" status=200 client=10.0.0.9:51234 '
            "protocol=HTTP/1.1 host=ep.example.com endpoint=my-endpoint upstream=agent-1 bytes_in=0 bytes_out=12 "
            "first_byte_s=0.001234 duration_s=0.002000 request_id=r-1 error=not-here\n"
        )

    def test_combined(self) -> None:
        """As nginx and Apache write it, for programs that read theirs; no byte of a client can end a quoted part."""
        assert self.written("combined", fields={b"referer": b"http://a/", b"user-agent": b'say "\xe9"'}) == (
            '10.0.0.9:51234 - - [14/Nov/2023:22:13:20 +0000] "GET /a?b=1 HTTP/1.1" 200 12 '
            '"http://a/" "say \\x22\\xE9\\x22"\n'
        )

    @pytest.mark.parametrize(
        ("format", "told"),
        [
            ("json", ',"error":"","subject":"a b\\"\\n","referer":'),
            ("text", ' error="" subject="a b\\"\\n"\n'),
            ("combined", "10.0.0.9:51234 - a\\x20b\\x22\\x0A [14/Nov/2023"),
        ],
    )
    def test_who_sent_it(self, format: str, told: str) -> None:
        """Where a port authenticates, the line says who sent the request, whatever the issuer let them be called."""
        assert told in self.written(format, subject='a b"\n')

    @pytest.mark.parametrize(
        ("place", "format", "line"),
        [
            (Place.TERMINAL, "auto", "22:13:20  GET  /a?b=1               200    2.0 ms     12 B  my-endpoint\n"),
            (
                Place.JOURNAL,
                "auto",
                '<6>access: GET "/a?b=1" status=200 client=10.0.0.9:51234 protocol=HTTP/1.1 host=ep.example.com ',
            ),
            (Place.JOURNAL, "json", '<6>{"time":"2023-11-14T22:13:20.250Z",'),
            (Place.ELSEWHERE, "auto", '{"time":"2023-11-14T22:13:20.250Z",'),
        ],
    )
    def test_places(self, place: Place, format: str, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """What people read on a terminal fits there; the journal has a priority and adds the time itself."""
        monkeypatch.setattr("time.localtime", time.gmtime)
        assert self.written(format, place).startswith(line)

    def test_what_fits_on_a_terminal(self) -> None:
        """Not even a long target, an error and a slow answer make a line of a terminal longer than it must be."""
        line = self.written(
            "auto", Place.TERMINAL, target=b"/" + b"x" * 5000, bytes_out=123_456_789, duration_s=59.9, error="timeout"
        )
        assert line[8:] == "  GET  /" + "x" * 36 + "... 200  59900 ms   123 MB  my-endpoint  timeout\n"

    @pytest.mark.parametrize(("format", "end"), [("json", ',"worker":3}\n'), ("text", " worker=3\n")])
    def test_of_a_worker(self, format: str, end: str) -> None:
        """On a host with several workers a line ends with the number of the one that took the request."""
        written: list[str] = []
        access = AccessLog(written.append, format, True, lambda: 1_700_000_000.25, 3)
        access.request({**REQUEST})
        access.flush()
        assert written == [self.written(format).rstrip("}\n") + end]

    def test_failed_early(self) -> None:
        """A request without a head, an answer or an endpoint is a line as well."""
        found = json.loads(
            self.written(method=b"", target=b"", endpoint="", upstream="", first_byte_s=None, error="bad-request")
        )
        assert (found["method"], found["first_byte_s"], found["error"]) == ("", None, "bad-request")

    @given(st.binary(), st.binary(), st.text(), st.sampled_from(["json", "text", "combined"]), st.sampled_from(Place))
    def test_any_bytes(self, method: bytes, target: bytes, words: str, format: str, place: Place) -> None:
        """Whatever bytes a client sends, its line is one line."""
        told = {"method": method, "target": target, "endpoint": words, "request_id": words, "client": words}
        text = self.written(format, place, fields={b"host": target, b"referer": method, b"user-agent": target}, **told)
        assert len(text.splitlines()) == 1
        assert text[:-1].isprintable()
        if format == "json":
            found = json.loads(text.removeprefix("<6>"))
            assert found["endpoint"] == words

    def test_credentials_in_the_query(self) -> None:
        """Values of query parameters that look like credentials are hidden; the others are kept."""
        found = json.loads(self.written(target=b"/x?page=2&access_token=s3cr3t&API-KEY=s3cr3t&sort=token"))
        assert found["target"] == f"/x?page=2&access_token={HIDDEN}&API-KEY={HIDDEN}&sort=token"

    def test_buffer(self) -> None:
        """Lines are gathered, but never more than a bounded amount."""
        written: list[str] = []
        access = AccessLog(written.append)
        for _ in range(1000):
            access.request({**REQUEST})
        assert 1 < len(written) < 20
        assert all(len(text) < ACCESS_BUFFER_CHARS + 1000 for text in written)

    def test_disabled(self) -> None:
        """Switched off it writes nothing, and it can be switched on while running."""
        stream = io.StringIO()
        logging = Logging(LogConfig(level="error"), stream)
        access = logging.access_log(False)
        access.request({**REQUEST})
        access.enabled = True
        for count in (1, 2):
            access.request({**REQUEST})
            logging.flush()
            assert stream.getvalue().count("\n") == count
