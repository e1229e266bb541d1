"""How the routes of the admin port answer: in JSON, errors included."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Final

from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from twisted.web.resource import Resource
from twisted.web.server import Request

from pico_twisted.net.access.retry_after import RETRY_AFTER, soon
from pico_twisted.net.admin.shapes.reading import to_json
from pico_twisted.net.admin.shapes.reload import Reloaded

log = Logger()

JSON: Final = "application/json"
"""Content type of the answers."""
HTML: Final = "text/html; charset=utf-8"
"""Content type of pages, for people."""

_PHRASES: Final = {status.value: status.phrase.encode("ascii") for status in HTTPStatus}  # twisted.web lacks some

Rendered = bytes | int
"""What `Resource.render` returns: a body, or `NOT_DONE_YET`."""


def render(resource: Resource, request: Request) -> Rendered:
    """Have a resource answer a request."""
    rendered: Rendered = resource.render(request)
    return rendered


def answer(request: IRequest, body: bytes, content_type: str, status: int = 200) -> bytes:
    """Set code and headers of a request's answer, `Retry-After` of one that may be had later. Returns the body.

    Args:
        request: to be answered.
        body: of the answer.
        content_type: of the body.
        status: of the answer.
    """
    request.setResponseCode(status, _PHRASES.get(status))
    if status in (429, 503):
        request.setHeader(RETRY_AFTER, soon())
    request.setHeader(b"content-type", content_type.encode("latin-1", "replace"))
    request.setHeader(b"content-length", b"%d" % len(body))
    return body


def answer_json(request: IRequest, value: object, status: int = 200) -> bytes:
    """Answer a request with what JSON can hold. Returns the body.

    Args:
        request: to be answered.
        value: what JSON can hold.
        status: of the answer.
    """
    return answer(request, json.dumps(value, indent=2).encode("ascii") + b"\n", JSON, status)


def answer_reloaded(request: IRequest, reloaded: Reloaded) -> bytes:
    """Answer a request for a reload: with 200, or 422 when something is wrong. Returns the body."""
    answered: dict[str, object] = to_json(reloaded)
    if not reloaded.faults:
        return answer_json(request, answered)
    return answer_json(request, {"error": "; ".join(reloaded.faults), **answered}, 422)


def fail(request: IRequest, status: int, message: str) -> bytes:
    """Answer a request with an error. Returns the body.

    Args:
        request: to be answered.
        status: of the answer.
        message: for people.
    """
    return answer_json(request, {"error": message}, status)


def refuse_method(request: IRequest, allowed: str) -> bytes:
    """Answer a request whose method is none of those that are allowed here. Returns the body."""
    request.setHeader(b"allow", allowed.encode("ascii"))
    return fail(request, 405, f"only {allowed} here")


def break_down(request: IRequest, failure: Failure) -> bytes:
    """Answer a request that a fault of ours keeps from being served. Returns the body."""
    log.failure("an admin request failed", failure)
    return fail(request, 500, "internal error; the log says more")
