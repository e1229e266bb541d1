"""What is said in sync calls: three requests, and nothing else, whatever comes."""

from __future__ import annotations

import contextlib
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pico_twisted.core.links.proof import PROOF_BYTES
from pico_twisted.core.links.sync_frames import (
    MAX_ADDRESS_BYTES,
    MAX_REQUEST_BYTES,
    MAX_REQUEST_PAYLOAD_BYTES,
    Reached,
    SyncFormatError,
    decode_dial,
    decode_maps,
    decode_proof,
    decode_reached,
    decode_revoked,
    encode_dial,
    encode_maps,
    encode_proof,
    encode_reached,
    encode_revoked,
    is_dial,
    is_revoked,
)

PROOF = bytes(range(PROOF_BYTES))


@given(st.binary(max_size=300))
def test_questions_come_back(question: bytes) -> None:
    """What gossip says arrives as it was, empty or not."""
    assert decode_maps(encode_maps(question)) == question


def test_the_longest_question() -> None:
    """It passes; one byte more is our own fault when we send it, and the peer's when it does."""
    longest = bytes(MAX_REQUEST_BYTES)
    encoded = encode_maps(longest)
    assert len(encoded) <= MAX_REQUEST_PAYLOAD_BYTES
    assert decode_maps(encoded) == longest
    with pytest.raises(ValueError, match="too long"):
        encode_maps(longest + b"x")
    for too_long in (msgpack.packb(["maps", longest + b"x"]), encoded + bytes(MAX_REQUEST_PAYLOAD_BYTES)):
        with pytest.raises(SyncFormatError):
            decode_maps(too_long)


@given(st.binary(min_size=PROOF_BYTES, max_size=PROOF_BYTES))
def test_proofs_come_back(proof: bytes) -> None:
    """A proof arrives as it was, in a frame that is small enough for a peer that nobody believes yet."""
    encoded = encode_proof(proof)
    assert decode_proof(encoded) == proof
    assert len(encoded) < 125 - 12


@given(st.binary(max_size=80).filter(lambda proof: len(proof) != PROOF_BYTES))
def test_proofs_of_another_length(proof: bytes) -> None:
    """A proof has one length."""
    with pytest.raises(SyncFormatError):
        decode_proof(encode_proof(proof))


@given(st.text(max_size=MAX_ADDRESS_BYTES // 4), st.text(max_size=400), st.text(max_size=400))
def test_dials_come_back(address: str, udp: str, tcp: str) -> None:
    """An address arrives as it was, and what came of it as words that are cut and made printable."""
    encoded = encode_dial(address)
    assert is_dial(encoded) and decode_dial(encoded) == address
    reached = decode_reached(encode_reached(Reached(udp, tcp)))
    assert (reached.both, len(reached.udp) <= 400, reached.tcp.isprintable()) == (not udp and not tcp, True, True)


def test_an_address_that_is_none() -> None:
    """One that is too long, or no text, is refused; and so is an answer that is none."""
    with pytest.raises(ValueError, match="too long"):
        encode_dial("x" * (MAX_ADDRESS_BYTES + 1))
    for address in (b"x" * 999, b"\xff", "x"):
        payload = msgpack.packb(["dial", address])
        assert is_dial(payload)
        with pytest.raises(SyncFormatError):
            decode_dial(payload)
    for answer in (b"", b"\xc1", msgpack.packb(["a"]), msgpack.packb([1, 2]), msgpack.packb(["x" * 999, ""])):
        with pytest.raises(SyncFormatError):
            decode_reached(answer)


@given(st.binary(max_size=300))
def test_revocations_come_back(lines: bytes) -> None:
    """They arrive as they were, some or none; too many are our own fault."""
    encoded = encode_revoked(lines)
    assert is_revoked(encoded) and not is_dial(encoded) and decode_revoked(encoded) == lines
    with pytest.raises(ValueError, match="too long"):
        encode_revoked(bytes(MAX_REQUEST_BYTES + 1))


def test_one_is_not_the_other() -> None:
    """A question is no proof, and a proof is no question."""
    assert not is_revoked(encode_maps(PROOF)) and not is_revoked(encode_dial("revoked"))
    assert not is_dial(encode_maps(PROOF)) and not is_dial(encode_proof(PROOF))
    with pytest.raises(SyncFormatError):
        decode_maps(encode_dial("x"))
    with pytest.raises(SyncFormatError):
        decode_proof(encode_maps(PROOF))
    with pytest.raises(SyncFormatError):
        decode_maps(encode_proof(PROOF))


scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=9)
anything = st.recursive(
    scalars | st.binary(max_size=40) | st.builds(msgpack.ExtType, st.integers(0, 127), st.binary(max_size=9)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=12,
)


def _is_ours(value: Any, word: str) -> bool:
    return type(value) is list and len(value) == 2 and value[0] == word and type(value[1]) is bytes


@given(anything)
def test_any_value(value: Any) -> None:
    """Of all that msgpack can say, two things are understood."""
    packed = msgpack.packb(value, use_bin_type=True)
    if not _is_ours(value, "maps"):
        with pytest.raises(SyncFormatError):
            decode_maps(packed)
    if not _is_ours(value, "proof"):
        with pytest.raises(SyncFormatError):
            decode_proof(packed)


@given(st.binary(max_size=200))
def test_any_bytes(payload: bytes) -> None:
    """Whatever bytes come, they are a request or are refused with the one error that callers know."""
    for decode in (decode_maps, decode_proof, decode_revoked):
        with contextlib.suppress(SyncFormatError):
            assert type(decode(payload)) is bytes


@given(st.data())
def test_requests_that_are_cut_or_lengthened(data: st.DataObject) -> None:
    """A cut request, and one with something behind it, are refused."""
    for encode, decode in ((encode_maps, decode_maps), (encode_proof, decode_proof)):
        whole = encode(PROOF)
        cut = data.draw(st.integers(0, len(whole) - 1))
        with pytest.raises(SyncFormatError):
            decode(whole[:cut])
        with pytest.raises(SyncFormatError):
            decode(whole + data.draw(st.binary(min_size=1, max_size=20)))


@pytest.mark.parametrize(
    "claim",
    [
        b"\x92\xa4maps\xc6\xff\xff\xff\xff",
        b"\x92\xa5proof\xc6\x7f\xff\xff\xff",
        b"\xdd\xff\xff\xff\xff",
        b"\x92\xdb\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\x92\xa4maps\xc9\xff\xff\xff\xff\x01",
        b"\x91" * 2000,
    ],
    ids=["bytes", "proof", "array", "text", "map", "extension", "nested"],
)
def test_lengths_that_are_only_claimed(claim: bytes) -> None:
    """A few bytes that announce gigabytes, or a thousand levels, are refused before anything is made of them."""
    for decode in (decode_maps, decode_proof, decode_revoked):
        with pytest.raises(SyncFormatError):
            decode(claim)
