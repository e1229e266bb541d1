"""The handshake of a node link: what stands in the heads of both ends, and whether to believe it.

A client says who it is and which node it wants:

    GET /pico/v1/node HTTP/1.1           HTTP/1.1 101 Switching Protocols
    x-pico-cluster: pico                 x-pico-node-id: n1
    x-pico-node-id: n2                   x-pico-nonce: 32 hexadecimal digits
    x-pico-to: n1                        x-pico-proof: 64 hexadecimal digits
    x-pico-generation: 1750000000000
    x-pico-nonce: 32 hexadecimal digits
    x-pico-key: 8 hexadecimal digits

The last two lines of both heads are there when the cluster has secrets. Then the client's first frame is its own proof,
which it gives only to a server that has proven itself. Without secrets the names alone are checked: they keep honest
clusters apart, and stop no attacker.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import attrs

from pico_twisted.core.http1.head import RequestHead, ResponseHead
from pico_twisted.core.links.proof import (
    NONCE_BYTES,
    PROOF_BYTES,
    TAG_BYTES,
    Handshake,
    LinkKey,
    is_proof,
    link_key,
    prove,
)
from pico_twisted.core.protocol_limits import MAX_LINK_GENERATION
from pico_twisted.core.rpc.capabilities import capabilities_of
from pico_twisted.core.rpc.frames import SUBPROTOCOL_V2
from pico_twisted.core.text import NAME_PATTERN

LINK_PATH: Final = b"/pico/v1/node"
"""Path of the request that opens a node link."""

_GENERATION: Final = re.compile(r"0|[1-9][0-9]{0,18}")
_HEX: Final = re.compile(r"[0-9a-f]*")


class HandshakeFault(Exception):
    """A client that is refused.

    Attributes:
        status: of the answer.
        message: for people.
        code: for machines.
    """

    def __init__(self, status: int, message: str, code: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code


class NotThePeer(Exception):
    """A server that is not the node that was dialled, or cannot prove it.

    Attributes:
        reason: `wrong-node`, `proof` or `handshake`, for the counters.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@attrs.frozen(kw_only=True)
class LinkIdentity:
    """Who a node is to the nodes that it talks to over links.

    Attributes:
        cluster: the cluster's name.
        node_id: its own ID.
        generation: of its start.
        keys: of the cluster's secrets, the one that it uses itself first; empty when there are none.
    """

    cluster: str = attrs.field()
    node_id: str = attrs.field()
    generation: int = attrs.field()
    keys: tuple[LinkKey, ...] = ()

    @cluster.validator
    @node_id.validator
    def _check_name(self, _: object, value: str) -> None:
        if not NAME_PATTERN.fullmatch(value):
            raise ValueError("a name is 1 to 64 of A-Z a-z 0-9 . _ -")

    @generation.validator
    def _check_generation(self, _: object, value: int) -> None:
        if not 0 <= value <= MAX_LINK_GENERATION:
            raise ValueError("a generation is between 0 and 2^63 - 1")


def link_keys(secrets: Sequence[bytes], cluster: str) -> tuple[LinkKey, ...]:
    """The keys of a cluster's secrets, in their order."""
    return tuple(link_key(secret, cluster) for secret in secrets)


class ClientHandshake:
    """The handshake as the node that connects sees it.

    Args:
        identity: its own.
        server_id: the node that it wants.
        nonce: `NONCE_BYTES` random bytes, never used before.
    """

    def __init__(self, identity: LinkIdentity, server_id: str, nonce: bytes) -> None:
        self._identity = identity
        self._server_id = server_id
        self._nonce = nonce
        self._key = identity.keys[0] if identity.keys else None

    def headers(self) -> dict[str, str]:
        """What goes into the head of the request."""
        identity = self._identity
        headers = {
            "x-pico-cluster": identity.cluster,
            "x-pico-node-id": identity.node_id,
            "x-pico-to": self._server_id,
            "x-pico-generation": str(identity.generation),
        }
        if self._key is not None:
            headers["x-pico-nonce"] = self._nonce.hex()
            headers["x-pico-key"] = self._key.tag
        return headers

    def check(self, answer: ResponseHead) -> bytes | None:
        """Decide whether a 101 comes from the node that is wanted.

        Returns:
            The client's proof, to be sent before anything else; None when the cluster has no secrets.

        Raises:
            NotThePeer: nothing more may be sent.
        """
        if _one(answer, b"sec-websocket-protocol") != SUBPROTOCOL_V2:
            raise NotThePeer("handshake", "the node did not select version 2 of the protocol")
        if _one(answer, b"x-pico-node-id") != self._server_id:
            raise NotThePeer("wrong-node", "another node answers at this address")
        if self._key is None:
            return None
        server_nonce = _hex(_one(answer, b"x-pico-nonce"), NONCE_BYTES)
        given = _hex(_one(answer, b"x-pico-proof"), PROOF_BYTES)
        if server_nonce is None or given is None:
            raise NotThePeer("proof", "the node did not prove that it knows the cluster's secret")
        identity = self._identity
        handshake = Handshake(
            cluster=identity.cluster,
            client_id=identity.node_id,
            server_id=self._server_id,
            generation=identity.generation,
            client_nonce=self._nonce,
            server_nonce=server_nonce,
        )
        if not is_proof(given, self._key, "server", handshake):
            raise NotThePeer("proof", "the node could not prove that it knows the cluster's secret")
        return prove(self._key, "client", handshake)


class ServerHandshake:
    """The handshake as the node that was connected to sees it; made when the client's head is one to accept.

    Args:
        identity: the server's own.
        head: of the client's request, for the right path.
        nonce: `NONCE_BYTES` random bytes, never used before.

    Attributes:
        node_id: who the client says it is.
        generation: of the client, as it says.
        capabilities: of the client, as it says.
        proves: the client has yet to prove it, with its first frame.

    Raises:
        HandshakeFault: the client is to be refused.
    """

    def __init__(self, identity: LinkIdentity, head: RequestHead, nonce: bytes) -> None:
        cluster = _name(head, b"x-pico-cluster")
        self.node_id = _name(head, b"x-pico-node-id")
        wanted = _name(head, b"x-pico-to")
        self.generation = _generation(head)
        self.capabilities = capabilities_of(head)
        if cluster != identity.cluster:
            raise HandshakeFault(403, "this node is in a cluster of another name", "wrong-cluster")
        if wanted != identity.node_id:
            raise HandshakeFault(403, "this node has another ID", "wrong-node")
        if self.node_id == identity.node_id:
            raise HandshakeFault(403, "this node has that ID itself", "wrong-node")
        client_nonce, tag = _one(head, b"x-pico-nonce"), _one(head, b"x-pico-key")
        self._identity = identity
        self._key: LinkKey | None = None
        self.proves = bool(identity.keys)
        if not identity.keys:
            if client_nonce or tag:
                raise HandshakeFault(401, "this node knows no cluster secret", "unauthenticated")
            return
        if not client_nonce or not tag:
            raise HandshakeFault(401, "a proof of the cluster secret is needed", "unauthenticated")
        parsed = _hex(client_nonce, NONCE_BYTES)
        if parsed is None or _hex(tag, TAG_BYTES) is None:
            raise HandshakeFault(400, "malformed x-pico-nonce or x-pico-key", "bad-request")
        self._key = next((key for key in identity.keys if key.tag == tag), None)
        if self._key is None:
            raise HandshakeFault(401, "this node does not know that cluster secret", "unauthenticated")
        self._handshake = Handshake(
            cluster=identity.cluster,
            client_id=self.node_id,
            server_id=identity.node_id,
            generation=self.generation,
            client_nonce=parsed,
            server_nonce=nonce,
        )

    def headers(self) -> dict[str, str]:
        """What goes into the head of the 101."""
        headers = {"x-pico-node-id": self._identity.node_id}
        if self._key is not None:
            headers["x-pico-nonce"] = self._handshake.server_nonce.hex()
            headers["x-pico-proof"] = prove(self._key, "server", self._handshake).hex()
        return headers

    def accepts(self, proof: bytes) -> bool:
        """Whether this is the client's proof."""
        return self._key is not None and is_proof(proof, self._key, "client", self._handshake)


def _one(head: RequestHead | ResponseHead, name: bytes) -> str | None:
    """The value of a field that may stand in a head once; None when it is absent.

    A client that repeats one is refused. In an answer a repeated one counts as wrong, as no value of ours has a comma.
    """
    values = [value.decode("ascii", "replace") for lower, _, value in head.fields if lower == name]
    if len(values) > 1:
        if isinstance(head, RequestHead):
            raise HandshakeFault(400, f"repeated {name.decode('ascii')}", "bad-request")
        return ", ".join(values)
    return values[0] if values else None


def _name(head: RequestHead, name: bytes) -> str:
    value = _one(head, name)
    if value is None or not NAME_PATTERN.fullmatch(value):
        raise HandshakeFault(400, f"{name.decode('ascii')} is 1 to 64 of A-Z a-z 0-9 . _ -", "bad-request")
    return value


def _generation(head: RequestHead) -> int:
    value = _one(head, b"x-pico-generation")
    if value is None or not _GENERATION.fullmatch(value) or int(value) > MAX_LINK_GENERATION:
        raise HandshakeFault(400, "x-pico-generation is a number below 2^63", "bad-request")
    return int(value)


def _hex(value: str | None, size: int) -> bytes | None:
    """Read `size` bytes from lower-case hexadecimal. None when the text is not that."""
    if value is None or len(value) != 2 * size or not _HEX.fullmatch(value):
        return None
    return bytes.fromhex(value)
