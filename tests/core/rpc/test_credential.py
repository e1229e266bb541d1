"""What a node answers when an agent shows a credential on its session."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pico_twisted.core.rpc.credential import MAX_VERDICT_BYTES, Verdict, decode_verdict, encode_verdict


@pytest.mark.parametrize(
    ("verdict", "payload"),
    [
        (Verdict(accepted=True), b"accepted"),
        (Verdict(accepted=True, expires_at=2e9), b"accepted 2000000000"),
        (Verdict(accepted=False, words="it has expired"), b"refused it has expired"),
    ],
)
def test_as_documented(verdict: Verdict, payload: bytes) -> None:
    """docs/protocol.md has the same texts."""
    assert encode_verdict(verdict) == payload and decode_verdict(payload) == verdict


@pytest.mark.parametrize("payload", [b"accepted 99999999999999", b"accepted soon", b"accepted -1"])
def test_an_end_that_cannot_be_read_is_none(payload: bytes) -> None:
    """It is accepted all the same."""
    assert decode_verdict(payload) == Verdict(accepted=True)


@given(st.binary(max_size=1000))
def test_anything_else_is_a_refusal(payload: bytes) -> None:
    """In one short line of text that can be printed, whatever came."""
    verdict = decode_verdict(payload)
    assert verdict.words.isprintable() and len(verdict.words) <= MAX_VERDICT_BYTES
    assert not verdict.accepted or payload.startswith(b"accepted")


@given(st.text(max_size=1000))
def test_words_of_any_kind(words: str) -> None:
    """They fit a frame, and arrive as a refusal."""
    payload = encode_verdict(Verdict(accepted=False, words=words))
    assert len(payload) <= MAX_VERDICT_BYTES and not decode_verdict(payload).accepted
