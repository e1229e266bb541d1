"""JWTs at a gate: checked beside the reactor, known when they come again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import Clock

from pico_twisted.config import AuthConfig, ConfigFaults, JwtConfig, NodeConfig, UpstreamConfig
from pico_twisted.core.access.rules import Action, Rule
from pico_twisted.core.access.subject import Reason, Refused, Subject
from pico_twisted.net.access import jwts, signature_checks
from pico_twisted.net.access.access import Access
from pico_twisted.net.access.gate import Gate
from pico_twisted.net.access.interfaces import Credential
from pico_twisted.net.access.signature_checks import SignatureChecks
from pico_twisted.net.observe.metrics import Metrics
from tests.conftest import LoggedFailures
from tests.doubles.jwt import NOW, SECRET, bad_tokens, jwk, key_set, part, private_key, public_pem, signed


class Threads:
    """Stands in for a pool of threads.

    Attributes:
        begun: how much was given to it.
        waiting: what it has not done yet, when it is held.
    """

    def __init__(self, held: bool = False) -> None:
        self.begun = 0
        self.held = held
        self.waiting: list[tuple[Callable[[], object], Deferred[object]]] = []

    def __call__(self, work: Callable[[], object]) -> Deferred[object]:
        self.begun += 1
        if not self.held:
            return succeed(work())
        done: Deferred[object] = Deferred()
        self.waiting.append((work, done))
        return done

    def finish(self) -> None:
        """Do what was begun by now."""
        waiting, self.waiting = self.waiting, []
        for work, done in waiting:
            done.callback(work())


class Fixture:
    """A gate of the upstream port that takes JWTs of one RSA key."""

    def __init__(self, folder: Path, held: bool = False) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)
        self.threads = Threads(held)
        self.file = folder / "key.pem"
        self.file.write_bytes(public_pem())
        self.jwt = JwtConfig(keys=(str(self.file),), leeway=0.0)
        self.access = Access(
            self.config(), self.clock, metrics=Metrics("node"), wall=self.clock.seconds, run_in_thread=self.threads
        )
        self.access.prepare(self.config())()

    def config(self) -> NodeConfig:
        return NodeConfig(upstream=UpstreamConfig(auth=AuthConfig(jwt=self.jwt)))

    @property
    def gate(self) -> Gate:
        return self.access.upstream

    def show(self, token: bytes, address: str = "192.0.2.1") -> list[Subject | Refused]:
        """Show a token; the list gets the answer."""
        answers: list[Subject | Refused] = []
        self.gate.identify(Credential(bearer=token, address=address)).addCallback(answers.append)
        return answers


def bad(number: int) -> bytes:
    """A token with a wrong signature, another one for each number."""
    return part({"alg": "RS256"}) + b"." + part({"n": number}) + b"." + part(bytes(256))


def reasons(answers: list[Subject | Refused]) -> list[str]:
    return [answer.reason.value if isinstance(answer, Refused) else answer.name for answer in answers]


def test_a_token_is_checked_once_and_then_known_until_it_expires(tmp_path: Path) -> None:
    """Also a bad one for some time; what is no JWT is unknown without a check."""
    fixture = Fixture(tmp_path)
    gate, clock = fixture.gate, fixture.clock
    token = signed({"sub": "ci", "exp": NOW + 60, "pico": {"rules": ["listen:a"]}})
    assert gate.known(Credential(bearer=token)) is None
    assert reasons(fixture.show(token) + fixture.show(token)) == ["ci", "ci"]
    subject = gate.known(Credential(bearer=token))
    assert isinstance(subject, Subject) and isinstance(gate.check(subject, Action.LISTEN, "a"), Rule)
    assert reasons(fixture.show(bad(1)) + fixture.show(bad(1))) == ["signature", "signature"]
    assert fixture.threads.begun == 2
    clock.advance(jwts.REFUSED_S)
    fixture.show(bad(1))
    assert fixture.threads.begun == 3
    assert reasons(fixture.show(b"pico_something")) == ["unknown"] and fixture.threads.begun == 3
    clock.advance(50)
    refused = gate.check(subject, Action.LISTEN, "a")
    assert isinstance(refused, Refused) and refused.reason is Reason.EXPIRED


def test_all_who_show_one_token_at_once_wait_for_one_check(tmp_path: Path) -> None:
    """An agent with many listeners comes back after a restart of the node."""
    fixture = Fixture(tmp_path, held=True)
    answers = [fixture.show(signed({"sub": "ci"})) for _ in range(200)]
    assert fixture.threads.begun == 1 and answers == [[]] * 200
    fixture.threads.finish()
    assert [reasons(answer) for answer in answers] == [["ci"]] * 200


@pytest.mark.parametrize("address", ["192.0.2.1", "192.0.2.1:{}", "2001:db8::{:x}", "[2001:db8::1]:{}"])
def test_a_flood_of_bad_tokens_waits_behind_itself(address: str, tmp_path: Path) -> None:
    """Few are checked at a time, few of one address wait, whatever its ports are, and another one is next."""
    fixture = Fixture(tmp_path, held=True)
    flood = [fixture.show(bad(number), address.format(number)) for number in range(1000)]
    assert fixture.threads.begun == signature_checks.AT_ONCE
    told = signature_checks.AT_ONCE + signature_checks.MOST_WAITING
    assert all(reasons(answers) == ["busy"] for answers in flood[told:])
    honest = fixture.show(signed({"sub": "ci"}), "192.0.2.2")
    fixture.threads.finish()
    fixture.threads.finish()
    assert reasons(honest) == ["ci"]
    assert sum(map(len, flood[:told])) <= 2 * signature_checks.AT_ONCE
    while fixture.threads.waiting:
        fixture.threads.finish()
    assert all(reasons(answers) == ["signature"] for answers in flood[:told])
    assert isinstance(fixture.gate.known(Credential(bearer=signed({"sub": "ci"}))), Subject)


def test_a_flood_from_many_addresses_is_bounded() -> None:
    """Each waits in a line of its own; there is a bound for all lines together."""
    threads = Threads(held=True)
    checks = SignatureChecks(threads)
    waiting = [checks.check(f"10.0.{number // 250}.{number % 250}", lambda: None) for number in range(5000)]
    told = signature_checks.AT_ONCE + signature_checks.MOST_IN_ALL
    assert [one.called for one in waiting] == [False] * told + [True] * (5000 - told)
    while threads.waiting:
        threads.finish()
    assert threads.begun == told and all(one.called for one in waiting)


def test_the_longest_line_makes_room_for_another_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """When too many wait in all, those who wait behind many of their own are told so first, the last before."""
    monkeypatch.setattr(signature_checks, "MOST_IN_ALL", 10)
    threads = Threads(held=True)
    checks = SignatureChecks(threads)
    flood = [checks.check("192.0.2.1", lambda: "bad") for _ in range(12)]
    honest = [checks.check(f"192.0.2.{number}", lambda: "good") for number in range(2, 12)]
    assert [one.called for one in honest] == [False] * 9 + [True]
    assert [one.called for one in flood] == [False] * 3 + [True] * 9
    while threads.waiting:
        threads.finish()
    assert [one.result for one in honest] == ["good"] * 9 + [None]


def test_a_check_that_fails_is_a_refusal_and_the_next_one_begins(
    tmp_path: Path, logged_failures: LoggedFailures
) -> None:
    """A mistake of ours costs that answer only."""
    fixture = Fixture(tmp_path, held=True)
    answers = fixture.show(signed({"sub": "ci"}))
    ((_, done),) = fixture.threads.waiting
    fixture.threads.waiting.clear()
    done.errback(RuntimeError("a bug"))
    assert reasons(answers) == ["busy"] and len(logged_failures.flush(RuntimeError)) == 1
    again = fixture.show(signed({"sub": "ci"}))
    fixture.threads.finish()
    assert reasons(again) == ["ci"]


def test_whoever_leaves_meanwhile_is_not_answered_and_others_are(tmp_path: Path) -> None:
    """A peer that is gone cancels its question; others have the same one."""
    fixture = Fixture(tmp_path, held=True)
    credential = Credential(bearer=signed({"sub": "ci"}))
    gone: list[object] = []
    leaving = fixture.gate.identify(credential)
    leaving.addErrback(lambda failure: gone.append(failure.type))
    stays = fixture.show(signed({"sub": "ci"}))
    leaving.cancel()
    fixture.threads.finish()
    assert gone == [CancelledError] and reasons(stays) == ["ci"]


def test_what_is_kept_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refusals never push out who is known."""
    monkeypatch.setattr(jwts, "MOST_KNOWN", 3)
    fixture = Fixture(tmp_path)
    token = signed({"sub": "ci"})
    fixture.show(token)
    for number in range(10):
        fixture.show(bad(number))
    assert isinstance(fixture.gate.known(Credential(bearer=token)), Subject)
    assert fixture.gate.known(Credential(bearer=bad(0))) is None
    assert isinstance(fixture.gate.known(Credential(bearer=bad(9))), Refused)


def test_a_reload_takes_other_keys_and_forgets_what_the_old_ones_said(tmp_path: Path) -> None:
    """Also of a check that is on its way. Whoever keeps answers hears of it by the epoch."""
    fixture = Fixture(tmp_path)
    token, epoch = signed({"sub": "ci"}), fixture.gate.epoch
    fixture.show(token)
    fixture.file.write_bytes(b"no key")
    with pytest.raises(ConfigFaults, match=r"upstream.auth.jwt.keys\[0\]: found .*key.pem.*no public keys"):
        fixture.access.prepare(fixture.config())
    assert isinstance(fixture.gate.known(Credential(bearer=token)), Subject) and fixture.gate.epoch is epoch
    fixture.file.write_bytes(public_pem("rsa-2"))
    fixture.threads.held = True
    on_its_way = fixture.show(signed({"sub": "late"}))
    assert list(fixture.access.prepare(fixture.config())()) == ["who may use upstream"]
    assert fixture.gate.epoch is not epoch
    assert fixture.gate.known(Credential(bearer=token)) is None
    fixture.threads.finish()
    assert reasons(on_its_way) == ["late"] and fixture.gate.known(Credential(bearer=signed({"sub": "late"}))) is None
    fixture.threads.held = False
    assert reasons(fixture.show(token)) == ["signature"]
    assert reasons(fixture.show(signed({"sub": "new"}, private_key("rsa-2")))) == ["new"]


def test_a_token_that_is_added_has_no_jwt_checked_again(tmp_path: Path) -> None:
    """There may be as many as there are clients: a reload that takes the same keys leaves them known."""
    fixture = Fixture(tmp_path)
    jwt, epoch = signed({"sub": "ci"}), fixture.gate.epoch
    fixture.show(jwt)
    (tmp_path / "tokens").write_text(f"new sha256:{'0' * 64} listen:*\n")
    auth = AuthConfig(jwt=fixture.jwt, tokens_file=str(tmp_path / "tokens"))
    fixture.access.prepare(NodeConfig(upstream=UpstreamConfig(auth=auth)))()
    assert isinstance(fixture.gate.known(Credential(bearer=jwt)), Subject) and fixture.gate.epoch is not epoch
    fixture.jwt = JwtConfig(keys=fixture.jwt.keys, audience="pico")
    fixture.access.prepare(fixture.config())()
    assert fixture.gate.known(Credential(bearer=jwt)) is None


def test_secrets_and_sets_of_files_count_too(tmp_path: Path) -> None:
    """Each kind of key, side by side, and what is wrong with a file is told by its place in the list."""
    fixture = Fixture(tmp_path)
    (tmp_path / "secret").write_text(SECRET + "\n")
    (tmp_path / "set.json").write_bytes(key_set(jwk("p256")))
    fixture.jwt = JwtConfig(
        keys=fixture.jwt.keys, secret_files=(str(tmp_path / "secret"),), jwks=str(tmp_path / "set.json")
    )
    fixture.access.prepare(fixture.config())()
    for token in (signed({}), signed({}, SECRET, "HS256"), signed({}, private_key("p256"), "ES256", kid="p256")):
        assert isinstance(fixture.show(token)[0], Subject)
    assert reasons(fixture.show(signed({}, private_key("p384"), "ES384"))) == ["algorithm"]
    (tmp_path / "secret").write_bytes(public_pem())
    (tmp_path / "set.json").write_text(json.dumps({"keys": []}))
    with pytest.raises(ConfigFaults) as caught:
        fixture.access.prepare(fixture.config())
    paths = [fault.path.removeprefix("upstream.auth.jwt.") for fault in caught.value.faults]
    assert paths == ["secret_files[0]", "jwks"]
    assert SECRET not in str(caught.value) and "BEGIN" not in str(caught.value)


@pytest.mark.parametrize("name", bad_tokens(NOW))
def test_each_bad_token_is_refused_with_what_to_do_and_nothing_else(name: str, tmp_path: Path) -> None:
    """The same ones as agents show in `tests/system/test_upstream_auth.py`; the right one is let in."""
    fixture = Fixture(tmp_path)
    fixture.jwt = JwtConfig(keys=fixture.jwt.keys, audience="pico", issuer="us")
    fixture.access.prepare(fixture.config())()
    token, reason = bad_tokens(NOW)[name]
    (answer,) = fixture.show(token)
    if not reason:
        assert isinstance(answer, Subject)
        answered = fixture.gate.check(answer, Action.LISTEN, "other-web")
        assert isinstance(answered, Refused) and answered.reason is Reason.NOT_ALLOWED
        return
    assert isinstance(answer, Refused) and answer.reason.value == reason and answer.message
    assert not any(part in answer.message.encode() for part in token.split(b".") if len(part) > 8)
