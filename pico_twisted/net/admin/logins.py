"""Logins of people at the admin port: the sessions behind their cookies, and the page that asks for a token.

What a browser keeps is 256 random bits, and nothing that they come from. What is kept here is who showed the token; the
gate says with each request who that is now, so that a session ends when the token expires, is revoked, or is gone from
its file. Cookies know no ports, so the name has the port in it: the nodes of one machine do not log each other out.
"""

from __future__ import annotations

import base64
import hashlib
import html
from collections import OrderedDict
from collections.abc import Callable
from typing import Final
from urllib.parse import parse_qs

import attrs

from pico_twisted.core.access.subject import Subject
from pico_twisted.core.rates import TokenBucket
from pico_twisted.core.text import network_of

LOGIN: Final = [b"login"]
"""Path of the page, and of what it posts to."""
LOGOUT: Final = [b"logout"]
"""Path of what ends a session."""

SESSION_S: Final = 12 * 3600.0
"""Seconds after which a person has to log in again."""
MOST_SESSIONS: Final = 1000
"""Most sessions of one process. Beyond that the oldest one ends."""
MOST_OF_ONE: Final = 20
"""Most sessions of one subject, who cannot end everybody else's by logging in again and again."""
MAX_TOKEN_BYTES: Final = 8192
"""Most bytes of a token that is shown at the page."""
ATTEMPTS_PER_S: Final = 5.0
"""Logins from one address that are looked at in a second."""
MOST_ADDRESSES: Final = 1000
"""Most addresses whose attempts are counted."""

_ID_BYTES: Final = 32


@attrs.frozen
class _Session:
    subject: Subject
    ends_at: float


class Logins:
    """The sessions of one process.

    Args:
        now: tells the time, in seconds.
        draw: gives as many random bytes as it is told.
    """

    def __init__(self, now: Callable[[], float], draw: Callable[[int], bytes]) -> None:
        self._now = now
        self._draw = draw
        self._sessions: OrderedDict[bytes, _Session] = OrderedDict()  # by the hash of the cookie, the oldest first
        self._attempts: OrderedDict[str, TokenBucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sessions)

    def may_try(self, address: str) -> bool:
        """Whether another attempt from an address is looked at."""
        now = self._now()
        network = network_of(address.encode()) or address
        bucket = self._attempts.setdefault(network, TokenBucket(ATTEMPTS_PER_S, now))
        self._attempts.move_to_end(network)
        if len(self._attempts) > MOST_ADDRESSES:
            self._attempts.popitem(last=False)
        return bucket.take(now)

    def new_id(self) -> str:
        """The cookie of a session that is to begin."""
        return self._draw(_ID_BYTES).hex()

    def begin(self, id: str, subject: Subject) -> None:
        """Begin a session.

        Args:
            id: its cookie, of `new_id` here or at another worker of the host.
            subject: whoever has shown a token.
        """
        now = self._now()
        for key in [key for key, one in self._sessions.items() if one.ends_at <= now]:
            del self._sessions[key]
        of_one = [key for key, one in self._sessions.items() if one.subject.key == subject.key]
        if len(of_one) >= MOST_OF_ONE:
            del self._sessions[of_one[0]]
        elif len(self._sessions) >= MOST_SESSIONS:
            self._sessions.popitem(last=False)
        self._sessions[_hash(id)] = _Session(subject, now + SESSION_S)

    def subject(self, id: str) -> Subject | None:
        """Who has logged in with this cookie; None when there is no such session any more."""
        found = self._sessions.get(_hash(id))
        return None if found is None or found.ends_at <= self._now() else found.subject

    def end(self, id: str) -> None:
        """End a session, if there is one."""
        self._sessions.pop(_hash(id), None)


def _hash(id: str) -> bytes:
    return hashlib.sha256(id.encode("utf-8", "replace")).digest()


def cookie_name(port: int, secure: bool) -> str:
    """The name of the cookie. With TLS, its prefix keeps other hosts from setting it (RFC 6265bis 4.1.3.2)."""
    return f"{'__Host-' if secure else ''}pico-session-{port}"


def cookie(name: str, id: str, secure: bool) -> str:
    """The `Set-Cookie` for a session; with an empty ID the one that takes the cookie away."""
    age_s = int(SESSION_S) if id else 0
    return f"{name}={id}; Path=/; Max-Age={age_s}; HttpOnly; SameSite=Strict{'; Secure' if secure else ''}"


def session_id(field: str, name: str) -> str:
    """The session that a `Cookie` field names; empty when it names none."""
    pairs = (part.strip().partition("=") for part in field.split(";"))
    return next((value for found, _, value in pairs if found == name), "")


def shown_token(body: bytes) -> bytes:
    """The token in the form that the page posts; empty when there is none that can be one."""
    try:
        token = parse_qs(body.decode("ascii"), max_num_fields=4).get("token", [""])[0].strip().encode("ascii")
    except ValueError:
        return b""
    return token if len(token) <= MAX_TOKEN_BYTES else b""


_STYLE: Final = (
    "body{font:16px/1.5 system-ui,sans-serif;margin:12vh auto;padding:0 1.2em;max-width:26em;color:#222;"
    "background:#fff}h1{font-size:1.4em}label,input,button{display:block;font:inherit}"
    "input{box-sizing:border-box;width:100%;padding:.5em;margin:.3em 0 1em}button{padding:.5em 1.2em}"
    "[role=alert]{font-weight:bold}"
    "@media(prefers-color-scheme:dark){body{color:#ddd;background:#161616}}"
)
PAGE_POLICY: Final = (
    b"default-src 'none'; style-src 'sha256-"
    + base64.b64encode(hashlib.sha256(_STYLE.encode("ascii")).digest())
    + b"'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""The Content-Security-Policy of the page: its own style, a form for this port, and nothing else."""

_FORM: Final = (
    '<form method="post" action="/login"><label for="token">Token</label>'
    '<input id="token" name="token" type="password" autocomplete="current-password" required autofocus>'
    "<button>Log in</button></form><p>A token with a rule <code>admin:read</code> or <code>admin:operate</code>.</p>"
)
_LOGGED_IN: Final = (
    '<p>Logged in as {name}, {may}.</p><p><a href="/">What is here</a></p>'
    '<form method="post" action="/logout"><button>Log out</button></form>'
)


def login_page(node: str, problem: str = "") -> bytes:
    """The page that asks for a token.

    Args:
        node: what the port is of, for its heading.
        problem: why the last token did not do.
    """
    alert = f'<p role="alert">{html.escape(problem[:1].upper() + problem[1:])}</p>' if problem else ""
    return _page(node, alert + _FORM)


def logged_in_page(node: str, name: str, operates: bool) -> bytes:
    """The page for somebody who is logged in."""
    may = "who may change things" if operates else "who may look"
    return _page(node, _LOGGED_IN.format(name=html.escape(name), may=may))


def _page(node: str, content: str) -> bytes:
    title = html.escape(node)
    head = '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    page = f"{head}<title>{title}</title><style>{_STYLE}</style><main><h1>{title}</h1>{content}</main></html>\n"
    return page.encode("utf-8")
