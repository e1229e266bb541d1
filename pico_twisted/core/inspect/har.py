"""Recordings as an HTTP archive (HAR 1.2), which browsers and many tools read."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

from pico_twisted.core.http1.head import RequestHead, ResponseHead
from pico_twisted.core.inspect.bodies import ShownBody, shown_body
from pico_twisted.core.inspect.curl import url_of
from pico_twisted.core.inspect.masks import masked, text_of
from pico_twisted.core.inspect.recording import Recording

Json = dict[str, Any]  # what JSON can hold

_UNKNOWN = -1
"""What the format says of a size that nobody knows."""


def archive(recordings: Iterable[Recording], version: str, *, reveal: bool) -> Json:
    """The archive.

    Args:
        recordings: those of http calls whose heads have come are in it, the oldest first.
        version: of the program.
        reveal: what is hidden, too.
    """
    chosen = sorted((one for one in recordings if one.request is not None and not one.tcp), key=lambda one: one.id)
    return {
        "log": {
            "version": "1.2",
            "creator": {"name": "pico_twisted", "version": version},
            "pages": [],
            "entries": [_entry(one, one.request, reveal) for one in chosen if one.request is not None],
        }
    }


def _entry(recording: Recording, head: RequestHead, reveal: bool) -> Json:
    wait_ms = 1000 * (recording.first_byte_s or recording.duration_s or 0.0)
    total_ms = max(wait_ms, 1000 * (recording.duration_s or 0.0))
    began = datetime.fromtimestamp(recording.at_s, UTC).isoformat(timespec="milliseconds")
    entry: Json = {
        "startedDateTime": began.replace("+00:00", "Z"),
        "time": round(total_ms, 3),
        "request": _request(recording, head, reveal),
        "response": _response(recording, recording.response, reveal),
        "cache": {},
        "timings": {"send": 0, "wait": round(wait_ms, 3), "receive": round(total_ms - wait_ms, 3)},
        "_endpoint": recording.endpoint,
    }
    if recording.replay_of:
        entry["_replayOf"] = recording.replay_of
    if recording.error:
        entry["comment"] = f"{recording.error}: {recording.trouble}"
    return entry


def _request(recording: Recording, head: RequestHead, reveal: bool) -> Json:
    url = url_of(recording, reveal=reveal)
    body = shown_body(recording.request_body, head)
    request: Json = {
        "method": head.method.decode("latin-1"),
        "url": url,
        "httpVersion": "HTTP/1.1" if head.version_11 else "HTTP/1.0",
        "cookies": _cookies(head, b"cookie", reveal),
        "headers": _headers(head, reveal),
        "queryString": [
            {"name": name, "value": value}
            for name, value in parse_qsl(url.partition("?")[2], keep_blank_values=True, errors="replace")
        ],
        "headersSize": _UNKNOWN,
        "bodySize": body.count,
    }
    if body.count:
        request["postData"] = {"mimeType": body.media_type, **_content(body)}
    return request


def _response(recording: Recording, head: ResponseHead | None, reveal: bool) -> Json:
    body = shown_body(recording.response_body, head)
    return {
        "status": 0 if head is None else head.status,
        "statusText": "" if head is None else text_of(head.reason),
        "httpVersion": "HTTP/1.0" if head is not None and not head.version_11 else "HTTP/1.1",
        "cookies": _cookies(head, b"set-cookie", reveal),
        "headers": _headers(head, reveal),
        "content": {"size": len(body.data), "mimeType": body.media_type or "x-unknown", **_content(body)},
        "redirectURL": "" if head is None else _value(b"location", head.by_name.get(b"location", b""), reveal),
        "headersSize": _UNKNOWN,
        "bodySize": _UNKNOWN if head is None else body.count,
    }


def _content(body: ShownBody) -> Json:
    if body.text is not None:
        content = {"text": body.text}
    else:
        content = {"text": base64.b64encode(body.data).decode("ascii"), "encoding": "base64"}
    return {**content, "comment": f"the first {body.kept} of {body.count} bytes"} if body.cut else content


def _value(lower: bytes, value: bytes, reveal: bool) -> str:
    return text_of(value) if reveal else masked(lower, value)


def _headers(head: RequestHead | ResponseHead | None, reveal: bool) -> list[Json]:
    fields = () if head is None else head.fields
    return [{"name": text_of(name), "value": _value(lower, value, reveal)} for lower, name, value in fields]


def _cookies(head: RequestHead | ResponseHead | None, name: bytes, reveal: bool) -> list[Json]:
    values = [] if head is None else [_value(lower, value, reveal) for lower, _, value in head.fields if lower == name]
    pairs = [
        part.strip().partition("=")
        for value in values
        for part in (value.split(";") if name == b"cookie" else [value.partition(";")[0]])
    ]
    return [{"name": cookie, "value": value} for cookie, equals, value in pairs if equals]
