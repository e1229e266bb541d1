"""The bytes with which an agent says how its service is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pico_twisted.core.rpc.service_health import MOST_SECONDS, Standing, ToldHealth, decode_health, encode_health


@given(st.sampled_from([Standing.OUT, Standing.TRIAL]), st.integers(0, 10**12))
def test_round_trip(standing: Standing, seconds: int) -> None:
    """What was said is read, and a time is bounded."""
    told = ToldHealth(standing=standing, out_for_s=seconds)
    read = decode_health(encode_health(told))
    assert read == ToldHealth(standing=standing, out_for_s=min(seconds, MOST_SECONDS))


def test_the_documented_bytes() -> None:
    """As docs/protocol.md has them."""
    assert encode_health(ToldHealth(standing=Standing.UP)) == b"up"
    assert encode_health(ToldHealth(standing=Standing.OUT, out_for_s=4)) == b"out 4"
    assert decode_health(b"trial 12") == ToldHealth(standing=Standing.TRIAL, out_for_s=12)


@pytest.mark.parametrize(
    "payload",
    [b"", b"up 1", b"out", b"out -1", b"out 1.5", b"out 12345678", b"UP", b"up\n", b"gone 1", b"out \xd9\xa1"],
)
def test_nonsense(payload: bytes) -> None:
    """It says nothing."""
    assert decode_health(payload) is None


@given(st.binary(max_size=40))
def test_any_bytes(payload: bytes) -> None:
    """They are read or they are not, and what is read is written as it was, but for zeros in front."""
    told = decode_health(payload)
    if told is not None:
        assert encode_health(told).split()[0] == payload.split()[0]
