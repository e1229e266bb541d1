"""An archive holds what passed, as the format says (HAR 1.2), and no credentials unless they are asked for."""

from __future__ import annotations

import base64
import gzip
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pico_twisted.core.inspect.har import archive
from pico_twisted.core.inspect.recording import Recordings
from tests.core.inspect.recorded import recorded

# What an entry has to have, by the specification: names, and the types of values.
_MESSAGE = {"httpVersion": str, "cookies": list, "headers": list, "headersSize": int, "bodySize": int}
_ENTRY: dict[str, Any] = {
    "startedDateTime": str,
    "time": (int, float),
    "request": {**_MESSAGE, "method": str, "url": str, "queryString": list},
    "response": {
        **_MESSAGE,
        "status": int,
        "statusText": str,
        "redirectURL": str,
        "content": {"size": int, "mimeType": str},
    },
    "cache": {},
    "timings": {"send": (int, float), "wait": (int, float), "receive": (int, float)},
}


def check(value: Any, shape: Any) -> None:
    """Hold a value to a shape."""
    if isinstance(shape, dict):
        assert shape.keys() <= value.keys()
        for name, inner in shape.items():
            check(value[name], inner)
    else:
        assert isinstance(value, shape)


def entries(recordings: Recordings, *, reveal: bool = False) -> list[dict[str, Any]]:
    """Those of an archive that went through JSON, each held to the format."""
    log = json.loads(json.dumps(archive(recordings, "1.2.3", reveal=reveal)))["log"]
    assert log["version"] == "1.2" and log["creator"] == {"name": "pico_twisted", "version": "1.2.3"}
    for entry in log["entries"]:
        check(entry, _ENTRY)
        assert entry["time"] >= 0 and all(part >= 0 for part in entry["timings"].values())
        for pair in (*entry["request"]["headers"], *entry["response"]["headers"], *entry["request"]["queryString"]):
            assert isinstance(pair["name"], str) and isinstance(pair["value"], str)
    found: list[dict[str, Any]] = log["entries"]
    return found


def test_an_entry() -> None:
    """The request with its form, the response with its text, and how long both took."""
    recordings = Recordings()
    recorded(
        b"POST /form?a=1&b=%20 HTTP/1.1",
        b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 8\r\n",
        b"name=Ann",
        answer=b"HTTP/1.1 302 Found\r\nLocation: /next\r\nSet-Cookie: a=b; Path=/\r\n\r\n",
        answer_body=b"",
        took_s=0.5,
        into=recordings,
    )
    (entry,) = entries(recordings, reveal=True)
    request, response = entry["request"], entry["response"]
    assert request["url"] == "https://shop.example.com/form?a=1&b=%20" and request["method"] == "POST"
    assert request["queryString"] == [{"name": "a", "value": "1"}, {"name": "b", "value": " "}]
    assert request["postData"] == {"mimeType": "application/x-www-form-urlencoded", "text": "name=Ann"}
    assert request["bodySize"] == 8 and entry["startedDateTime"] == "2023-11-14T22:13:20.250Z"
    assert response["status"] == 302 and response["redirectURL"] == "/next"
    assert response["cookies"] == [{"name": "a", "value": "b"}]
    assert entry["time"] == 500 and entry["timings"] == {"send": 0, "wait": 250, "receive": 250}


def test_bodies_of_all_kinds() -> None:
    """Text is text, packed or not; other bytes are base64; what is cut says so."""
    recordings = Recordings(most_body_bytes=100)
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
    packed = gzip.compress(b"hello " * 20)
    recorded(answer=head + b"Content-Encoding: gzip\r\n\r\n", answer_body=packed, into=recordings)
    recorded(answer=head + b"\r\n", answer_body=b"\xff\0", into=recordings)
    recorded(answer=head + b"\r\n", answer_body=b"x" * 150, into=recordings)
    recorded(answer=head + b"Content-Encoding: gzip\r\n\r\n", answer_body=b"no gzip", into=recordings)
    unpacked, binary, cut, broken = (entry["response"]["content"] for entry in entries(recordings))
    assert unpacked["text"] == "hello " * 20 and unpacked["size"] == 120
    assert base64.b64decode(binary["text"]) == b"\xff\0" and binary["encoding"] == "base64"
    assert cut["text"] == "x" * 100 and cut["comment"] == "the first 100 of 150 bytes"
    assert broken["text"] == "no gzip"


def test_a_bomb_stays_small() -> None:
    """What unpacks to far more than it is is unpacked to a bound."""
    recordings = Recordings()
    bomb = gzip.compress(bytes(60 << 20))
    recorded(answer=b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n", answer_body=bomb, into=recordings)
    (entry,) = entries(recordings)
    assert entry["response"]["content"]["size"] == 512 * 1024


def test_what_has_no_answer() -> None:
    """A call that failed is an entry with status 0 and why; a TCP session is none."""
    recordings = Recordings()
    failed = recorded(answer=None, into=recordings)
    failed.error, failed.trouble = "client-gone", "the client gave up"
    recordings.begin("db", "localhost:5432", 0.0, tcp=True)
    (entry,) = entries(recordings)
    assert entry["response"]["status"] == 0 and entry["comment"] == "client-gone: the client gave up"


def test_credentials_stay_hidden() -> None:
    """Unless they are asked for."""
    recordings = Recordings()
    recorded(
        b"GET /x?token=SECRET HTTP/1.1",
        b"Cookie: a=SECRET\r\nAuthorization: Bearer SECRET\r\n",
        answer=b"HTTP/1.1 200 OK\r\nSet-Cookie: a=SECRET\r\n\r\n",
        into=recordings,
    )
    assert "SECRET" not in str(entries(recordings))
    assert str(entries(recordings, reveal=True)).count("SECRET") == 7  # cookies and parameters stand there twice


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_any_bytes_make_an_archive(sent: bytes, came: bytes) -> None:
    """Whatever passed, it is JSON in the end."""
    recordings = Recordings()
    recorded(b"POST / HTTP/1.1", b"Content-Length: %d\r\n" % len(sent), sent, answer_body=came, into=recordings)
    assert len(entries(recordings)) == 1


def test_no_cookie_takes_long() -> None:
    """A stranger's cookies are cut at semicolons and nothing more, so an archive of many is soon made: a parser of
    quoted values takes seconds for each of these."""
    recordings = Recordings()
    cookie = b'Cookie: odd; a=1; b="' + b'\\"' * 15_000 + b'"\r\n'
    for _ in range(50):
        recorded(b"GET / HTTP/1.1", cookie, into=recordings)
    found = entries(recordings, reveal=True)
    assert [one["name"] for one in found[0]["request"]["cookies"]] == ["a", "b"]
    assert found[0]["request"]["cookies"][1]["value"] == '"' + '\\"' * 15_000 + '"'
