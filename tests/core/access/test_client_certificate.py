"""Whose a client certificate is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from pico_twisted.core.access.client_certificate import subject_of
from pico_twisted.core.access.credentials_file import read_certificates
from pico_twisted.core.access.rules import Action
from pico_twisted.core.access.subject import CredentialKind, Reason, Refused, Subject
from tools.stage.certificates import make

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SUBJECTS, _ = read_certificates("spiffe://acme/web listen:acme-web\nagent.acme.example listen:acme-*\n")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("spiffe://acme/web",), "spiffe://acme/web"),
        (("Agent.ACME.example",), "agent.acme.example"),
        (("agent.acme.example", "spiffe://acme/web"), "spiffe://acme/web"),
        (("other.example", "agent.acme.example"), "agent.acme.example"),
        (("agent.acme.example", "spiffe://acme/other"), None),
        (("spiffe://acme/web/",), None),
        (("spiffe://acme/WEB",), None),
        (("*.acme.example",), None),
        (("10.0.0.1",), None),
    ],
)
def test_it_is_of_its_uri_or_else_of_its_dns_name(tmp_path: Path, names: tuple[str, ...], expected: str | None) -> None:
    """URIs count as they are, DNS names in any case. Who has a URI is not known by another name."""
    made = make(tmp_path, "client", names=names, client=True)
    found = subject_of(made.cert.public_bytes(Encoding.DER), SUBJECTS)
    if expected is None:
        assert isinstance(found, Refused) and found.reason is Reason.UNKNOWN
        return
    assert isinstance(found, Subject) and (found.name, found.kind) == (expected, CredentialKind.CERTIFICATE)
    assert found.expires_at == made.cert.not_valid_after_utc.timestamp()
    assert found.rule_for(Action.LISTEN, "acme-web") and found.revocable_as == {expected}


@given(st.binary(max_size=200))
def test_any_bytes_are_refused(certificate: bytes) -> None:
    """TLS has looked at it before, and yet nothing is taken for granted."""
    assert isinstance(subject_of(certificate, SUBJECTS), Refused)


@pytest.mark.parametrize("names", ["3002a300", "30024100", "3000"])
def test_names_that_nobody_knows(names: str) -> None:
    """What an authority may put among the names, and cannot be read, is a refusal and nothing else."""
    key = Ed25519PrivateKey.generate()
    name = x509.Name([])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, NOW, NOW + timedelta(days=1))
        .add_extension(x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.17"), bytes.fromhex(names)), False)
        .sign(key, None)
    )
    assert isinstance(subject_of(made.public_bytes(Encoding.DER), SUBJECTS), Refused)
