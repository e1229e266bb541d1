"""Logins at the admin port: a person shows a token once, and their browser keeps a cookie instead of it."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from urllib.parse import urlencode

import attrs
import pytest
from twisted.internet.task import Clock

from pico_twisted.core.access.subject import Reason
from pico_twisted.net.admin import logins
from pico_twisted.net.admin.logins import Logins, cookie, session_id, shown_token
from pico_twisted.net.admin.shapes.paths import OPERATOR, RELOAD_PATH
from pico_twisted.net.admin.workers import Siblings
from tests.doubles.gate import ToldGate, subject
from tests.net.admin.admin_fakes import Serve, Served, Status, access, node_app
from tests.net.in_reactor import in_reactor, reactor

ANN, ROOT = subject("ann <script>", "admin:read"), subject("root", "admin:operate")
TOKENS = {b"anns-token": ANN, b"roots-token": ROOT, b"agents": subject("agent", "listen:*")}
PAGE = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


class Browser:
    """What a browser does: it keeps the cookie, and says from which page a form comes."""

    def __init__(self, served: Served) -> None:
        self.served = served
        self.cookie = ""

    async def ask(self, path: str, method: str = "GET", **fields: str) -> tuple[int, dict[str, str], str]:
        sent = {**PAGE, "sec-fetch-site": "same-origin", **fields}
        if method == "POST":
            sent.setdefault("origin", self.served.url)
        if self.cookie:
            sent["cookie"] = f"other=1; {self.cookie}"
        code, headers, body = await self.served.ask(path, method, headers=sent, data=self.form, allow_redirects=False)
        if "set-cookie" in headers:
            self.cookie = headers["set-cookie"].partition(";")[0]
        return code, headers, body.decode()

    form: bytes | None = None

    async def log_in(self, token: str, **fields: str) -> tuple[int, dict[str, str], str]:
        self.form = urlencode({"token": token}).encode()
        try:
            return await self.ask("/login", "POST", **fields)
        finally:
            self.form = None


def browser(serve: Serve, gate: ToldGate | None = None) -> Browser:
    return Browser(serve(node_app(admits=access(gate or ToldGate(TOKENS)))))


@in_reactor
async def test_a_person_logs_in_and_out(serve: Serve) -> None:
    """They meet a page instead of JSON, show a token, see everything that they may, and are strangers again."""
    at = browser(serve)
    for path in ("/", "/metrics", "/nothing"):
        code, headers, page = await at.ask(path)
        assert (code, headers["content-type"]) == (401, "text/html; charset=utf-8")
        assert '<form method="post" action="/login">' in page and "<script" not in page
        assert "form-action 'self'" in headers["content-security-policy"]
    code, headers, _ = await at.log_in(" anns-token\r\n")
    assert (code, headers["location"]) == (303, "/")
    attributes = headers["set-cookie"].split("; ")
    assert re.fullmatch(rf"pico-session-{at.served.number}=[0-9a-f]{{64}}", attributes[0])
    assert attributes[1:] == ["Path=/", "Max-Age=43200", "HttpOnly", "SameSite=Strict"]
    for path in ("/", "/metrics", "/status/cluster/nodes"):
        assert (await at.ask(path))[0] == 200
    assert (await at.ask("/", authorization="Basic b2Y6YSBwcm94eQ=="))[0] == 200  # of a proxy before us
    assert (await at.ask("/", authorization="Bearer wrong-token"))[0] == 401
    _, _, page = await at.ask("/login")
    assert "Logged in as ann &lt;script&gt;, who may look." in page
    kept = at.cookie
    code, headers, _ = await at.ask("/logout", "POST")
    assert (code, headers["location"]) == (303, "/login") and "Max-Age=0" in headers["set-cookie"]
    at.cookie = kept
    assert (await at.ask("/metrics"))[0] == 401  # the cookie itself is worth nothing any more


@in_reactor
async def test_what_is_no_token(serve: Serve) -> None:
    """Gets the page again with the reason in words, and counts as refused; whatever was typed is not shown."""
    gate = ToldGate(TOKENS)
    at = browser(serve, gate)
    for token, status in (("", 401), ("wrong-token", 401), ("agents", 403)):
        code, headers, page = await at.log_in(token)
        assert (code, "set-cookie" in headers) == (status, False)
        assert 'role="alert"' in page and "wrong-token" not in page
    assert [reason for reason, _ in gate.refusals] == [Reason.UNKNOWN, Reason.UNKNOWN, Reason.NOT_ALLOWED]


@in_reactor
async def test_attempts_are_slowed_down(serve: Serve) -> None:
    """From one address, also with a right token: whoever guesses learns nothing faster."""
    admits = attrs.evolve(access(ToldGate(TOKENS)), logins=Logins(Clock().seconds, os.urandom))
    at = Browser(serve(node_app(admits=admits)))
    codes = [(await at.log_in("wrong"))[0] for _ in range(6)]
    assert codes[0] == 401 and codes[-1] == 429
    code, headers, _ = await at.log_in("anns-token")
    assert (code, "retry-after" in headers) == (429, True)


@pytest.mark.parametrize(
    "fields",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:1", "sec-fetch-site": "same-site"},
        {"origin": "", "sec-fetch-site": "none"},
        {"sec-fetch-site": "cross-site"},
    ],
    ids=lambda fields: "-".join(fields.values()),
)
@in_reactor
async def test_only_our_page_uses_the_cookie(fields: dict[str, str], serve: Serve) -> None:
    """Neither a login, a logout nor a change comes from another page: SameSite does not tell ports apart."""
    at = browser(serve)
    assert (await at.log_in("roots-token", **fields))[0] == 403
    assert (await at.log_in("roots-token"))[0] == 303
    for path in (RELOAD_PATH, "/logout"):
        assert (await at.ask(path, "POST", **fields, **{OPERATOR: "me"}))[0] == 403
    assert (await at.ask(RELOAD_PATH, "POST"))[0] == 200


@in_reactor
async def test_a_reader_changes_nothing(serve: Serve) -> None:
    """Their own page neither."""
    at = browser(serve)
    await at.log_in("anns-token")
    assert (await at.ask(RELOAD_PATH, "POST"))[0] == 403


@in_reactor
async def test_a_session_ends_with_its_token(serve: Serve) -> None:
    """Revoked, expired, gone from the file, or with other rules: from the next request on."""
    for end in ("revoke", "remove", "restrict"):
        gate = ToldGate(TOKENS)
        at = browser(serve, gate)
        await at.log_in("roots-token")
        assert (await at.ask("/metrics"))[0] == 200
        if end == "revoke":
            gate.ended["root"] = Reason.REVOKED
        elif end == "remove":
            del gate.subjects[b"roots-token"]
        else:
            gate.subjects[b"roots-token"] = attrs.evolve(ROOT, rules=ANN.rules)
            assert (await at.ask(RELOAD_PATH, "POST"))[0] == 403
            continue
        code, _, page = await at.ask("/metrics")
        assert code == 401 and 'role="alert"' in page
        assert 'role="alert"' not in (await at.ask("/metrics"))[2]  # it was told once


@in_reactor
async def test_without_authentication_there_is_no_login(serve: Serve) -> None:
    """Nobody is asked for a token that would not be looked at."""
    code, _, body = await serve().ask("/login", headers=PAGE)
    assert code == 404 and json.loads(body)["error"].startswith("no such path")


@in_reactor
async def test_workers_share_logins(serve: Serve, tmp_path: Path) -> None:
    """The next request may come to another process of the host: a login counts at all, and so does a logout."""
    path = str(tmp_path / "w1")
    siblings = Siblings(label="0", labels={"n2": "1"}, sockets={"n2": path})
    second = access(ToldGate(TOKENS), name="n2")
    beside = serve(node_app(Status("n2"), second))
    private = reactor.listenUNIX(path, beside.site)
    try:
        first = Browser(serve(node_app(Status("n1"), access(ToldGate(TOKENS)), siblings=siblings)))
        assert (await first.log_in("anns-token"))[0] == 303
        assert len(second.logins) == 1
        id = first.cookie.partition("=")[2]
        other = Browser(beside)
        other.cookie = f"pico-session-{beside.number}={id}"
        assert (await other.ask("/metrics"))[0] == 200
        await first.ask("/logout", "POST")
        assert len(second.logins) == 0
        assert (await other.ask("/metrics"))[0] == 401
        for method in ("GET", "POST"):  # strangers cannot tell of one
            await other.ask("/login", method, **{"x-pico-session": "me", "authorization": "Bearer anns-token"})
        assert len(second.logins) == 0
    finally:
        await private.stopListening()


class TestSessions:
    def test_they_end(self) -> None:
        """After half a day, and are forgotten."""
        clock = Clock()
        made = Logins(clock.seconds, os.urandom)
        made.begin(id := made.new_id(), ANN)
        clock.advance(logins.SESSION_S - 1)
        assert made.subject(id) == ANN
        clock.advance(1)
        assert made.subject(id) is None
        made.begin(made.new_id(), ANN)
        assert len(made) == 1

    def test_they_are_few(self) -> None:
        """The oldest goes for a new one; who logs in again and again pushes out nobody else."""
        made = Logins(Clock().seconds, os.urandom)
        made.begin(first := made.new_id(), ANN)
        for _ in range(2 * logins.MOST_OF_ONE):
            made.begin(made.new_id(), ROOT)
        assert made.subject(first) == ANN and len(made) == 1 + logins.MOST_OF_ONE
        for number in range(logins.MOST_SESSIONS + 5):
            made.begin(made.new_id(), subject(f"s{number}", "admin:read"))
        assert len(made) == logins.MOST_SESSIONS and made.subject(first) is None

    def test_no_two_are_alike(self) -> None:
        """And each has 256 random bits."""
        made = Logins(Clock().seconds, os.urandom)
        assert len({made.new_id() for _ in range(100)}) == 100 and len(made.new_id()) == 64

    def test_addresses_that_try_are_bounded(self) -> None:
        """A flood from everywhere does not fill the memory."""
        made = Logins(Clock().seconds, os.urandom)
        for number in range(2 * logins.MOST_ADDRESSES):
            made.may_try(str(number))
        assert len(made._attempts) == logins.MOST_ADDRESSES
        assert [made.may_try(f"2001:db8::{number}") for number in range(8)] == [True] * 5 + [False] * 3


def test_the_cookie_with_tls() -> None:
    """Goes over TLS alone, and no other host can set it."""
    name = logins.cookie_name(8001, True)
    assert name == "__Host-pico-session-8001"
    assert cookie(name, "id", True).endswith("; Path=/; Max-Age=43200; HttpOnly; SameSite=Strict; Secure")


@pytest.mark.parametrize(
    ("field", "id"),
    [("", ""), ("a=1; s=x; b", "x"), ("s", ""), ("S=x", ""), ("\x00;s=x", "x"), ("=;;=,", ""), ("s=a; s=b", "a")],
)
def test_cookies_that_come(field: str, id: str) -> None:
    """Whatever they are, they name one session or none."""
    assert session_id(field, "s") == id


@pytest.mark.parametrize(
    ("body", "token"),
    [
        (b"token=a%2Bb+", b"a+b"),
        (b"a=1&token=x", b"x"),
        (b"token=", b""),
        (b"", b""),
        (b"token=%C3%A9", b""),
        (b"\xff", b""),
        (b"a&" * 100 + b"token=x", b""),
        (b"token=" + b"x" * 9000, b""),
        (b'{"token": "x"}', b""),
    ],
)
def test_forms_that_come(body: bytes, token: bytes) -> None:
    """Whatever they are, they show one token or none."""
    assert shown_token(body) == token
