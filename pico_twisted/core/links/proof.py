"""How the two ends of a node link prove to each other that they know a secret of the cluster.

What is needed. Each end must know that the other one has the secret, is the node that it says it is, and says so now.
An eavesdropper or impostor must learn nothing that makes an offline attack on the secret faster than guessing, and must
not be able to replay a proof.

What was chosen. A proof is an HMAC over everything that both ends believe: role, cluster, both node IDs, the client's
generation, and 16 fresh random bytes of each end. Roles and IDs keep a proof from being sent back to its maker;
the nonces keep it from being sent again. Each field has its length before it, so no two lists of fields read the same.
The keys come out of the secret by HKDF (RFC 5869), for this purpose and this cluster alone.

A cluster may know several secrets while one is being replaced. The client uses its first one and names it by a tag of
four bytes, which is derived too. The server looks for the tag among its own; a tag that two secrets share would only
make a proof fail that should not have.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final, Literal

import attrs
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

NONCE_BYTES: Final = 16
"""Random bytes that each end adds to a handshake."""
PROOF_BYTES: Final = 32
"""Bytes of a proof."""
TAG_BYTES: Final = 4
"""Bytes of the tag that names a key."""

Role = Literal["client", "server"]

_KEY_LABEL: Final = b"pico node link 1 key"
_TAG_LABEL: Final = b"pico node link 1 tag"
_PROOF_LABEL: Final = b"pico node link 1 proof"


@attrs.frozen(kw_only=True)
class LinkKey:
    """What a secret is to node links.

    Attributes:
        key: for the proofs.
        tag: names the key in a handshake, in hexadecimal; says nothing about the secret.
    """

    key: bytes = attrs.field(repr=False)
    tag: str


@attrs.frozen(kw_only=True)
class Handshake:
    """Everything that is proven.

    Attributes:
        cluster: its name.
        client_id, server_id: the node that connected and the node that it wants.
        generation: of the client.
        client_nonce, server_nonce: random bytes of this handshake, `NONCE_BYTES` each.
    """

    cluster: str
    client_id: str
    server_id: str
    generation: int = attrs.field()
    client_nonce: bytes = attrs.field()
    server_nonce: bytes = attrs.field()

    @generation.validator
    def _check_generation(self, _: object, value: int) -> None:
        if not 0 <= value < 2**63:
            raise ValueError("a generation is between 0 and 2^63 - 1")

    @client_nonce.validator
    @server_nonce.validator
    def _check_nonce(self, _: object, value: bytes) -> None:
        if len(value) != NONCE_BYTES:
            raise ValueError(f"a nonce has {NONCE_BYTES} bytes")


def link_key(secret: bytes, cluster: str) -> LinkKey:
    """The key of a secret for the links of one cluster.

    Args:
        secret: one of `cluster.secrets`.
        cluster: the cluster's name.

    Raises:
        ValueError: the secret is empty.
    """
    if not secret:
        raise ValueError("an empty secret")
    name = cluster.encode("utf-8")
    return LinkKey(key=derived(secret, _KEY_LABEL, name, 32), tag=derived(secret, _TAG_LABEL, name, TAG_BYTES).hex())


def prove(key: LinkKey, role: Role, handshake: Handshake) -> bytes:
    """The proof of one end, `PROOF_BYTES` long.

    Args:
        key: of a secret that both ends know.
        role: of the end that proves itself.
        handshake: as this end sees it.
    """
    fields = (
        _PROOF_LABEL,
        role.encode("ascii"),
        handshake.cluster.encode("utf-8"),
        handshake.client_id.encode("utf-8"),
        handshake.server_id.encode("utf-8"),
        handshake.generation.to_bytes(8, "big"),
        handshake.client_nonce,
        handshake.server_nonce,
    )
    return hmac.digest(key.key, joined(*fields), hashlib.sha256)


def is_proof(given: bytes, key: LinkKey, role: Role, handshake: Handshake) -> bool:
    """Whether this is the proof of the end with that role; takes the same time whatever is given.

    Args:
        given: what that end sent.
        key: of a secret that both ends know.
        role: of the end that proves itself.
        handshake: as we see it.
    """
    return hmac.compare_digest(given, prove(key, role, handshake))


def derived(secret: bytes, label: bytes, cluster: bytes, size: int) -> bytes:
    """A key of a secret for one purpose and one cluster (HKDF, RFC 5869).

    Args:
        secret: one of `cluster.secrets`.
        label: of the purpose.
        cluster: the cluster's name.
        size: bytes of the key.
    """
    return HKDF(algorithm=SHA256(), length=size, salt=None, info=joined(label, cluster)).derive(secret)


def joined(*fields: bytes) -> bytes:
    """The fields in a form that can be read in one way only."""
    return b"".join([len(field).to_bytes(4, "big") + field for field in fields])
