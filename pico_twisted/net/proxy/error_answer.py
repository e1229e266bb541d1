"""The one place where errors become answers of the proxy port, whoever made them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from twisted.web.http import datetimeToString

from pico_twisted.core.http1.answers import error_value
from pico_twisted.core.http1.error_pages import PAGE_POLICY, ErrorFacts, agent_message, page_for, wants_html
from pico_twisted.core.http1.fields import all_values
from pico_twisted.core.http1.grpc_errors import grpc_fields, grpc_status, grpc_type
from pico_twisted.core.http1.head import RequestHead, ResponseHead
from pico_twisted.core.ports import PORT_FIELD, PROXY
from pico_twisted.net.access.retry_after import RETRY_AFTER, soon
from pico_twisted.net.routing.refusals import UNREACHABLE, code_of_agent

MOST_AGENT_BODY_BYTES: Final = 4 * 1024
"""Most bytes of the body of an agent's own error that are read; what is beyond is dropped."""

_FIELDS: Final = (b"www-authenticate", RETRY_AFTER)
"""What goes on of the head of an agent's own error: without it a client does not know what to do."""

_CODE: Final = re.compile(r"[a-z0-9-]{1,64}")


class AgentError:
    """An error that an agent made in its service's place, while its body comes.

    Args:
        head: of its answer, with an `x-pico-error`.

    Attributes:
        status: of the answer.
        code: of the error.
        fields: for the client's answer, (name, value).
    """

    def __init__(self, head: ResponseHead) -> None:
        code = code_of_agent(head.by_name[b"x-pico-error"])
        self.status = head.status
        self.code = code if _CODE.fullmatch(code) else UNREACHABLE
        self.fields = [(name, head.by_name[name]) for name in _FIELDS if name in head.by_name]
        self._body = b""

    def body(self, data: bytes) -> None:
        """A piece of the body."""
        self._body += data[: MOST_AGENT_BODY_BYTES - len(self._body)]

    @property
    def message(self) -> str:
        """What the agent says, for people."""
        return agent_message(self._body, self.code)


def error_answer(
    facts: ErrorFacts,
    head: RequestHead,
    pages: Mapping[str, str],
    extra: Sequence[tuple[bytes, bytes]] = (),
) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """The status, the fields and the body of an answer to a proxy client.

    Args:
        facts: of the error.
        head: of the request; an empty one when what came is no request.
        pages: the operator's own, by status.
        extra: further fields, (name, value).
    """
    fields = [
        (b"x-pico-error", error_value(facts.node, facts.code)),
        (PORT_FIELD.encode("ascii"), PROXY.encode("ascii")),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
        *extra,
    ]
    if facts.request_id:
        fields.append((b"x-request-id", facts.request_id.encode("ascii")))
    status = facts.status
    if kind := grpc_type(head):
        status, body = 200, b""
        fields += ((b"content-type", kind), *grpc_fields(grpc_status(facts.status), facts.message))
    elif wants_html(all_values(head.fields, b"accept")):
        page = page_for(pages, facts.status)
        body = facts.as_html(page)
        fields.append((b"content-type", b"text/html; charset=utf-8"))
        if page is None:
            fields.append((b"content-security-policy", PAGE_POLICY))
    else:
        body = facts.as_json()
        fields.append((b"content-type", b"application/json"))
    if facts.status in (429, 503) and not any(name == RETRY_AFTER for name, _ in extra):
        fields.append((RETRY_AFTER, soon()))
    return status, fields, body


PREFLIGHT: Final = (
    (b"access-control-allow-origin", b"*"),
    (b"access-control-allow-methods", b"*"),
    (b"access-control-allow-headers", b"*, authorization"),
    (b"access-control-max-age", b"600"),
)
"""The answer to a browser that asks what scripts may send to another origin: all of them may send anything."""


def date_now() -> bytes:
    """The value of Date in an answer of ours."""
    date: bytes = datetimeToString()
    return date
