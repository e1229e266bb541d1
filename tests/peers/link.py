"""A node as another node's link port sees it, with every part of its handshake and every frame in the test's own hands.

Written with the standard library alone: HKDF (RFC 5869) and the bytes of a sync call are spelt out.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import ssl
from dataclasses import dataclass, field, replace
from typing import Any

from tests.peers import frames, v2, websocket

PATH = "/pico/v1/node"
NONCE_BYTES = 16


def joined(*fields: bytes) -> bytes:
    """Fields, each behind its length in four bytes."""
    return b"".join(len(item).to_bytes(4, "big") + item for item in fields)


def derived(secret: bytes, label: bytes, cluster: str, size: int) -> bytes:
    """At most 32 bytes by HKDF-SHA256 without a salt, for one purpose and one cluster."""
    info = joined(label, cluster.encode())
    key = hmac.digest(bytes(32), secret, hashlib.sha256)
    return hmac.digest(key, info + b"\x01", hashlib.sha256)[:size]


def sync(word: str, data: bytes) -> bytes:
    """The request of a sync call: a msgpack array of a short text and at most 255 bytes."""
    text = word.encode()
    return b"\x92" + bytes([0xA0 | len(text)]) + text + b"\xc4" + bytes([len(data)]) + data


@dataclass(frozen=True)
class Claim:
    """What a client of the link port says of itself, and knows.

    Attributes:
        node_id: who it says it is.
        to: whom it wants.
        secret: of the cluster; None when it knows none.
        nonce: its own.
        capabilities: what it lists; empty for a node that lists nothing.
    """

    node_id: str
    to: str
    cluster: str = "pico"
    generation: str = "1750000000000"
    secret: bytes | None = None
    nonce: bytes = field(default_factory=lambda: os.urandom(NONCE_BYTES))
    capabilities: str = ""

    def but(self, **changes: Any) -> Claim:
        """The same claim with something else in it."""
        return replace(self, **changes)

    @property
    def tag(self) -> str:
        """What names the secret."""
        return derived(self.secret or b"", b"pico node link 1 tag", self.cluster, 4).hex()

    def headers(self) -> list[tuple[str, str]]:
        """The fields of its handshake."""
        lines = [
            ("x-pico-cluster", self.cluster),
            ("x-pico-node-id", self.node_id),
            ("x-pico-to", self.to),
            ("x-pico-generation", self.generation),
        ]
        if self.capabilities:
            lines.append(("x-pico-capabilities", self.capabilities))
        if self.secret is not None:
            lines += [("x-pico-nonce", self.nonce.hex()), ("x-pico-key", self.tag)]
        return lines

    def proof(self, role: str, server_nonce: bytes) -> bytes:
        """The proof of one end of this handshake."""
        key = derived(self.secret or b"", b"pico node link 1 key", self.cluster, 32)
        said = joined(
            b"pico node link 1 proof",
            role.encode(),
            self.cluster.encode(),
            self.node_id.encode(),
            self.to.encode(),
            int(self.generation).to_bytes(8, "big"),
            self.nonce,
            server_nonce,
        )
        return hmac.digest(key, said, hashlib.sha256)


class Node(v2.Peer):
    """A link, open; nothing is proven yet.

    Args:
        address: of a gossip port.
        claim: what is said in the handshake.
        subprotocols: what is offered.

    Attributes:
        answer: the head of the 101.

    Raises:
        websocket.Refused: the node wants no such link.
    """

    def __init__(
        self,
        address: tuple[str, int],
        claim: Claim,
        *,
        tls: ssl.SSLContext | None = None,
        subprotocols: tuple[str, ...] = (v2.SUBPROTOCOL,),
    ) -> None:
        socket, self.answer = websocket.connect(
            address, PATH, subprotocols=subprotocols, headers=claim.headers(), tls=tls
        )
        self.claim = claim
        # Its heartbeats are answered once the proof has been sent: nothing may come before that.
        super().__init__(socket, echo=False)

    @property
    def server_nonce(self) -> bytes:
        """The other end's."""
        return bytes.fromhex(self.answer.get("x-pico-nonce") or "")

    @property
    def server_proof(self) -> bytes:
        """The other end's."""
        return bytes.fromhex(self.answer.get("x-pico-proof") or "")

    def prove(self, proof: bytes | None = None) -> int:
        """Send a proof, the right one unless another is given; the ID of its call."""
        call = self.take_id()
        given = self.claim.proof("client", self.server_nonce) if proof is None else proof
        self.send(frames.SYNC, call, 0, sync("proof", given))
        self.echo = True
        return call

    def get(self, endpoint: str) -> int:
        """Open a call for an endpoint; its ID."""
        return self.open_call(f"GET / HTTP/1.1\r\nHost: a.example\r\nx-pico-endpoint: {endpoint}\r\n\r\n".encode())
