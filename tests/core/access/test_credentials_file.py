"""Files of tokens and of certificates: what they say, and what is wrong with them."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pico_twisted.core.access.credentials_file import MOST_FAULTS, hash_of, read_certificates, read_tokens
from pico_twisted.core.access.rules import Action

HASH = "sha256:" + hashlib.sha256(b"pico_secret").hexdigest()


def test_a_line_is_a_name_a_hash_and_rules() -> None:
    """Comments and empty lines are passed over, blanks of all kinds part words."""
    text = f"# tokens of acme\n\n ci\t{HASH}  listen:acme-* admin:read # of the build\r\n"
    found, faults = read_tokens(text)
    assert faults == []
    subject = found[hash_of(b"pico_secret")]
    assert (subject.name, subject.key, subject.revocable_as) == ("ci", "token:ci", frozenset(("ci",)))
    assert subject.rule_for(Action.LISTEN, "acme-web") and subject.rule_for(Action.ADMIN_READ)
    assert subject.expires_at is None


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("ci", "no hash behind the name"),
        ("ci pico_secret listen:a", "no hash behind the name"),
        (f"ci {HASH[:-1]} listen:a", "no hash behind the name"),
        (f"ci/1 {HASH} listen:a", "no name"),
        (f"ci {HASH}", "0 rules"),
        (f"ci {HASH} #listen:a", "0 rules"),
        (f"ci {HASH} pico_secret", "what is no rule"),
        (f"ci {HASH} " + "listen:a " * 101, "101 rules"),
        (f"ci {HASH} listen:a\nci {HASH[:-1]}0 listen:a", "the name ci again"),
        (f"ci {HASH} listen:a\nother {HASH.upper().replace('SHA', 'sha')} listen:a", "the hash of another line"),
    ],
)
def test_a_line_that_cannot_be_used_is_told_by_its_number_and_without_what_may_be_a_secret(
    line: str, found: str
) -> None:
    """Somebody may have put the token itself there."""
    _, (fault,) = read_tokens("\n\n" + line)
    assert fault.found == found and fault.line == 3 + line.count("\n")
    assert "pico_secret" not in fault.found + fault.expected


def test_a_certificate_is_named_by_its_uri_or_its_dns_name() -> None:
    """A DNS name in any case, a URI as it stands."""
    found, faults = read_certificates("spiffe://acme/Web listen:acme-web\nAgent.Acme.example listen:acme-*\n")
    assert faults == [] and found.keys() == {"spiffe://acme/Web", "agent.acme.example"}
    assert found["spiffe://acme/Web"].revocable_as == {"spiffe://acme/Web"}
    _, (again,) = read_certificates("a listen:a\nA listen:b")
    assert again.found == "the name a again"


@given(st.text())
def test_any_text_is_read_or_told_about(text: str) -> None:
    """A file may be something else altogether."""
    for read in (read_tokens, read_certificates):
        _, faults = read(text)
        assert len(faults) <= MOST_FAULTS
