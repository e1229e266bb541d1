"""What is said in the sync calls of a node link: a client's proof, and the question for the maps of all nodes.

The request of a call is a msgpack array of a word and bytes: `["proof", bytes]`, answered empty, or `["maps", bytes]`,
whose bytes and answer mean something to gossip only. Reading is strict and bounded: whatever else comes is refused, and
nothing is allocated before its size is known to fit.
"""

from __future__ import annotations

from typing import Final

import msgpack

from pico_twisted.core.links.proof import PROOF_BYTES

MAX_REQUEST_BYTES: Final = 1024 * 1024
"""Most bytes of a question: a line for each of 10,000 nodes fits well."""
MAX_ANSWER_BYTES: Final = 32 * 1024 * 1024
"""Most bytes of an answer: the maps of 1000 nodes with 100,000 endpoints fit well."""

_PROOF: Final = "proof"
_MAPS: Final = "maps"
_HEAD_BYTES: Final = 16
"""Most bytes of the array, the word and the length of the bytes."""
MAX_REQUEST_PAYLOAD_BYTES: Final = MAX_REQUEST_BYTES + _HEAD_BYTES
"""Most bytes of a request that are read."""


class SyncFormatError(ValueError):
    """A request that is not one of ours. The text says in what way."""


def encode_proof(proof: bytes) -> bytes:
    """The request that carries a client's proof."""
    return _encode(_PROOF, proof)


def decode_proof(payload: bytes) -> bytes:
    """The proof in a request; `PROOF_BYTES` long.

    Raises:
        SyncFormatError: it is not such a request.
    """
    proof = _decode(payload, _PROOF, PROOF_BYTES)
    if len(proof) != PROOF_BYTES:
        raise SyncFormatError(f"a proof has {PROOF_BYTES} bytes")
    return proof


def encode_maps(request: bytes) -> bytes:
    """The request for the maps.

    Args:
        request: what gossip says to gossip, at most `MAX_REQUEST_BYTES`.

    Raises:
        ValueError: it is too long.
    """
    if len(request) > MAX_REQUEST_BYTES:
        raise ValueError("a question that is too long")
    return _encode(_MAPS, request)


def decode_maps(payload: bytes) -> bytes:
    """What gossip says to gossip in a request for the maps.

    Raises:
        SyncFormatError: it is not such a request.
    """
    return _decode(payload, _MAPS, MAX_REQUEST_BYTES)


def _encode(word: str, data: bytes) -> bytes:
    packed: bytes = msgpack.packb([word, data], use_bin_type=True)
    return packed


def _decode(payload: bytes, word: str, most: int) -> bytes:
    if len(payload) > most + _HEAD_BYTES:
        raise SyncFormatError("a request that is too long")
    try:
        found = msgpack.unpackb(
            payload,
            raw=False,
            max_array_len=2,
            max_bin_len=most,
            max_ext_len=0,
            max_map_len=0,
            max_str_len=len(word),
        )
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise SyncFormatError(f"not msgpack within its limits: {type(error).__name__}") from None
    if type(found) is not list or len(found) != 2 or found[0] != word or type(found[1]) is not bytes:
        raise SyncFormatError(f"not a request of the kind {word}")
    return found[1]
