"""Recordings as JSON has them: a row for the list, and all of one. What they hide stays here until somebody asks."""

from __future__ import annotations

from pico_twisted.core.http1.head import RequestHead, ResponseHead
from pico_twisted.core.http1.trailers import TrailersError, read_block
from pico_twisted.core.inspect.bodies import shown_body
from pico_twisted.core.inspect.masks import masked, text_of
from pico_twisted.core.inspect.recording import RecordedBody, Recording
from pico_twisted.core.secret_names import hide_query_secrets

Json = dict[str, object]


def row(recording: Recording) -> Json:
    """What the list shows of a recording."""
    return {
        "id": recording.id,
        "at_s": recording.at_s,
        "endpoint": recording.endpoint,
        "kind": _kind(recording),
        "method": recording.method,
        "target": hide_query_secrets(recording.target),
        "status": recording.shown_status,
        "running": not recording.over,
        "first_byte_s": recording.first_byte_s,
        "duration_s": recording.duration_s,
        "bytes_in": recording.size_in,
        "bytes_out": recording.size_out,
        "client": recording.client,
        "replay_of": recording.replay_of or None,
        "error": recording.error,
        "trouble": recording.trouble,
    }


def _kind(recording: Recording) -> str:
    if recording.tcp:
        return "tcp"
    return "upgraded" if recording.upgraded else "http"


def detail(recording: Recording) -> Json:
    """All that is kept of a recording, but what it hides."""
    return {
        **row(recording),
        "service": recording.service,
        "target_hidden": hide_query_secrets(recording.target) != recording.target,
        "request": message(recording.request, recording.request_body, b""),
        "response": message(recording.response, recording.response_body, recording.response_trailers),
    }


def message(head: RequestHead | ResponseHead | None, body: RecordedBody, trailers: bytes) -> Json | None:
    """One of its messages; None before its head came."""
    if head is None:
        return None
    first: Json = {}
    if isinstance(head, ResponseHead):
        first = {"status": head.status, "reason": text_of(head.reason)}
    shown = [(text_of(name), masked(lower, value), text_of(value)) for lower, name, value in head.fields]
    return {
        **first,
        "fields": [{"name": name, "value": mask, "hidden": mask != value} for name, mask, value in shown],
        "body": shown_body(body, head).to_json(),
        "trailers": _trailers(trailers),
    }


def _trailers(block: bytes) -> list[Json]:
    try:
        fields = read_block(block)
    except TrailersError:
        return []
    return [{"name": text_of(name), "value": masked(name.lower(), value), "hidden": False} for name, value in fields]


def revealed(recording: Recording, part: str, at: int) -> str | None:
    """What a recording hides.

    Args:
        recording: that is asked.
        part: `request` or `response`, for the value of one of its fields; `target` for that.
        at: the place of the field among all.

    Returns:
        None when there is no such field.
    """
    if part == "target":
        return recording.target
    head = {"request": recording.request, "response": recording.response}.get(part)
    if head is None or not 0 <= at < len(head.fields):
        return None
    return text_of(head.fields[at][2])
