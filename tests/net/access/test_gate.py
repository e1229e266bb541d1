"""The gate of a port."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from pico_twisted.config import AuthConfig, ConfigFaults, NodeConfig, UpstreamConfig
from pico_twisted.core.access.rules import Action, Rule
from pico_twisted.core.access.subject import Reason, Refused, Subject
from pico_twisted.net.access.access import Access
from pico_twisted.net.access.interfaces import Credential
from pico_twisted.net.observe.metrics import Metrics
from tools.stage.certificates import make


def hashed(token: bytes) -> str:
    """As it stands in a file of tokens."""
    return "sha256:" + hashlib.sha256(token).hexdigest()


def access(clock: Clock, auth: AuthConfig) -> tuple[Access, Metrics]:
    """What a node with this section `upstream.auth` has, its files read."""
    metrics = Metrics("node")
    config = NodeConfig(upstream=UpstreamConfig(auth=auth))
    made = Access(config, clock, metrics=metrics, wall=clock.seconds)
    made.prepare(config)()
    return made, metrics


def test_a_token_of_the_file_may_do_what_its_rules_say(tmp_path: Path) -> None:
    """Another one is unknown, and none is missing; each decision is counted."""
    file = tmp_path / "tokens"
    file.write_text(f"ci {hashed(b'good')} listen:acme-*\n")
    made, metrics = access(Clock(), AuthConfig(tokens_file=str(file)))
    gate = made.upstream
    assert gate.enabled and not made.proxy.enabled and [one.name for one in made.subjects()] == ["ci"]
    subject = gate.known(Credential(bearer=b"good"))
    assert isinstance(subject, Subject) and subject.name == "ci"
    assert isinstance(gate.check(subject, Action.LISTEN, "acme-web"), Rule)
    for credential, reason in (
        (Credential(bearer=b"bad"), Reason.UNKNOWN),
        (Credential(), Reason.MISSING),
        (Credential(bearer=b"x" * 8193), Reason.MALFORMED),
    ):
        refused = gate.known(credential)
        assert isinstance(refused, Refused) and refused.reason is reason
        gate.refused(refused, credential)
    answer = gate.check(subject, Action.LISTEN, "other-web")
    assert isinstance(answer, Refused) and answer.reason is Reason.NOT_ALLOWED
    text = metrics.exposition().decode()
    assert 'pico_auth_total{port="upstream",result="allowed"} 1.0' in text
    assert 'pico_auth_total{port="upstream",result="unknown"} 1.0' in text
    assert 'port="proxy"' not in text


def test_a_file_that_is_read_again_counts_at_once_and_a_broken_one_changes_nothing(tmp_path: Path) -> None:
    """What went wrong is told with its line."""
    file = tmp_path / "tokens"
    file.write_text(f"ci {hashed(b'good')} listen:acme-*\n")
    made, _ = access(Clock(), auth := AuthConfig(tokens_file=str(file)))
    config = NodeConfig(upstream=UpstreamConfig(auth=auth))
    file.write_text("ci\n")
    with pytest.raises(ConfigFaults, match=r"upstream.auth.tokens_file \(.*tokens:1\): found no hash"):
        made.prepare(config)
    assert isinstance(made.upstream.known(Credential(bearer=b"good")), Subject)
    file.write_text(f"ci {hashed(b'better')} listen:acme-*\n")
    take = made.prepare(config)
    assert isinstance(made.upstream.known(Credential(bearer=b"good")), Subject)
    epoch = made.upstream.epoch
    assert take() == ["who may use upstream"] and made.upstream.epoch is not epoch
    epoch = made.upstream.epoch
    assert isinstance(made.upstream.known(Credential(bearer=b"good")), Refused)
    assert made.prepare(config)() == [] and made.upstream.epoch is epoch


def test_who_was_let_in_before_is_who_the_files_say_now(tmp_path: Path) -> None:
    """Other rules count for the same token; a name that another token has now is somebody else."""
    file = tmp_path / "tokens"
    file.write_text(f"ci {hashed(b'good')} listen:acme-*\n")
    made, _ = access(Clock(), auth := AuthConfig(tokens_file=str(file)))
    config = NodeConfig(upstream=UpstreamConfig(auth=auth))
    subject = made.upstream.known(Credential(bearer=b"good"))
    assert isinstance(subject, Subject) and made.upstream.current(subject) == subject
    file.write_text(f"ci {hashed(b'good')} listen:other\n")
    made.prepare(config)()
    current = made.upstream.current(subject)
    assert isinstance(current, Subject) and [str(rule) for rule in current.rules] == ["listen:other"]
    file.write_text(f"ci {hashed(b'better')} listen:acme-*\n")
    made.prepare(config)()
    refused = made.upstream.current(subject)
    assert isinstance(refused, Refused) and refused.reason is Reason.UNKNOWN


def test_a_certificate_is_known_by_its_name_as_long_as_it_lasts(tmp_path: Path) -> None:
    """A token beside it counts more. What is no token is never taken for a certificate."""
    made_certificate = make(tmp_path, "web", names=("spiffe://acme/web",), client=True)
    der = made_certificate.cert.public_bytes(Encoding.DER)
    (tmp_path / "certificates").write_text("spiffe://acme/web listen:acme-web\n")
    (tmp_path / "tokens").write_text(f"ci {hashed(b'good')} listen:ci\n")
    clock = Clock()
    auth = AuthConfig(tokens_file=str(tmp_path / "tokens"), certificates_file=str(tmp_path / "certificates"))
    gate = access(clock, auth)[0].upstream
    subject = gate.known(Credential(certificate=der))
    assert isinstance(subject, Subject) and subject.name == "spiffe://acme/web"
    assert gate.known(Credential(certificate=der)) is subject
    assert isinstance(gate.check(subject, Action.LISTEN, "acme-web"), Rule)
    for bearer, expected in ((b"good", "ci"), (b"bad", Reason.UNKNOWN), (der, Reason.UNKNOWN)):
        found = gate.known(Credential(bearer=bearer, certificate=der))
        assert (found.reason if isinstance(found, Refused) else found and found.name) == expected
    clock.advance(made_certificate.cert.not_valid_after_utc.timestamp())
    answer = gate.check(subject, Action.LISTEN, "acme-web")
    assert isinstance(answer, Refused) and answer.reason is Reason.EXPIRED
    (tmp_path / "certificates").write_text("spiffe://acme/other listen:acme-web\n")
    made, _ = access(clock, auth)
    found = made.upstream.known(Credential(certificate=der))
    assert isinstance(found, Refused) and found.reason is Reason.UNKNOWN


@given(st.binary(max_size=100))
def test_any_bytes_are_answered(bearer: bytes) -> None:
    """As a token and as a certificate, at a gate that takes nothing."""
    clock = Clock()
    gate = Access(NodeConfig(), clock, metrics=Metrics("node"), wall=clock.seconds).upstream
    for credential in (Credential(bearer=bearer), Credential(certificate=bearer)):
        assert isinstance(gate.known(credential), Refused)
