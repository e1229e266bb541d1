"""Errors as people and programs read them: by Accept a page of HTML, ours or the operator's own, or JSON.

Both say what was asked for, the code, the ID of the request and the node, so that whoever is asked for help can find
the request in the log. A hint says what the owner of the endpoint can do, and nothing that a stranger may not know.
Everything that stands in an answer is escaped: most of it came with a request, or from an agent.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Mapping
from http import HTTPStatus
from string import Template
from typing import Final

import attrs

from pico_twisted.core.public_url import endpoint_url
from pico_twisted.core.text import printable

MOST_MESSAGE_CHARS: Final = 300
"""Most characters of an agent's own words that are shown."""

DEFAULT_PAGE: Final = "default"
"""Name of the operator's page for every status that has none of its own."""

_STYLE: Final = (
    "body{font:16px/1.5 system-ui,sans-serif;margin:12vh auto;padding:0 1.2em;max-width:34em;color:#222;"
    "background:#fff}h1{font-size:1.4em;margin:0 0 .6em}"
    "dl{display:grid;grid-template-columns:auto 1fr;gap:.1em 1em;margin-top:2em;"
    "padding-top:1em;border-top:1px solid #8888;font-size:.85em}dt{color:#666}dd{margin:0;overflow-wrap:anywhere;"
    "font-family:ui-monospace,monospace}"
    "@media(prefers-color-scheme:dark){body{color:#ddd;background:#161616}dt{color:#999}}"
)
_PAGE: Final = (
    '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    f"<title>$status $reason</title><style>{_STYLE}</style><main><h1>$status $reason</h1><p>$message</p><p>$hint</p>"
    "<dl>$facts</dl></main></html>\n"
)

PAGE_POLICY: Final = (
    b"default-src 'none'; style-src 'sha256-"
    + base64.b64encode(hashlib.sha256(_STYLE.encode("ascii")).digest())
    + b"'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The Content-Security-Policy of our own page: its own style, and nothing else."""

_TRY_AGAIN: Final = "Try again in a moment."
_WORDS: Final = {
    "bad-response": (
        "The service behind {0} sent an answer that is not valid.",
        "See its agent's log.",
    ),
    "busy": ("Too many requests are in progress.", _TRY_AGAIN),
    "draining": ("This server is shutting down.", _TRY_AGAIN),
    "invalid-endpoint": ("This address names no valid endpoint.", ""),
    "loop": ("The request goes in circles.", "If this is yours: the service of {0} sends it back to this server."),
    "missing-endpoint": ("This address names no endpoint.", "{1}"),
    "no-upstreams": ("No agent serves {0} now.", "If this is yours: start its agent."),
    "service-failed": (
        "The service behind {0} closed the connection without an answer.",
        "If this is yours: see the service's log.",
    ),
    "service-timeout": ("The service behind {0} did not answer in time.", ""),
    "service-unreachable": (
        "The service behind {0} cannot be reached.",
        "If this is yours: is the service running, and does its agent have the right address?",
    ),
    "tls-required": ("This port speaks TLS.", "Use https."),
    "unknown-host": ("No endpoint has this address.", "{1}"),
    "upstream-timeout": ("The service behind {0} did not answer in time.", ""),
    "upstream-unreachable": ("The connection to {0} was lost.", _TRY_AGAIN),
}
"""By code: what happened, and what can be done; {0} stands for the endpoint, {1} for how to name one. Of other codes
the message says all."""

_RANGE: Final = re.compile(rb"[ \t]*([^;, \t]+)[ \t]*(?:;[^,]*?\bq=([01](?:\.[0-9]{0,3})?))?[^,]*")


@attrs.frozen(kw_only=True)
class ErrorFacts:
    """What is known of an error.

    Attributes:
        status: of the answer.
        code: stable, for programs.
        message: for people, in a few words.
        endpoint: the ID that was looked for; empty when there was none.
        request_id: of the request; empty when what came was none.
        node: the ID of the node.
        public_url: where clients reach endpoints; empty when that is not known.
    """

    status: int
    code: str
    message: str
    endpoint: str
    request_id: str
    node: str
    public_url: str = ""

    @property
    def hint(self) -> str:
        """What can be done about it; empty when nobody knows."""
        return self._words()[1]

    def _words(self) -> tuple[str, str]:
        name = f"\u201c{self.endpoint}\u201d" if self.endpoint else "this address"
        text, hint = _WORDS.get(self.code, ("", ""))
        message = self.message[:1].upper() + self.message[1:] + "."
        url = endpoint_url(self.public_url, "my-endpoint")
        if not self.public_url:
            url = "a host name that begins with one, such as my-endpoint.example.com"
        how = f"Use {url}, or send x-pico-endpoint." if url else "Send x-pico-endpoint."
        return text.format(name) or message, hint.format(name, how)

    def as_json(self) -> bytes:
        """A JSON object on a line of its own."""
        facts = {
            "error": self.message,
            "code": self.code,
            "endpoint": self.endpoint,
            "request_id": self.request_id,
            "node": self.node,
        }
        if self.hint:
            facts["hint"] = self.hint
        return json.dumps(facts).encode("ascii") + b"\n"

    def as_html(self, page: str | None = None) -> bytes:
        """A page of HTML.

        Args:
            page: the operator's own. In it, `$status`, `$reason`, `$code`, `$message`, `$hint`, `$endpoint`,
                `$request_id` and `$node` are replaced, escaped for text and for attributes in quotes; None for ours.
        """
        message, hint = self._words()
        known = {"endpoint": self.endpoint, "code": self.code, "request": self.request_id, "node": self.node}
        facts = "".join(f"<dt>{name}<dd>{html.escape(value)}" for name, value in known.items() if value)
        values = {
            "status": str(self.status),
            "reason": HTTPStatus(self.status).phrase if self.status in _STATUSES else "Error",
            "code": self.code,
            "message": message,
            "hint": hint,
            "endpoint": self.endpoint,
            "request_id": self.request_id,
            "node": self.node,
        }
        safe = {name: html.escape(value) for name, value in values.items()}
        if page is None:
            return Template(_PAGE).substitute(safe, facts=facts).replace("<p></p>", "").encode("utf-8")
        return Template(page).safe_substitute(safe).encode("utf-8")


_STATUSES: Final = frozenset(map(int, HTTPStatus))


def page_for(pages: Mapping[str, str], status: int) -> str | None:
    """The operator's page for a status, if there is one."""
    return pages.get(str(status)) or pages.get(DEFAULT_PAGE)


def wants_html(accept: bytes) -> bool:
    """Whether a client would rather read HTML than JSON, by its Accept (RFC 9110 12.5.1); JSON when it says nothing."""
    weights: dict[bytes, float] = {}
    for match in _RANGE.finditer(accept):
        weights[match.group(1).lower()] = float(match.group(2) or 1)
    wanted = weights.get(b"text/html", 0)
    return wanted > weights.get(b"application/json", 0)


def agent_message(body: bytes, code: str) -> str:
    """The words of an agent's own error, out of its body, or else the code."""
    try:
        words = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError, RecursionError):
        words = None
    return printable(words[:MOST_MESSAGE_CHARS]) if isinstance(words, str) and words else code.replace("-", " ")
