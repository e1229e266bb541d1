"""Subjects: who is the same as somebody else, and how they are refused."""

from __future__ import annotations

import pytest

from pico_twisted.core.access.subject import CredentialKind, Reason, Refused, Subject


def test_a_name_is_of_one_kind_of_credential() -> None:
    """A JWT whose `sub` is the name of a token is not that token's subject."""
    keys = {Subject(name="acme", kind=kind, rules=()).key for kind in CredentialKind}
    assert len(keys) == len(CredentialKind)


@pytest.mark.parametrize("reason", Reason)
def test_challenges(reason: Reason) -> None:
    """A challenge has the words of RFC 6750, and none about the reason: that is for whoever may know it."""
    challenge = Refused(reason=reason, message="").challenge
    assert challenge.startswith('Bearer realm="pico"')
    expected = {Reason.MISSING: None, Reason.NOT_ALLOWED: "insufficient_scope"}.get(reason, "invalid_token")
    assert ("error=" in challenge) is bool(expected) and (expected or "") in challenge
