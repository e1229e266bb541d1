"""The wire format of one frame."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pico_twisted.core.rpc import frames


def test_layout() -> None:
    """The header is type, call ID and flags, big-endian, at the offsets of the protocol's table."""
    frame = frames.encode(frames.HTTP, 0x0102030405060708, frames.RESPONSE | frames.MORE, b"payload")
    assert frame == b"\x00\x02" + b"\x01\x02\x03\x04\x05\x06\x07\x08" + b"\xa0\x00" + b"payload"


def test_numbers_of_the_protocol() -> None:
    """Types and flags are those of the protocol's tables, which other implementations rely on."""
    assert (frames.HEARTBEAT, frames.HTTP, frames.TCP, frames.DRAIN, frames.SYNC) == (1, 2, 3, 4, 5)
    assert (frames.RESPONSE, frames.NOT_SUPPORTED) == (0x8000, 0x4000)
    assert (frames.MORE, frames.RESET, frames.CREDIT) == (0x2000, 0x1000, 0x0800)
    assert frames.MAX_MESSAGE_V2 == 64 * 1024 + 12
    assert frames.MAX_MESSAGE_V1 == 16 * 1024 * 1024 + 64 * 1024


@given(st.sampled_from(sorted(frames.RESET_CODES)), st.text(max_size=400))
def test_reset_survives_the_wire(code: str, text: str) -> None:
    """A reset's code arrives whatever text goes with it, in at most 256 bytes, and its text is printable."""
    payload = frames.encode_reset(code, text)
    assert len(payload) <= frames.MAX_RESET_BYTES
    got, words = frames.decode_reset(payload)
    assert got == code
    assert words == "" or words.isprintable()
    if text.isprintable() and len(payload) < frames.MAX_RESET_BYTES - 4:
        assert words == text


@given(st.binary(max_size=1000))
def test_any_reset_has_a_code(payload: bytes) -> None:
    """Whatever a peer puts into a reset, it reads as one of the codes, and its text can be logged."""
    code, text = frames.decode_reset(payload)
    assert code in frames.RESET_CODES
    assert text == "" or text.isprintable()
    assert len(text) <= frames.MAX_RESET_BYTES


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b"", frames.FAILED),
        (b"stop", frames.STOP),
        (b"refused draining and more", frames.REFUSED_DRAINING),
        (b"refused not-here", frames.REFUSED_NOT_HERE),
        (b"refused something-new", frames.REFUSED_BUSY),
        (b"refused", frames.REFUSED_BUSY),
        (b"Stop", frames.FAILED),
        (b"unsupported", frames.FAILED),
        (b"\xff\xfe", frames.FAILED),
    ],
)
def test_codes(payload: bytes, code: str) -> None:
    """Refusals stay refusals even for a reason that we do not know; other unknown codes count as failed."""
    assert frames.decode_reset(payload)[0] == code


def test_only_codes_are_sent() -> None:
    """A reset with a made-up code is our own mistake, and raises."""
    with pytest.raises(ValueError, match="no such reset code"):
        frames.encode_reset("unsupported")
