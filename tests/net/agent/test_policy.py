"""What a listener lets through to its service."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import bcrypt
import pytest
from twisted.internet.defer import Deferred

from pico_twisted.config import HeaderEditsConfig
from pico_twisted.config.values import Network, read_network
from pico_twisted.net.agent.serving import basic_auth
from tests.net.agent.agent_fakes import OK, UPGRADE, Bench, Request

FILE = "/users"
HASH = bcrypt.hashpw(b"secret", bcrypt.gensalt(4))
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n"
FROM = b"X-Forwarded-For: 192.0.2.7, 10.0.0.1\r\n"


def login(user: str = "ann", password: str = "secret") -> bytes:
    """The header of somebody who has a password."""
    return b"Authorization: Basic " + base64.b64encode(f"{user}:{password}".encode()) + b"\r\n"


def guarded(**keys: Any) -> Bench:
    """A listener with one user, ann."""
    bench = Bench(basic_auth_file=FILE, **keys)
    bench.policies.basic_auth.users = {FILE: {b"ann": HASH}}
    return bench


def is_refused(request: Request, status: int, code: str) -> bool:
    """Whether the service saw nothing of a request, and its client is told why."""
    return request.status == status and request.error == f"agent-1; {code}" and request.ended


def _networks(text: str) -> tuple[Network, ...]:
    return (read_network(text),) if text else ()


class TestAddresses:
    """Who may come in, by address as the node tells it."""

    @pytest.mark.parametrize(
        ("allow", "deny", "told", "comes_in"),
        [
            ("192.0.2.0/24", "", FROM, True),
            ("10.0.0.0/8", "", FROM, False),
            ("", "192.0.2.7", FROM, False),
            ("", "10.0.0.1", FROM, True),
            ("192.0.2.0/24", "192.0.2.7", FROM, False),
            ("2001:db8::/32", "", b"X-Forwarded-For: 2001:db8::1\r\n", True),
            ("192.0.2.0/24", "", b"", False),
            ("", "192.0.2.7", b"", False),
            ("", "192.0.2.7", b"X-Forwarded-For: unknown\r\n", False),
        ],
    )
    def test_lists(self, allow: str, deny: str, told: bytes, comes_in: bool) -> None:
        """Who is denied does not come in, nor who is not among those that are allowed, nor whose address nobody knows
        where that matters."""
        bench = Bench(allow=_networks(allow), deny=_networks(deny))
        request = bench.get(extra=told)
        if comes_in:
            bench.service.last.answer(OK)
            assert request.body == b"ok"
        else:
            assert is_refused(request, 403, "listener-address") and not bench.service.transports
        assert bench.nothing_is_left()

    def test_a_body_that_is_still_to_come(self) -> None:
        """It is not taken, and its caller is told so, also on version 1."""
        for version in (2, 1):
            bench = Bench(version, deny=(read_network("0.0.0.0/0"),))
            request = bench.post(b"abc", FROM + b"Content-Length: 3\r\n", more=version == 2)
            assert is_refused(request, 403, "listener-address")
            bench.pass_time(1)
            assert bench.nothing_is_left()


class TestPasswords:
    """Who may come in, by user and password."""

    def test_the_right_one(self) -> None:
        """It comes in, and the service gets no password unless the listener says so."""
        for becomes in ("drop", "pass"):
            bench = guarded(authorization=becomes)
            request = bench.get(extra=login())
            assert (login() in bench.service.last.taken()) == (becomes == "pass")
            bench.service.last.answer(OK)
            assert request.body == b"ok" and bench.nothing_is_left()

    @pytest.mark.parametrize(
        "shown",
        [
            b"",
            login(password="wrong"),
            login(user="bob"),
            login(password="secret\0"),
            b"Authorization: Basic ???\r\n",
            b"Authorization: Basic YW5u\r\n",
            b"Authorization: Bearer YW5uOnNlY3JldA==\r\n",
        ],
    )
    @pytest.mark.parametrize("realm", ["", "At home"])
    def test_none_or_a_wrong_one(self, shown: bytes, realm: str) -> None:
        """A 401 that makes a browser ask for it."""
        bench = guarded(basic_auth_realm=realm)
        request = bench.get(extra=shown)
        assert is_refused(request, 401, "listener-login") and not bench.service.transports
        challenge = b'www-authenticate: Basic realm="%b", charset="UTF-8"' % (realm or "web").encode()
        assert challenge in request.head.split(b"\r\n")
        assert bench.nothing_is_left()

    def test_it_is_checked_once_a_minute(self) -> None:
        """A password that was right is not checked again at once; a minute behind its last use, or when the file has
        another entry, it is. One that was wrong always is."""
        checks: list[Callable[[], bool]] = []

        def in_thread(work: Callable[[], bool]) -> Deferred[bool]:
            checks.append(work)
            done: Deferred[bool] = Deferred()
            done.callback(work())
            return done

        bench = guarded(in_thread=in_thread)
        for _ in range(3):
            bench.get(extra=login())
            bench.service.last.answer(OK)
        assert len(checks) == 1
        bench.pass_time(basic_auth.KNOWN_FOR_S + 1)
        bench.get(extra=login())
        assert len(checks) == 2
        bench.policies.basic_auth.users = {FILE: {b"ann": bcrypt.hashpw(b"other", bcrypt.gensalt(4))}}
        assert is_refused(bench.get(extra=login()), 401, "listener-login")
        assert is_refused(bench.get(extra=login()), 401, "listener-login")
        assert len(checks) == 4

    def test_while_it_is_checked(self) -> None:
        """What comes meanwhile of a body waits. Requests with one password wait for one check, one file after the
        other, and only so many passwords wait; who leaves is not waited for."""
        running: list[tuple[Callable[[], bool], Deferred[bool]]] = []

        def in_thread(work: Callable[[], bool]) -> Deferred[bool]:
            running.append((work, Deferred()))
            return running[-1][1]

        bench = guarded(in_thread=in_thread)
        first = bench.post(b"ab", login() + b"Content-Length: 4\r\n")
        second = bench.get(extra=login())
        gone = bench.get(extra=login())
        gone.cancel()
        wrong = [bench.get(extra=login(password=str(number))) for number in range(basic_auth.MOST_WAITING)]
        assert len(running) == 1 and not bench.service.transports
        assert is_refused(bench.get(extra=login(password="one more")), 503, "listener-logins")
        first.send(b"cd", more=False)
        for work, done in running:
            done.callback(work())
        assert [is_refused(request, 401, "listener-login") for request in wrong] == [True] * len(wrong)
        assert [transport.taken()[-6:] for transport in bench.service.transports] == [b"\r\nabcd", b"eb\r\n\r\n"]
        for transport in bench.service.transports:
            transport.answer(OK)
        assert first.body == second.body == b"ok" and bench.nothing_is_left()

    def test_guesses_keep_nobody_out_who_is_in(self) -> None:
        """A password that was right and is used stays known, however many others wait to be checked."""
        held: list[Deferred[bool]] = []

        def in_thread(work: Callable[[], bool]) -> Deferred[bool]:
            held.append(Deferred())
            if len(held) == 1:
                held[0].callback(work())
            return held[-1]

        auth = basic_auth.BasicAuth(in_thread)
        auth.users = {FILE: {b"ann": HASH}}
        known, *guesses = [
            login(password=text)[15:].strip() for text in ("secret", *map(str, range(basic_auth.MOST_WAITING + 2)))
        ]
        assert auth.check(FILE, known, 0.0) is True
        for at in range(10):
            now = at * basic_auth.KNOWN_FOR_S * 0.9
            found = [auth.check(FILE, guess, now) for guess in guesses]
            assert found[-1] is None and auth.check(FILE, known, now) is True

    def test_guesses_at_one_file_do_not_hold_up_another(self) -> None:
        """While passwords of one file wait to be checked, and too many of them, those of another file are checked."""
        running: list[Callable[[], bool]] = []

        def in_thread(work: Callable[[], bool]) -> Deferred[bool]:
            running.append(work)
            return Deferred()

        auth = basic_auth.BasicAuth(in_thread)
        guesses = [login(password=str(number))[15:].strip() for number in range(basic_auth.MOST_WAITING + 2)]
        found = [auth.check("/a", guess, 0.0) for guess in guesses]
        assert found[-1] is None and len(running) == 1
        assert isinstance(auth.check("/b", guesses[0], 0.0), Deferred) and len(running) == 2

    def test_memory_is_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Only so many passwords are remembered."""
        monkeypatch.setattr(basic_auth, "MOST_KNOWN", 3)
        bench = guarded()
        bench.policies.basic_auth.users = {FILE: {f"u{number}".encode(): HASH for number in range(10)}}
        for number in range(10):
            bench.get(extra=login(user=f"u{number}"))
            bench.service.last.answer(OK)
        assert len(bench.policies.basic_auth._known) == 3


class TestCeilings:
    """So many at once, and so many in a time."""

    @pytest.mark.parametrize("end", ["answered", "cancelled", "upgraded"])
    def test_in_flight(self, end: str) -> None:
        """Beyond so many 503, until one is over in whichever way; a refused one does not count."""
        bench = Bench(max_in_flight=1)
        request = bench.get(extra=UPGRADE, more=True) if end == "upgraded" else bench.get()
        transport = bench.service.last
        if end == "upgraded":
            transport.answer(SWITCH + b"\r\n")
        for _ in range(2):
            refused = bench.get()
            assert is_refused(refused, 503, "listener-in-flight") and b"retry-after: " in refused.head
        if end == "answered":
            transport.answer(OK)
        else:
            request.cancel()
        bench.get()
        bench.service.last.answer(OK)
        assert bench.nothing_is_left()

    def test_rate(self) -> None:
        """Beyond the rate 429, with the time until the next one may come; who is not let in takes nothing from it."""
        bench = guarded(rate=1 / 30)
        for _ in range(3):
            assert bench.get().status == 401
        bench.get(extra=login())
        bench.service.last.answer(OK)
        refused = bench.get(extra=login())
        assert is_refused(refused, 429, "listener-rate") and b"retry-after: 30" in refused.head
        bench.pass_time(31)
        bench.get(extra=login())
        bench.service.last.answer(OK)
        counted = bench.metrics.exposition()
        assert b'pico_limited_total{reason="listener-login"} 3.0' in counted
        assert b'pico_limited_total{reason="listener-rate"} 1.0' in counted


class TestHeaders:
    """Edits of headers, both ways."""

    @pytest.mark.parametrize("version", [2, 1])
    def test_edits(self, version: int) -> None:
        """Some are set, whatever was there, some added, some taken away; the others stay as they are."""
        edits = HeaderEditsConfig(set=("X-A: new",), add=("X-B: more",), remove=("X-C",))
        bench = Bench(version, request_headers=edits, response_headers=edits)
        fields = b"x-a: old\r\nX-A: older\r\nX-B: one\r\nx-c: gone\r\nX-D: stays\r\n"
        request = bench.get(extra=fields)
        sent = bench.service.last.taken().split(b"\r\n")
        bench.service.last.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n" + fields + b"\r\nok")
        for lines in (sent, request.head.split(b"\r\n")):
            assert [line for line in lines if line[:2].lower() == b"x-"] == [
                b"X-B: one",
                b"X-D: stays",
                b"X-A: new",
                b"X-B: more",
            ]
        assert request.body == b"ok" and bench.nothing_is_left()

    def test_nobody_has_them_dropped(self) -> None:
        """A service that names one in Connection does not get rid of what the operator puts there."""
        bench = Bench(response_headers=HeaderEditsConfig(set=("X-A: new",)))
        request = bench.get()
        bench.service.last.answer(b"HTTP/1.1 200 OK\r\nConnection: X-A, X-E\r\nX-E: e\r\nContent-Length: 2\r\n\r\nok")
        assert b"X-A: new" in request.head and b"X-E" not in request.head

    def test_a_change_of_protocol_stays_as_it_is(self) -> None:
        """The head of a 101 is not edited: its fields are what the protocol is agreed by."""
        bench = Bench(response_headers=HeaderEditsConfig(remove=("Sec-WebSocket-Accept",)))
        request = bench.get(extra=UPGRADE, more=True)
        bench.service.last.answer(SWITCH + b"Sec-WebSocket-Accept: x\r\n\r\n")
        assert b"Sec-WebSocket-Accept: x" in request.head
        request.cancel()
