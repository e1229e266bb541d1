"""Attacks of services: answers whose end can be read in several ways, and what somebody else is then answered."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.attacks.judging import MALFORMED, PATIENCE_S, REFUSED, WAITS
from tests.attacks.requests import CHUNKED, CODINGS, ENDPOINT, ENDS, LAST, LASTS, LENGTHS, ODD_BYTES, SIZES, Attack
from tests.peers.pipe import Ended
from tests.system import wire
from tests.system.service import Connection, Service, answer, chunk
from tests.system.wire import Broken, Malformed

EVIL = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nX-Evil: yes\r\n\r\nevil"
"""The second answer: nobody asked for it."""

PASSED = "passed"
"""The client got one whole, well-formed answer."""
POISONED = "poisoned"
"""The client, or the next one, got the second answer, or a wrong one."""

CANARIES = 3

_numbers = itertools.count()


@dataclass(frozen=True)
class Answer(Attack):
    """An answer of an attacker.

    Attributes:
        method: of the request that it answers.
    """

    method: bytes = b"GET"


def judge_answer(connect: Callable[[], wire.Stream], field: bytes, case: Answer, service: Service) -> str:
    """What became of an answer, for the client and for those who ask after it.

    Args:
        connect: a connection to the proxy.
        field: stands in each request, as a line.
        case: what the service answers with.
        service: behind the proxy; nobody else asks it meanwhile. It sends the answer and leaves the connection open.
    """

    def script(connection: Connection) -> None:
        while True:
            request = connection.read_request()
            if request.target == b"/attack":
                connection.send(case.data)
            else:
                connection.send(answer(request.target))

    service.script = script
    client = connect()
    try:
        verdict = _first(client, field, case)
        if verdict in (POISONED, MALFORMED):
            return verdict
        for _ in range(CANARIES):
            if not _is_own(client, field):
                return POISONED
        return verdict
    finally:
        client.close()
        other = connect()
        kept = _is_own(other, field)
        other.close()
        assert kept or verdict == POISONED or b"evil" not in bytes(other.received), (
            f"{case.name}: a stranger is poisoned"
        )


def _request(method: bytes, target: bytes, field: bytes) -> bytes:
    return method + b" " + target + b" HTTP/1.1\r\nHost: a.example\r\n" + (field or ENDPOINT) + b"\r\n"


def _first(client: wire.Stream, field: bytes, case: Answer) -> str:
    client.send(_request(case.method, b"/attack", field))
    try:
        response = client.read_response(case.method.decode(), PATIENCE_S)
    except (Ended, Broken):
        return REFUSED
    except TimeoutError:
        return WAITS
    except Malformed:
        return MALFORMED
    if response.get("x-evil") is not None or response.body == b"evil":
        return POISONED
    return REFUSED if response.status in (500, 502, 504) else PASSED


def _is_own(client: wire.Stream, field: bytes) -> bool:
    """Whether the next request on this connection gets its own answer; one that is closed is no wrong one."""
    target = b"/canary-%d" % next(_numbers)
    try:
        client.send(_request(b"GET", target, field))
        response = client.read_response("GET", PATIENCE_S)
    except (Ended, Broken, TimeoutError):
        return b"evil" not in bytes(client.received)
    except Malformed:
        return False
    return response.body == target or response.status >= 500


def _head(*lines: bytes, status: bytes = b"HTTP/1.1 200 OK") -> bytes:
    return status + b"\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


def answers() -> list[Answer]:
    """All of them; the order and the names are always the same."""
    return list(_answers())


LENGTH = b"Content-Length: 2"

TRAILERS = (
    b"Content-Length: %d" % len(EVIL),
    b"Content_Length: %d" % len(EVIL),
    CHUNKED,
    b"Connection: keep-alive",
    b"Connection: Upgrade",
    b"Upgrade: raw",
    b"Set-Cookie: evil=1",
    b"Location: http://b.example/",
    b"X-Evil: yes",
)

STATUS_LINES = {
    "two digits": b"HTTP/1.1 20 OK",
    "four digits": b"HTTP/1.1 2000 OK",
    "a sign": b"HTTP/1.1 -200 OK",
    "099": b"HTTP/1.1 099 OK",
    "600": b"HTTP/1.1 600 OK",
    "no blank": b"HTTP/1.1 200OK",
    "two blanks": b"HTTP/1.1  200 OK",
    "version 1.10": b"HTTP/1.10 200 OK",
    "version 2": b"HTTP/2 200 OK",
    "version 0.9": b"HTTP/0.9 200 OK",
    "lower case": b"http/1.1 200 OK",
    "a blank in front": b" HTTP/1.1 200 OK",
    "tabs": b"HTTP/1.1\t200\tOK",
    "another protocol": b"HTTQ/1.1 200 OK",
    "a number alone": b"200 OK",
    "nothing": b"",
}


def _answers() -> Iterator[Answer]:
    for name, size in SIZES.items():
        yield Answer("chunk size", name, _head(CHUNKED) + size + b"hello\r\n" + LAST + EVIL)
        yield Answer("chunk size, hidden", name, _head(CHUNKED) + size + LAST + chunk(EVIL) + LAST)
    for name, end in ENDS.items():
        yield Answer("chunk end", name, _head(CHUNKED) + b"5\r\nhello" + end + LAST + EVIL)
    for name, last in LASTS.items():
        yield Answer("last chunk", name, _head(CHUNKED) + chunk(b"hello") + last + EVIL)
    for line in TRAILERS:
        for kind, told in {"trailer": (), "announced trailer": (b"Trailer: " + line.partition(b":")[0],)}.items():
            data = _head(CHUNKED, *told) + chunk(b"hello") + b"0\r\n" + line + b"\r\n\r\n"
            yield Answer(kind, line.decode(), data + EVIL)
    yield Answer("trailer", "a status line", _head(CHUNKED) + chunk(b"hello") + b"0\r\n" + EVIL)
    for name, form in LENGTHS.items():
        yield Answer("length", name, _head(form.replace(b"%b", b"2")) + b"ok" + EVIL)
    for name, form in CODINGS.items():
        yield Answer("coding", name, _head(form.replace(b"%b", b"2")) + LAST + EVIL)
    for name, byte in ODD_BYTES.items():
        for place, line in {
            "before the name": byte + b"Set-Cookie: evil=1",
            "in the name": b"Set" + byte + b"-Cookie: evil=1",
            "behind the name": b"Set-Cookie" + byte + b": evil=1",
            "in the value": b"X: y" + byte + b"Set-Cookie: evil=1",
            "in the reason": b"",
        }.items():
            status = b"HTTP/1.1 200 O" + byte + b"K" if not line else b"HTTP/1.1 200 OK"
            yield Answer("masked", f"{name} {place}", _head(LENGTH, line or b"X: y", status=status) + b"ok" + EVIL)
    for number in (b"204 No Content", b"304 Not Modified"):
        for name, line in {"with a length": LENGTH, "with chunks": CHUNKED, "with nothing": b"X: y"}.items():
            body = b"2\r\nok\r\n" + LAST if line is CHUNKED else b"ok"
            data = _head(line, status=b"HTTP/1.1 " + number) + body + EVIL
            yield Answer("no body", f"{number.decode()} {name}", data)
    for name, line in {"a length": LENGTH, "chunks": CHUNKED, "nothing": b"X: y"}.items():
        body = b"2\r\nok\r\n" + LAST if line is CHUNKED else b"ok"
        yield Answer("body behind HEAD", name, _head(line) + body + EVIL, b"HEAD")
        if line in (LENGTH, CHUNKED):
            yield Answer("two heads", name, _head(line) + body + _head(LENGTH) + b"ok" + EVIL)
    for count in (1, 10, 100, 5000):
        for status in (b"100 Continue", b"102 Processing", b"103 Early Hints", b"199 Odd"):
            interim = _head(status=b"HTTP/1.1 " + status) * count
            yield Answer("interim heads", f"{count} {status.decode()}", interim + _head(LENGTH) + b"ok" + EVIL)
    interims = {
        "with a length": _head(LENGTH, status=b"HTTP/1.1 103 Early Hints") + b"ok",
        "with chunks": _head(CHUNKED, status=b"HTTP/1.1 103 Early Hints") + LAST,
        "of 101": _head(b"Connection: Upgrade", b"Upgrade: raw", status=b"HTTP/1.1 101 Switching Protocols"),
        "with a long field": _head(b"X: " + b"a" * 70_000, status=b"HTTP/1.1 103 Early Hints"),
    }
    for name, data in interims.items():
        yield Answer("interim head", name, data + _head(LENGTH) + b"ok" + EVIL)
    for name, status in STATUS_LINES.items():
        yield Answer("status line", name, _head(LENGTH, status=status) + b"ok" + EVIL)
    yield Answer("length", "too short", _head(b"Content-Length: 1") + b"ok" + EVIL)
    yield Answer("split", "in a header's value", _head(LENGTH, b"Location: /\r\n\r\n" + EVIL) + b"ok")
    yield Answer("split", "by LF", _head(LENGTH, b"Location: /\n\n" + EVIL) + b"ok")
    for name, line in {"empty": b": y", "blank": b" : y", "colon": b":", "no colon": b"xyz"}.items():
        yield Answer("name", name, _head(LENGTH, line) + b"ok" + EVIL)
