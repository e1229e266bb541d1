"""The port of the inspector: on loopback, for who has the key, and for no page of anybody else."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import pytest
from twisted.internet.defer import Deferred

from pico_twisted.config.values import Address
from pico_twisted.core.inspect.recording import Recordings
from pico_twisted.core.inspect.replay import Edits
from pico_twisted.net.admin.answers import Rendered
from pico_twisted.net.admin.inspect import open_inspector
from pico_twisted.net.admin.inspect.app import POLICY, InspectorApp
from pico_twisted.net.admin.site import AdminRequest
from tests.core.inspect.recorded import recorded
from tests.net.admin.inspect.inspected import KEY, Inspected
from tests.net.in_reactor import finish, in_reactor, reactor, until


@pytest.fixture
def inspected() -> Iterator[Inspected]:
    """One that is open."""
    one = Inspected()
    yield one
    finish(one.port.close())


@in_reactor
async def test_the_page_is_there_for_its_link(inspected: Inspected) -> None:
    """The page and its files hold nothing that passed, need no key, and allow no script but their own."""
    for path, kind in (("/", "text/html"), ("/inspect.css", "text/css"), ("/inspect.js", "text/javascript")):
        answer = await inspected.ask(path, fields={"Authorization": ""})
        assert answer.status == 200 and answer.fields["content-type"].startswith(kind)
        assert answer.fields["content-security-policy"] == POLICY.decode()
        assert answer.fields["x-content-type-options"] == "nosniff"
        assert answer.fields["cross-origin-resource-policy"] == "same-origin"
        assert "access-control-allow-origin" not in answer.fields
    assert "unsafe" not in POLICY.decode()
    assert inspected.port.url == f"http://127.0.0.1:{inspected.port.address.port}/#key={KEY}"


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"Authorization": ""}, 401),
        ({"Authorization": "Bearer"}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Authorization": f"Basic {KEY}"}, 401),
        ({"Authorization": "", "Cookie": f"key={KEY}"}, 401),
        ({"Host": "evil.example"}, 421),
        ({"Host": "127.0.0.1.evil.example"}, 421),
        ({"Host": "10.0.0.1:4040"}, 421),
        ({"Host": "localhost.evil.example:4040"}, 421),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
    ],
)
@in_reactor
async def test_who_gets_nothing(inspected: Inspected, fields: dict[str, str], status: int) -> None:
    """Without the key, under a name that is not of this machine, or from another page nobody reads or changes a
    thing, though all else is right."""
    recorded(into=inspected.recordings)
    asked = [("/api/requests", "GET"), ("/api/requests/1", "GET"), ("/api/har", "GET"), ("/api/live", "GET")]
    for path, method in (*asked, ("/api/requests/1/replay", "POST"), ("/api/requests", "DELETE")):
        answer = await inspected.ask(path, method, fields)
        assert answer.status == status and b"shop" not in answer.body
    assert len(inspected.recordings) == 1 and not inspected.replayed


@pytest.mark.parametrize("host", ["localhost", "localhost:4040", "127.0.0.1", "127.9.9.9:1", "[::1]:4040", "LOCALHOST"])
@in_reactor
async def test_names_of_this_machine(inspected: Inspected, host: str) -> None:
    """It is asked by any of them."""
    assert (await inspected.ask("/api/requests", fields={"Host": host})).status == 200


@in_reactor
async def test_its_own_page_may_ask(inspected: Inspected) -> None:
    """What browsers say of requests of the page itself is let through."""
    origin = f"http://127.0.0.1:{inspected.port.address.port}"
    answer = await inspected.ask("/api/requests", "DELETE", {"Origin": origin, "Sec-Fetch-Site": "same-origin"})
    assert answer.status == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "", "10.0.0.1", "example.com", "::"])
def test_no_other_address(host: str) -> None:
    """What passes is shown on no address that another machine reaches."""
    with pytest.raises(ValueError, match="loopback alone"):
        open_inspector(reactor, Recordings(), None, version="1", address=Address(host, 0))  # type: ignore[arg-type]


@in_reactor
async def test_the_next_free_port() -> None:
    """A port that is taken is no trouble, and each start has a key of its own."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = Address("localhost", taken.getsockname()[1])
        first, second = (
            open_inspector(reactor, Recordings(), None, version="1", address=address)  # type: ignore[arg-type]
            for _ in range(2)
        )
        assert taken.getsockname()[1] < first.address.port < second.address.port
        assert first.key != second.key and len(first.key) >= 40
        await first.close()
        await second.close()


@in_reactor
async def test_the_list_and_one_of_it(inspected: Inspected) -> None:
    """The newest first, as a filter says, and all of one by its ID."""
    recorded(b"GET /one HTTP/1.1", into=inspected.recordings)
    recorded(
        b"POST /two?token=SECRET HTTP/1.1",
        b"Content-Type: application/json\r\nContent-Length: 7\r\n",
        b'{"a":1}',
        answer=b"HTTP/1.1 500 Oops\r\n\r\n",
        into=inspected.recordings,
    )
    listed = (await inspected.ask("/api/requests")).json
    assert [(one["id"], one["method"], one["status"]) for one in listed] == [(2, "POST", 500), (1, "GET", 200)]
    assert [one["id"] for one in (await inspected.ask("/api/requests?filter=status:5xx")).json] == [2]
    refused = await inspected.ask("/api/requests?filter=status:no")
    assert refused.status == 400 and "takes 404, 4xx" in refused.error
    told = (await inspected.ask("/api/requests/2")).json
    assert told["request"]["body"] == {
        "bytes": 7, "kept": 7, "cut": False, "type": "application/json", "coding": "", "text": '{"a":1}'
    }  # fmt: skip
    assert told["response"]["status"] == 500 and told["target"] == "/two?token=(hidden)" and told["target_hidden"]
    shown = await inspected.ask("/api/requests/2/revealed?part=target&field=0")
    assert shown.json == {"value": "/two?token=SECRET"}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/requests/7", 404),
        ("GET", "/api/requests/x", 404),
        ("GET", "/api/requests/1/nothing", 404),
        ("GET", "/api/requests/1/revealed?part=request&field=99", 404),
        ("GET", "/api/requests/1/revealed", 404),
        ("GET", "/api/nothing", 404),
        ("GET", "/nothing", 404),
        ("GET", "/..%2finspect.js", 404),
        ("GET", "/page", 404),
        ("GET", "/%ff", 400),
        ("POST", "/api/requests", 405),
        ("POST", "/api/requests/1", 405),
        ("GET", "/api/requests/1/replay", 405),
        ("PUT", "/", 405),
    ],
)
@in_reactor
async def test_what_is_not_there(inspected: Inspected, method: str, path: str, status: int) -> None:
    """Each has an answer in words."""
    recorded(into=inspected.recordings)
    answer = await inspected.ask(path, method)
    assert answer.status == status and answer.error


@in_reactor
async def test_replays(inspected: Inspected) -> None:
    """A request is sent again as it was, or as the body says, and the answer tells which one that is."""
    recorded(into=inspected.recordings)
    answer = await inspected.ask("/api/requests/1/replay", "POST")
    assert answer.status == 202 and answer.json["id"] == 2 and answer.json["replay_of"] == 1
    edits = {"method": "PUT", "target": "/x", "fields": [["A", "b"]], "body": "é"}
    await inspected.ask("/api/requests/1/replay", "POST", body=json.dumps(edits))
    await inspected.ask("/api/requests/1/replay", "POST", body='{"body_base64": "AP8="}')
    sent = [edits for _, edits in inspected.replayed]
    assert sent[0] == Edits()
    assert (sent[1].method, sent[1].target, sent[1].fields, sent[1].body) == ("PUT", "/x", [("A", "b")], "é".encode())
    assert sent[2].body == b"\0\xff"
    inspected.refuses = "only the beginning of its body is kept"
    answer = await inspected.ask("/api/requests/1/replay", "POST")
    assert answer.status == 409 and answer.error == inspected.refuses


@pytest.mark.parametrize(
    "body",
    [
        "{", "[]", '"x"', '{"colour": 1}', '{"method": 1}', '{"fields": {}}', '{"fields": [["a"]]}', "[" * 100_000,
        '{"fields": [["a", 1]]}', '{"body_base64": "?"}', '{"body": "\\ud800"}', "\xff", '{"body_base64": "é"}',
    ],
)  # fmt: skip
@in_reactor
async def test_nonsense_is_not_replayed(inspected: Inspected, body: str) -> None:
    """What is wrong with a body is told, and nothing is sent."""
    recorded(into=inspected.recordings)
    answer = await inspected.ask("/api/requests/1/replay", "POST", body=body.encode("utf-8"))
    assert answer.status == 400 and answer.error and not inspected.replayed


@in_reactor
async def test_a_large_edit_is_refused(inspected: Inspected) -> None:
    """A body that no page sends is not kept."""
    recorded(into=inspected.recordings)
    answer = await inspected.ask("/api/requests/1/replay", "POST", body=b" " * (2 * 1024 * 1024 + 1))
    assert answer.status == 413 and not inspected.replayed


@in_reactor
async def test_a_large_body_is_kept_for_the_key_alone(inspected: Inspected) -> None:
    """Whoever only knows the port fills no memory: of their bodies little is kept. Those with the key may send a large
    one."""
    kept: list[int] = []
    render = InspectorApp.render

    class Counting(InspectorApp):
        def render(self, request: AdminRequest) -> Rendered:
            kept.append(len(request.content.getvalue()))
            return render(self, request)

    inspected.port._app.__class__ = Counting
    recorded(into=inspected.recordings)
    large = json.dumps({"body": "x" * 1_000_000})
    answer = await inspected.ask("/api/requests/1/replay", "POST", {"Authorization": "Bearer wrong"}, large)
    assert answer.status == 401
    answer = await inspected.ask("/api/requests/1/replay", "POST", body=large)
    assert answer.status == 202
    assert kept[0] <= 64 * 1024 and kept[1] == len(large)


@in_reactor
async def test_the_list_as_it_goes_on(inspected: Inspected) -> None:
    """Who listens is told of what is there, of what comes, and when all is forgotten; and leaves nothing behind."""
    recorded(b"GET /one HTTP/1.1", into=inspected.recordings)
    got = bytearray()
    ended: Deferred[None] = Deferred()
    reactor.connectTCP("127.0.0.1", inspected.port.address.port, _Listener(got, ended))
    await until(lambda: b"/one" in got)
    recorded(b"GET /two HTTP/1.1", answer=b"HTTP/1.1 500 No\r\n\r\n", into=inspected.recordings)
    await until(lambda: b"/two" in got)
    inspected.recordings.clear()
    await until(lambda: b"event: cleared" in got)
    assert b"text/event-stream" in got and got.count(b"/one") == 1
    await inspected.port.close()
    await ended
    assert not inspected.recordings._watchers


def _Listener(got: bytearray, ended: Deferred[None]) -> object:
    from twisted.internet.protocol import ClientFactory, Protocol

    class Listening(Protocol):
        def connectionMade(self) -> None:
            assert self.transport is not None
            head = f"GET /api/live HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n\r\n"
            self.transport.write(head.encode())

        def dataReceived(self, data: bytes) -> None:
            got.extend(data)
            if got.endswith(b"0\r\n\r\n"):  # the answer has ended
                assert self.transport is not None
                self.transport.loseConnection()

        def connectionLost(self, reason: object = None) -> None:
            ended.callback(None)

    factory = ClientFactory.forProtocol(Listening)
    factory.noisy = False
    return factory
