"""What the inspector answers: a page of three files, and under `/api/` what the page shows, for those with the key."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable
from importlib.resources import files
from pathlib import PurePath
from typing import Any, Final

from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from pico_twisted.core.inspect.curl import command, note
from pico_twisted.core.inspect.filters import Filter, FilterError
from pico_twisted.core.inspect.har import archive
from pico_twisted.core.inspect.recording import Recording, Recordings
from pico_twisted.core.inspect.replay import Edits, ReplayRefused
from pico_twisted.core.inspect.shown import detail, revealed, row
from pico_twisted.core.ports import PORT_FIELD
from pico_twisted.net.admin.answers import Rendered, answer, answer_json, break_down, fail, refuse_method
from pico_twisted.net.admin.inspect.live import LiveList
from pico_twisted.net.admin.inspect.visitors import lacks_key, refusal
from pico_twisted.net.admin.site import AdminRequest

POLICY: Final = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src blob:; base-uri 'none'; "
    b"form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
"""The Content-Security-Policy of the page: its own files, what it asks this port, images that it was given as data."""
MOST_LIVE: Final = 32
"""Most clients that listen at once: browsers open six connections, and each tab needs one."""

_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
}

Replay = Callable[[int, Edits], Recording]
"""Sends a recorded request again; raises `ReplayRefused`."""


class InspectorRequest(AdminRequest):
    """A request whose body may be that of a request to be sent. Of who has no key, only as much is kept as elsewhere:
    any user of the machine can connect."""

    most_body_bytes = 2 * 1024 * 1024

    def gotLength(self, length: int | None) -> None:
        super().gotLength(length)
        if not lacks_key(self, self.channel.site.resource.key):
            self.kept_body_bytes = self.most_body_bytes


class InspectorApp(Resource):
    """The resource of the inspector's port.

    Args:
        recordings: what it shows.
        replay: sends one of them again.
        key: opens it.
        version: of the program.
        clock: tells the time.

    Attributes:
        key: as given.
    """

    isLeaf = True

    def __init__(self, recordings: Recordings, replay: Replay, key: str, version: str, clock: IReactorTime) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._recordings = recordings
        self._replay = replay
        self.key = key
        self._version = version
        self._clock = clock
        self._live: dict[LiveList, None] = {}

    def close(self) -> None:
        """End the answers that go on."""
        for live in list(self._live):
            live.end()

    def render(self, request: AdminRequest) -> Rendered:
        request.setHeader(b"content-security-policy", POLICY)
        request.responseHeaders.removeHeader(PORT_FIELD.encode("ascii"))  # this is no port of a node
        refused = refusal(request)
        if refused is not None:
            return fail(request, *refused)
        try:
            path = [part.decode("utf-8") for part in request.postpath or []]
        except UnicodeDecodeError:
            return fail(request, 400, "the path is not UTF-8")
        try:
            if path[:1] == ["api"]:
                if words := lacks_key(request, self.key):
                    return fail(request, 401, words)
                return self._answer(request, path[1:])
            return self._page(request, "/".join(path))
        except Exception:
            return break_down(request, Failure())

    def _page(self, request: Request, name: str) -> Rendered:
        page = {file.name: file for file in (files(__package__) / "page").iterdir()}
        file = page.get(name or "index.html")
        if file is None:
            return fail(request, 404, "no such path")
        if request.method not in (b"GET", b"HEAD"):
            return refuse_method(request, "GET, HEAD")
        return answer(request, file.read_bytes(), _TYPES[PurePath(file.name).suffix])

    def _answer(self, request: AdminRequest, path: list[str]) -> Rendered:
        method = request.method.decode("latin-1")
        match method, path:
            case "GET", ["requests"]:
                return self._list(request)
            case "DELETE", ["requests"]:
                self._recordings.clear()
                return answer_json(request, {})
            case "GET", ["live"]:
                return self._begin_live(request)
            case "GET", ["har"]:
                return self._har(request)
            case _, ["requests", id, *rest]:
                recording = self._recordings.get(int(id)) if id.isascii() and id.isdecimal() else None
                if recording is None:
                    return fail(request, 404, "this request is not kept, or not any more")
                return self._of_one(request, method, recording, rest)
            case _, ["requests" | "live" | "har"]:
                return refuse_method(request, "GET, DELETE" if path == ["requests"] else "GET")
        return fail(request, 404, "no such path")

    def _of_one(self, request: AdminRequest, method: str, recording: Recording, rest: list[str]) -> Rendered:
        match method, rest:
            case "GET", []:
                return answer_json(request, detail(recording))
            case "GET", ["revealed"]:
                at = _argument(request, "field")
                value = revealed(recording, _argument(request, "part"), int(at) if at.isdecimal() else -1)
                return fail(request, 404, "no such field") if value is None else answer_json(request, {"value": value})
            case "GET", ["har" | "curl" as what]:
                if recording.request is None or recording.tcp:
                    return fail(request, 409, "this is no request of HTTP")
                if what == "har":
                    return answer_json(request, archive([recording], self._version, reveal=_reveals(request)))
                text = command(recording, reveal=_reveals(request))
                return answer_json(request, {"command": text, "note": note(recording)})
            case "POST", ["replay"]:
                return self._send_again(request, recording)
            case _, [] | ["revealed" | "har" | "curl"]:
                return refuse_method(request, "GET")
            case _, ["replay"]:
                return refuse_method(request, "POST")
        return fail(request, 404, "no such path")

    def _list(self, request: AdminRequest) -> Rendered:
        chosen = _filter(request)
        if isinstance(chosen, str):
            return fail(request, 400, chosen)
        return answer_json(request, [row(one) for one in self._recordings if chosen.matches(one)])

    def _har(self, request: AdminRequest) -> Rendered:
        chosen = _filter(request)
        if isinstance(chosen, str):
            return fail(request, 400, chosen)
        shown = (one for one in self._recordings if chosen.matches(one))
        return answer_json(request, archive(shown, self._version, reveal=_reveals(request)))

    def _begin_live(self, request: AdminRequest) -> Rendered:
        chosen = _filter(request)
        if isinstance(chosen, str):
            return fail(request, 400, chosen)
        if len(self._live) >= MOST_LIVE:
            return fail(request, 503, f"{MOST_LIVE} pages listen already: close one of them")
        live = LiveList(request, self._recordings, chosen, self._clock)
        self._live[live] = None
        request.notifyFinish().addBoth(lambda _: self._live.pop(live, None))
        live.begin()
        return NOT_DONE_YET

    def _send_again(self, request: AdminRequest, recording: Recording) -> Rendered:
        edits = _edits(request.content.read())
        if isinstance(edits, str):
            return fail(request, 400, edits)
        try:
            begun = self._replay(recording.id, edits)
        except ReplayRefused as error:
            return fail(request, 409, str(error))
        return answer_json(request, row(begun), 202)


def _argument(request: Request, name: str) -> str:
    """The first value of a query parameter; empty without one."""
    values: list[bytes] = (request.args or {}).get(name.encode("ascii"), [])
    return values[0].decode("utf-8", "replace") if values else ""


def _reveals(request: Request) -> bool:
    return _argument(request, "reveal") == "1"


def _filter(request: Request) -> Filter | str:
    """The filter of a request, or what is wrong with it."""
    try:
        return Filter(_argument(request, "filter"))
    except FilterError as error:
        return str(error)


def _edits(body: bytes) -> Edits | str:
    """What a body in JSON says is different, or what is wrong with it. Empty: nothing is different."""
    try:
        told = json.loads(body or b"{}")
        json.dumps(told, ensure_ascii=False).encode("utf-8")  # half a surrogate pair is no text
    except (ValueError, RecursionError):
        return "the body is not JSON"
    if not isinstance(told, dict):
        return "the body is not an object of JSON"
    unknown = sorted(told.keys() - {"method", "target", "fields", "body", "body_base64"})
    if unknown:
        return f"unknown: {unknown[0][:100]}; known are method, target, fields, body and body_base64"
    texts: list[Any] = [  # as JSON has them
        told.get(name) for name in ("method", "target", "body", "body_base64")
    ]
    if not all(text is None or isinstance(text, str) for text in texts):
        return "method, target, body and body_base64 are texts"
    fields = told.get("fields")
    if fields is not None and not _are_fields(fields):
        return 'fields are a list such as [["name", "value"]]'
    method, target, body_text, coded = texts
    try:
        data = None if coded is None else base64.b64decode(coded, validate=True)
    except (binascii.Error, ValueError):
        return "body_base64 is not base64"
    data = data if body_text is None else body_text.encode("utf-8")
    return Edits(method=method, target=target, fields=fields and [(name, value) for name, value in fields], body=data)


def _are_fields(fields: object) -> bool:
    return isinstance(fields, list) and all(
        isinstance(field, list) and len(field) == 2 and all(isinstance(part, str) for part in field) for field in fields
    )
