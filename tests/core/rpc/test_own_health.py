"""The bytes with which an agent says whether it has the CPU that it needs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pico_twisted.core.rpc.own_health import decode_lacked, encode_lacked


@given(st.floats(0.0, 1e9))
def test_round_trip(lacked_s: float) -> None:
    """What was said is read, to a millisecond; a time is bounded, and a short one is not taken for none."""
    read = decode_lacked(encode_lacked(lacked_s))
    assert read == pytest.approx(min(lacked_s, 99.999), abs=0.001)
    assert bool(read) == bool(lacked_s)


def test_the_documented_bytes() -> None:
    """As docs/protocol.md has them."""
    assert encode_lacked(0.0) == b"well"
    assert encode_lacked(0.0871) == b"short 87"


@pytest.mark.parametrize(
    "payload", [b"", b"well 1", b"short", b"short -1", b"short 1.5", b"short 123456", b"WELL", b"well\n"]
)
def test_nonsense(payload: bytes) -> None:
    """It says nothing."""
    assert decode_lacked(payload) is None


@given(st.binary(max_size=40))
def test_any_bytes(payload: bytes) -> None:
    """They are read or they are not, and what is read is finite."""
    read = decode_lacked(payload)
    assert read is None or 0.0 <= read < 100.0
