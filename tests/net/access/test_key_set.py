"""A JWK set at an https URL: which keys count, whatever becomes of its server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.logger import ILogObserver, LogEvent, LogLevel, globalLogPublisher
from zope.interface import implementer

from pico_twisted.config import AuthConfig, JwtConfig, NodeConfig, UpstreamConfig
from pico_twisted.core.access.subject import Refused, Subject
from pico_twisted.net.access import key_set as of_url
from pico_twisted.net.access.access import Access
from pico_twisted.net.access.interfaces import Credential
from pico_twisted.net.access.key_set import KeySet
from pico_twisted.net.observe.metrics import Metrics
from pico_twisted.net.proxy.entrance import IDENTIFY_S
from pico_twisted.net.tunnel import HANDSHAKE_TIMEOUT_S
from tests.doubles.issuer import Issuer, answer
from tests.doubles.jwt import NOW, jwk, key_set, private_key, public_pem, signed
from tests.net.in_reactor import finish, in_reactor, reactor, until
from tools.stage.certificates import Made, make

GOOD = answer(key_set(jwk("rsa")))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits of a fraction of a second."""
    monkeypatch.setattr(of_url, "AGAIN_S", 0.05)
    monkeypatch.setattr(of_url, "FIRST_AGAIN_S", 0.02)
    monkeypatch.setattr(of_url, "REFRESH_S", 0.1)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Of the server; whoever trusts it trusts the server."""
    return make(tmp_path_factory.mktemp("issuer"), "issuer", names=("localhost",))


@pytest.fixture
def issuer(certificate: Made) -> Iterator[Issuer]:
    """Somebody who publishes one RSA key."""
    made = Issuer(certificate, GOOD)
    yield made
    finish(made.stop())


@pytest.fixture
def events() -> Iterator[list[LogEvent]]:
    """What is logged as trouble."""
    found: list[LogEvent] = []

    @implementer(ILogObserver)
    def observer(event: LogEvent) -> None:
        if event["log_level"] is LogLevel.warn:
            found.append(event)

    globalLogPublisher.addObserver(observer)
    yield found
    globalLogPublisher.removeObserver(observer)


class Node:
    """What a node has whose upstream port takes the issuer's JWTs."""

    def __init__(self, issuer: Issuer, ca: str, **more: Any) -> None:
        self.shown = 0
        self.metrics = Metrics("node")
        self.config = self.configured(issuer.url, ca, **more)
        self.access = Access(self.config, reactor, metrics=self.metrics, wall=lambda: NOW, run_in_thread=deferToThread)
        self.access.prepare(self.config)()

    @staticmethod
    def configured(url: str, ca: str, **more: Any) -> NodeConfig:
        return NodeConfig(upstream=UpstreamConfig(auth=AuthConfig(jwt=JwtConfig(jwks=url, jwks_ca=ca, **more))))

    @property
    def key_set(self) -> KeySet:
        found = self.access.upstream.at_url
        assert found is not None
        return found

    async def show(self, key: str, kid: str | None = None) -> str:
        """The name in a new token of a key, or why it is refused."""
        self.shown += 1
        token = signed({"sub": key, "jti": str(self.shown)}, private_key(key), kid=kid or key)
        found = await self.access.upstream.identify(Credential(bearer=token))
        assert isinstance(found, Subject | Refused)
        return found.reason.value if isinstance(found, Refused) else found.name


@pytest.fixture
def node(issuer: Issuer, certificate: Made) -> Iterator[Node]:
    """A node that has not asked yet."""
    made = Node(issuer, certificate.cert_file)
    yield made
    made.access.stop()


@in_reactor
async def test_the_first_token_waits_for_the_keys(node: Node, issuer: Issuer) -> None:
    """Later ones wait for nothing, and nobody asks again for a name that was just asked for."""
    assert await node.show("rsa") == "rsa"
    assert [await node.show("rsa-2") for _ in range(5)] == ["unknown"] * 5
    assert await node.show("rsa-2", kid="rsa") == "signature"
    assert issuer.asked == 1
    exposition = node.metrics.exposition().decode()
    assert 'pico_auth_jwks_failures_total{port="upstream"} 0.0' in exposition
    assert 'pico_auth_jwks_age_seconds{port="upstream"}' in exposition


@pytest.mark.usefixtures("quick")
@in_reactor
async def test_keys_come_and_go_with_the_set(node: Node, issuer: Issuer) -> None:
    """A new one counts when a token names it, and one that was taken out ends by itself."""
    assert await node.show("rsa") == "rsa"
    token = Credential(bearer=signed({"sub": "rsa"}, kid="rsa"))
    assert isinstance(await node.access.upstream.identify(token), Subject)
    assert isinstance(node.access.upstream.known(token), Subject)
    issuer.answer = answer(key_set(jwk("rsa-2")))
    await until(lambda: node.key_set.has("rsa-2"))
    assert await node.show("rsa-2") == "rsa-2"
    assert node.access.upstream.known(token) is None
    assert await node.show("rsa") == "unknown"


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (None, "no whole answer within 0.3 s"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{", "no whole answer within 0.3 s"),
        (b"\x00\xff garbage\r\n\r\n", "not HTTP"),
        (answer(b"<html>"), "is no JSON"),
        (answer(b"[" * 100_000), "is no JSON"),
        (answer(b"[]"), "is no JWK set"),
        (answer(key_set()), "has no key that can be used"),
        (answer(key_set(jwk("rsa"), {"kty": "RSA"}).replace(b"kid", b"kty")), "is no JSON that can be read in one way"),
        (answer(b" " * (of_url.MAX_SET_BYTES + 1)), "longer than 256 KiB"),
        (answer(b"", "302 Found", "Location: https://localhost:{other}/keys.json\r\n"), "status 302"),
        (answer(key_set(jwk("rsa-2")), "500 Oops"), "status 500"),
    ],
)  # fmt: skip
@in_reactor
async def test_the_last_good_set_counts_whatever_the_server_answers(
    bad: bytes | None,
    why: str,
    node: Node,
    issuer: Issuer,
    certificate: Made,
    events: list[LogEvent],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Known tokens and new ones of known keys; and when it is well again, what it says then."""
    other = Issuer(certificate, answer(key_set(jwk("rsa-2"))))
    try:
        assert await node.show("rsa") == "rsa"
        port = other.url.rpartition(":")[2].partition("/")[0].encode()
        issuer.answer = bad if bad is None else bad.replace(b"{other}", port)
        with monkeypatch.context() as patched:
            if "no whole answer" in why:
                patched.setattr(of_url, "FETCH_S", 0.3)
            await until(lambda: [event for event in events if why in str(event.get("reason"))])
            for _ in range(2):
                assert await node.show("rsa") == "rsa" and await node.show("rsa-2") == "unknown"
        assert other.asked == 0
        issuer.answer = answer(key_set(jwk("rsa"), jwk("rsa-2")))
        await until(lambda: node.key_set.has("rsa-2"))
        assert await node.show("rsa-2") == "rsa-2" and await node.show("rsa") == "rsa"
    finally:
        await other.stop()


@pytest.mark.usefixtures("quick")
@in_reactor
async def test_keys_in_another_order_and_more_of_them_change_nobody(node: Node, issuer: Issuer) -> None:
    """Only when a key is gone everybody is looked at again, who may be thousands at once; new keys count at once."""
    gate, token = node.access.upstream, Credential(bearer=signed({"sub": "ci"}, kid="rsa"))
    assert isinstance(await gate.identify(token), Subject)
    epoch = gate.epoch
    for names in (("rsa", "rsa-2"), ("rsa-2", "rsa"), ("rsa-2", "rsa", "rsa-3")):
        refused = await node.show("rsa-3", kid="rsa")
        issuer.answer, asked = answer(key_set(*map(jwk, names))), issuer.asked
        await until(lambda asked=asked: issuer.asked > asked + 1)  # type: ignore[misc]
        assert isinstance(gate.known(token), Subject) and gate.epoch is epoch and refused == "signature"
    assert await node.show("rsa-3") == "rsa-3"
    issuer.answer = answer(key_set(jwk("rsa-2"), jwk("rsa-3")))
    await until(lambda: gate.epoch is not epoch)
    assert gate.known(token) is None


@in_reactor
async def test_a_server_that_hangs_holds_nobody_for_long(node: Node, issuer: Issuer, monkeypatch: Any) -> None:
    """Where there was a good set, that counts after a moment: the token may be for a service behind this node."""
    monkeypatch.setattr(of_url, "PATIENCE_S", 0.1, raising=False)
    assert await node.show("rsa") == "rsa"
    issuer.answer = None
    node.key_set.start()
    await deferLater(reactor, 0.1)
    assert await node.show("rsa-2") == "unknown" and node.key_set.failures == 0


def test_who_waits_for_the_keys_hears_of_it() -> None:
    """A server that hangs is given up before those who wait are: they are told that the keys are away."""
    assert min(HANDSHAKE_TIMEOUT_S, IDENTIFY_S) > of_url.FETCH_S


@pytest.mark.parametrize("kid", [None, "unheard"])
@in_reactor
async def test_who_has_a_key_that_is_here_waits_for_no_server(
    kid: str | None, issuer: Issuer, certificate: Made, tmp_path: Path
) -> None:
    """Neither with one of a file nor, unnamed, with the one of the last set. Who has another one waits for the set."""
    issuer.answer = None
    (tmp_path / "key.pem").write_bytes(public_pem("rsa-2"))
    node = Node(issuer, certificate.cert_file, keys=(str(tmp_path / "key.pem"),))

    async def show(key: str, kid: str | None, sub: str) -> None:
        token = signed({"sub": sub}, private_key(key), **({} if kid is None else {"kid": kid}))
        assert isinstance(await node.access.upstream.identify(Credential(bearer=token)), Subject)

    try:
        await until(lambda: issuer.asked)
        await show("rsa-2", kid, "first")
        assert node.key_set.read_at is None and node.key_set.failures == 0, "the server has not answered yet"
        other = Deferred.fromCoroutine(show("rsa", "rsa", "other"))
        issuer.answer = GOOD
        node.key_set.start()
        await other
        issuer.answer = None
        node.key_set.start()
        await until(lambda: issuer.asked == 3)
        await show("rsa", None, "unnamed")
        await show("rsa-2", kid, "second")
        assert node.key_set.failures == 0
    finally:
        node.access.stop()


@pytest.mark.usefixtures("quick")
@in_reactor
async def test_a_server_that_is_away_at_the_start_is_asked_until_it_is_there(issuer: Issuer, certificate: Made) -> None:
    """Until then nobody is known, and is told that it is not their fault."""
    await issuer.stop()
    node = Node(issuer, certificate.cert_file)
    try:
        assert await node.show("rsa") == "keys-away"
        issuer.start()
        await until(lambda: node.key_set.has("rsa"))
        assert await node.show("rsa") == "rsa"
        await issuer.stop()
        failures = node.key_set.failures
        await until(lambda: node.key_set.failures > failures)
        assert await node.show("rsa") == "rsa"
    finally:
        node.access.stop()
        issuer.start()


@pytest.mark.usefixtures("quick")
@in_reactor
async def test_a_server_that_cannot_prove_its_name_is_not_believed(
    issuer: Issuer, certificate: Made, tmp_path: Path
) -> None:
    """Its certificate is of somebody else, or for another name."""
    stranger = make(tmp_path, "stranger")
    for ca, url in (
        (stranger.cert_file, issuer.url),
        (certificate.cert_file, issuer.url.replace("localhost", "127.0.0.1")),
    ):
        node = Node(issuer, certificate.cert_file)
        node.access.prepare(Node.configured(url, ca))()
        try:
            assert await node.show("rsa") == "keys-away"
        finally:
            node.access.stop()


@in_reactor
async def test_a_reload_keeps_the_keys_of_a_url_that_stays(node: Node, issuer: Issuer, certificate: Made) -> None:
    """Its server may be away at that moment. Another URL begins without any."""
    assert await node.show("rsa") == "rsa"
    await issuer.stop()
    before = node.key_set
    other = Node.configured(issuer.url, certificate.cert_file, audience="pico")
    assert list(node.access.prepare(other)()) == ["who may use upstream"]
    assert node.key_set is before and await node.show("rsa") == "audience"
    assert list(node.access.prepare(NodeConfig())()) == []  # to open the port takes a restart
    assert node.key_set is before and before.keys
    node.access.prepare(Node.configured(issuer.url + "?2", certificate.cert_file))()
    assert node.key_set is not before and await node.show("rsa") == "keys-away"
    issuer.start()


@in_reactor
async def test_few_tokens_wait_for_keys_and_known_keys_for_none(
    node: Node, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow server does not gather whoever names a key that nobody has."""
    monkeypatch.setattr(of_url, "MOST_WAITING", 10)
    assert await node.show("rsa") == "rsa"
    monkeypatch.setattr(of_url, "AGAIN_S", 0.0)
    issuer.answer = None
    found: list[str] = []

    def note(answer: Subject | Refused) -> None:
        assert isinstance(answer, Refused)
        found.append(answer.reason.value)

    for number in range(30):
        token = signed({"sub": "x"}, kid=f"evil-{number}")
        node.access.upstream.identify(Credential(bearer=token)).addCallback(note)
    assert found == ["busy"] * 20
    assert await node.show("rsa") == "rsa"
    node.access.stop()
    assert found == ["busy"] * 20 + ["unknown"] * 10


@in_reactor
async def test_a_reload_asks_at_once(node: Node, issuer: Issuer) -> None:
    """Whatever is awaited at that moment, and however short a time ago it was asked for."""
    assert await node.show("rsa") == "rsa"
    issuer.answer = None
    node.access.prepare(node.config)()
    await until(lambda: issuer.asked == 2)
    issuer.answer = answer(key_set(jwk("rsa"), jwk("rsa-2")))
    node.access.prepare(node.config)()
    assert await node.show("rsa-2") == "rsa-2"
    issuer.answer = answer(key_set(jwk("rsa")))
    node.access.prepare(node.config)()
    await until(lambda: not node.key_set.has("rsa-2"))
