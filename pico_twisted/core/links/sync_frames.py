"""What is said in the sync calls of a node link: a client's proof, the question for the maps of all nodes, the one
whether its gossip port is reached from there, what is revoked, and what an operator asks for.

The request of a call is a msgpack array of a word and bytes: `["proof", bytes]`, answered empty; `["maps", bytes]`,
whose bytes and answer mean something to gossip only; `["dial", bytes]`, an address as text, answered with an array of
two texts; `["revoked", bytes]`, revocations as `core.access.revocations` writes them, answered with all that the other
node has, or when the request has some with how much they end; or `["operate", bytes]`, of which `core.links.operations`
reads both. Reading is strict and bounded: whatever else comes is refused, and nothing is allocated before its size is
known to fit.
"""

from __future__ import annotations

from typing import Final

import attrs
import msgpack

from pico_twisted.core.links.operations import MAX_OPERATION_BYTES
from pico_twisted.core.links.proof import PROOF_BYTES
from pico_twisted.core.text import printable

MAX_REQUEST_BYTES: Final = 1024 * 1024
"""Most bytes of a question: a line for each of 10,000 nodes fits well."""
MAX_ANSWER_BYTES: Final = 32 * 1024 * 1024
"""Most bytes of an answer: the maps of 1000 nodes with 100,000 endpoints fit well."""

_PROOF: Final = "proof"
_MAPS: Final = "maps"
_DIAL: Final = "dial"
_REVOKED: Final = "revoked"
_OPERATE: Final = "operate"
MAX_ADDRESS_BYTES: Final = 300
"""Most bytes of an address, as in a node's map."""
MAX_WORDS_BYTES: Final = 300
"""Most bytes of why an address is not reached."""
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


@attrs.frozen
class Reached:
    """Whether a node was reached at an address: "" where it was, else why not.

    Attributes:
        udp: of its gossip.
        tcp: of its links.
    """

    udp: str
    tcp: str

    @property
    def both(self) -> bool:
        """Whether it was, over both."""
        return not self.udp and not self.tcp


def encode_dial(address: str) -> bytes:
    """The request to dial the node that asks, at an address, `host:port`.

    Raises:
        ValueError: it is too long.
    """
    data = address.encode("utf-8")
    if len(data) > MAX_ADDRESS_BYTES:
        raise ValueError("an address that is too long")
    return _encode(_DIAL, data)


def decode_dial(payload: bytes) -> str:
    """The address that is to be dialled.

    Raises:
        SyncFormatError: it is not such a request.
    """
    try:
        return _decode(payload, _DIAL, MAX_ADDRESS_BYTES).decode("utf-8")
    except UnicodeDecodeError:
        raise SyncFormatError("an address that is no text") from None


def is_dial(payload: bytes) -> bool:
    """Whether a request is one to dial, and not one for the maps."""
    return _is(payload, _DIAL)


def encode_revoked(revocations: bytes) -> bytes:
    """The request with revocations, or for those that the other node has.

    Raises:
        ValueError: they are too long.
    """
    if len(revocations) > MAX_REQUEST_BYTES:
        raise ValueError("revocations that are too long")
    return _encode(_REVOKED, revocations)


def decode_revoked(payload: bytes) -> bytes:
    """The revocations in a request.

    Raises:
        SyncFormatError: it is not such a request.
    """
    return _decode(payload, _REVOKED, MAX_REQUEST_BYTES)


def is_revoked(payload: bytes) -> bool:
    """Whether a request is one with revocations."""
    return _is(payload, _REVOKED)


def encode_operate(operation: bytes) -> bytes:
    """The request with what an operator asks for, at most `MAX_OPERATION_BYTES`."""
    return _encode(_OPERATE, operation)


def decode_operate(payload: bytes) -> bytes:
    """What an operator asks for, in a request.

    Raises:
        SyncFormatError: it is not such a request.
    """
    return _decode(payload, _OPERATE, MAX_OPERATION_BYTES)


def is_operate(payload: bytes) -> bool:
    """Whether a request is one of an operator."""
    return _is(payload, _OPERATE)


def encode_reached(reached: Reached) -> bytes:
    """The answer to a request to dial."""
    packed: bytes = msgpack.packb([text[: MAX_WORDS_BYTES // 4] for text in (reached.udp, reached.tcp)])
    return packed


def decode_reached(payload: bytes) -> Reached:
    """Whether we were reached.

    Raises:
        SyncFormatError: it is not such an answer.
    """
    try:
        found = msgpack.unpackb(
            payload[: 2 * MAX_WORDS_BYTES + _HEAD_BYTES], max_array_len=2, max_str_len=MAX_WORDS_BYTES, max_map_len=0
        )
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise SyncFormatError(f"not msgpack within its limits: {type(error).__name__}") from None
    if type(found) is not list or len(found) != 2 or any(type(text) is not str for text in found):
        raise SyncFormatError("not an answer to a request to dial")
    return Reached(*map(printable, found))


def _encode(word: str, data: bytes) -> bytes:
    packed: bytes = msgpack.packb([word, data], use_bin_type=True)
    return packed


def _is(payload: bytes, word: str) -> bool:
    """Whether a request has that word."""
    return payload.startswith(_encode(word, b"")[: 2 + len(word)])


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
