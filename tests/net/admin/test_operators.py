"""Who may have a process change something at the admin port, and what they read when they may not."""

from __future__ import annotations

import json

import pytest
from twisted.internet.address import UNIXAddress

from pico_twisted.net.admin.operators import address_of, refusal
from pico_twisted.net.admin.shapes.paths import OPERATOR, RELOAD_PATH
from pico_twisted.net.admin.shapes.reading import read
from pico_twisted.net.admin.shapes.reload import Reloaded
from pico_twisted.net.socket.unix import UnixPeer
from tests.net.admin.admin_fakes import Serve, agent_app
from tests.net.in_reactor import in_reactor

ASKING = {OPERATOR: "me", "host": "localhost:8001"}


class Request:
    """A request as `refusal` looks at it."""

    def __init__(self, fields: dict[str, str], peer: object, own: str, *, secure: bool = False) -> None:
        self.fields = fields
        self.peer = peer
        self.own = own
        self.secure = secure

    def getHeader(self, name: str | bytes) -> str | None:
        return self.fields.get(name if isinstance(name, str) else name.decode())

    def getClientAddress(self) -> object:
        return self.peer

    def getHost(self) -> object:
        return address(self.own)

    def isSecure(self) -> bool:
        return self.secure


def address(ip: str) -> object:
    from twisted.internet.address import IPv4Address, IPv6Address

    return IPv6Address("TCP", ip, 8001) if ":" in ip else IPv4Address("TCP", ip, 8001)


def test_whoever_may_use_the_socket_of_the_port() -> None:
    """The permissions of its file say who that is; what comes through a proxy there is somebody else's."""
    request = Request(ASKING, UnixPeer(), "127.0.0.1")
    request.getHost = lambda: UNIXAddress("/run/a")  # type: ignore[method-assign]
    assert address_of(request) == "unix"  # type: ignore[arg-type]  # all that is looked at
    assert refusal(request) == ""  # type: ignore[arg-type]  # likewise
    request.fields = {**ASKING, "x-forwarded-for": "203.0.113.9"}
    assert "through a proxy" in refusal(request)  # type: ignore[arg-type]  # likewise


def refused(fields: dict[str, str], peer: str = "127.0.0.1", own: str = "127.0.0.1", *, secure: bool = False) -> str:
    return refusal(Request(fields, address(peer), own, secure=secure))  # type: ignore[arg-type]  # all that is looked at


@pytest.mark.parametrize(
    ("peer", "own", "host"),
    [
        ("127.0.0.1", "127.0.0.1", "localhost:8001"),
        ("127.0.0.2", "127.0.0.1", "127.0.0.1"),
        ("::1", "::1", "[::1]:8001"),
        ("::ffff:127.0.0.1", "::ffff:127.0.0.1", "localhost"),
        ("10.0.0.1", "10.0.0.1", "10.0.0.1:8001"),
        ("::ffff:10.0.0.1", "::ffff:10.0.0.1", "10.0.0.1:8001"),
    ],
)
def test_the_machine_itself_may(peer: str, own: str, host: str) -> None:
    """Through a loopback address, or through the address that the port is bound to."""
    assert refused({**ASKING, "host": host}, peer, own) == ""


@pytest.mark.parametrize("peer", ["10.0.0.2", "::ffff:10.0.0.2", "2001:db8::1", "128.0.0.1"])
def test_another_machine_may_not(peer: str) -> None:
    """Whatever it says."""
    assert "only this machine" in refused(ASKING, peer, "10.0.0.1")


@pytest.mark.parametrize("field", ["origin", "referer", "sec-fetch-site", "sec-fetch-mode"])
def test_a_page_may_not(field: str) -> None:
    """A browser says where a request comes from, and a page cannot take that out."""
    assert "browser" in refused({**ASKING, field: "http://localhost:8001"})


def test_a_form_or_a_simple_script_may_not() -> None:
    """Neither can send the field without a question that is never answered."""
    assert OPERATOR in refused({"host": "localhost"})
    assert OPERATOR in refused({"host": "localhost", OPERATOR: ""})


@pytest.mark.parametrize("field", ["forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip"])
def test_what_a_proxy_passes_on_may_not(field: str) -> None:
    """A proxy on this machine has our address, and its clients have not."""
    assert "proxy" in refused({**ASKING, field: "x"})


@in_reactor
async def test_the_route(serve: Serve) -> None:
    """A POST is answered with the verdict; a fault is 422, a refusal 403 and nothing is read, any other method 405."""
    asked: list[str] = []
    verdicts = [Reloaded(changed=("log.level info -> debug",)), Reloaded(faults=("one", "two"))]

    def reload(operator: str) -> Reloaded:
        asked.append(operator)
        return verdicts[len(asked) - 1]

    served = serve(agent_app(reload=reload))
    for expected, verdict in zip((200, 422), verdicts, strict=True):
        code, _, body = await served.ask(RELOAD_PATH, method="POST", headers={OPERATOR: "me"})
        assert (code, read(json.loads(body), Reloaded)) == (expected, verdict)
    assert json.loads(body)["error"] == "one; two"
    code, _, body = await served.ask(RELOAD_PATH, method="POST", headers={OPERATOR: "me", "origin": "null"})
    assert code == 403 and "other origins" in json.loads(body)["error"]
    for method in ("GET", "OPTIONS", "PUT"):
        code, headers, _ = await served.ask(RELOAD_PATH, method=method, headers={OPERATOR: "me"})
        assert (code, headers["allow"]) == (405, "POST")
        assert not any(name.startswith("access-control") for name in headers)
    assert asked == ["me", "me"]


@in_reactor
@pytest.mark.parametrize("method", ["post", "Post", "get"])
@pytest.mark.parametrize("field", ["", "Origin: http://evil.example", "Via: 1.1 proxy", "X-Pico-Operator: me"])
async def test_methods_compare_with_case(method: str, field: str, serve: Serve) -> None:
    """A method in small letters is none of ours: it changes nothing, and goes past nothing that is asked of a POST."""
    asked: list[str] = []

    def reload(operator: str) -> Reloaded:
        asked.append(operator)
        return Reloaded()

    served = serve(agent_app(reload=reload))
    lines = (f"{method} {RELOAD_PATH} HTTP/1.1", "Host: localhost", "Connection: close", *filter(None, [field]), "", "")
    told = await served.say("\r\n".join(lines).encode())
    assert told[9:12] in (b"403", b"501") and asked == []
