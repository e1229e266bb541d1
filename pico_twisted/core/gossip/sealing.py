"""How packets are sealed, and which are opened: AES-256-GCM, keys by HKDF, a replay window for each sender.

The header of a packet is clear and authenticated. A sender's key is derived from the secret, the cluster's name and
what its header says of it: node ID, generation, and eight random bytes of its start. So no two starts share a key,
whatever the clocks do, and the sequence number can be the nonce. The first secret seals; all of them open, which is how
a secret is changed without a stop: the new one is added everywhere, then moved to the front everywhere, then the old
one goes.

Without secrets the same header is there and nothing is sealed.

What cannot be helped: anybody who has a secret is believed. What is: a packet that was recorded cannot be used again,
since its sequence number is in the window of 64 or below it (RFC 4303 3.4.3). Windows are kept for a bounded number of
senders whose packets opened.
"""

from __future__ import annotations

import hashlib
import struct
from collections import OrderedDict
from typing import Final

import attrs
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from pico_twisted.core.protocol_limits import MAX_GENERATION

FORMAT: Final = 1
"""The version of the packet format, the first byte of each packet."""
SEAL_BYTES: Final = 16
"""Bytes that a seal adds to a packet."""
RANDOM_BYTES: Final = 8
"""Random bytes in a packet's header, drawn once at the start of a process."""
MAX_ID_BYTES: Final = 64
"""Most bytes of a node ID."""
WINDOW: Final = 64
"""Number of sequence numbers, up to the highest that came, among which a repeated one is recognised."""
MAX_SENDERS: Final = 4096
"""Most senders whose window and key are kept; one takes about half a kilobyte."""

_HEADER: Final = struct.Struct(">BB4s4s8sQQ")
HEADER_BYTES: Final = _HEADER.size
"""Bytes of a packet's header, without the node ID."""
_NOT_SEALED: Final = b"\0\0\0\0"
_NONCE: Final = struct.Struct(">4xQ")
_TOP: Final = 1 << 63


class PacketError(Exception):
    """A packet that is dropped.

    Attributes:
        reason: one of `REASONS`, for the counters.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


REASONS: Final = ("garbage", "format", "cluster", "secret", "seal", "replay", "own")
"""Why packets are dropped: no packet of ours; another format; another cluster; sealed with a secret that we do not
have, or not sealed though it must be; a seal that does not fit; seen before; sent by ourselves."""


@attrs.frozen(slots=True)
class Header:
    """Who sent a packet."""

    node_id: str
    generation: int
    random: bytes
    sequence: int


@attrs.define(slots=True)
class _Sender:
    key: AESGCM | None
    highest: int = 0
    seen: int = 0  # bit n: the packet `highest - n` came

    def is_new(self, sequence: int) -> bool:
        """Whether a sequence number was not used yet, as far as can be told; if so it is used now."""
        ahead = sequence - self.highest
        if ahead > 0:
            self.seen = ((self.seen << ahead) | 1) & ((1 << WINDOW) - 1) if ahead < WINDOW else 1
            self.highest = sequence
            return True
        if -ahead >= WINDOW:
            return False
        bit = 1 << -ahead
        if self.seen & bit:
            return False
        self.seen |= bit
        return True


class Sealer:
    """Makes the packets of one node, and opens those of others.

    Args:
        cluster: the cluster's name.
        secrets: of the cluster; the first one seals.
        node_id: of this node, at most 64 bytes.
        generation: of this node.
        random: 8 bytes of this start.
    """

    def __init__(self, cluster: str, secrets: tuple[str, ...], node_id: str, generation: int, random: bytes) -> None:
        if len(random) != RANDOM_BYTES or not 0 < len(node_id.encode()) <= MAX_ID_BYTES:
            raise ValueError("eight random bytes, and an ID of 1 to 64 bytes")
        self._cluster = cluster.encode()
        self._cluster_tag = hashlib.sha256(b"pico gossip cluster\0" + self._cluster).digest()[:4]
        self._node_id = node_id
        self._id_bytes = node_id.encode()
        self._random = random
        self._sequence = 0
        self._senders: OrderedDict[tuple[str, int, bytes], _Sender] = OrderedDict()
        self.generation = generation
        self.set_secrets(secrets)

    def set_secrets(self, secrets: tuple[str, ...]) -> None:
        """Take other secrets. Senders whose secret is gone are not opened any more."""
        self._secrets = {_key_tag(secret, self._cluster): secret.encode() for secret in reversed(secrets)}
        self._own_tag = _key_tag(secrets[0], self._cluster) if secrets else _NOT_SEALED
        for place in [place for place in self._senders if not self._opens(place[2][RANDOM_BYTES:])]:
            del self._senders[place]
        self.set_generation(self.generation)

    def set_generation(self, generation: int) -> None:
        """Go on as another generation of this node."""
        self.generation = generation
        own = Header(self._node_id, generation, self._random, 0)
        self._own_key = self._derive(self._own_tag, own) if self._secrets else None

    @property
    def overhead(self) -> int:
        """Bytes of a packet that are not its body."""
        return HEADER_BYTES + len(self._id_bytes) + (SEAL_BYTES if self._own_key is not None else 0)

    @property
    def senders(self) -> int:
        """Replay windows that are kept, at most `MAX_SENDERS`."""
        return len(self._senders)

    def seal(self, body: bytes) -> bytes:
        """A packet around a body."""
        self._sequence += 1
        header = (
            _HEADER.pack(
                FORMAT,
                len(self._id_bytes),
                self._cluster_tag,
                self._own_tag,
                self._random,
                self.generation,
                self._sequence,
            )
            + self._id_bytes
        )
        if self._own_key is None:
            return header + body
        return header + self._own_key.encrypt(_NONCE.pack(self._sequence), body, header)

    def open(self, packet: bytes) -> tuple[Header, bytes]:
        """Who sent a packet, and its body.

        Raises:
            PacketError: it is to be dropped.
        """
        header, key_tag, end = self._read_header(packet)
        place = (header.node_id, header.generation, header.random + key_tag)
        known = self._senders.get(place)
        sender = known or self._new_sender(key_tag, header)
        body = packet[end:]
        if sender.key is not None:
            try:
                body = sender.key.decrypt(_NONCE.pack(header.sequence), body, packet[:end])
            except (InvalidTag, ValueError):
                raise PacketError("seal") from None
        if not sender.is_new(header.sequence):
            raise PacketError("replay")
        self._senders[place] = sender
        self._senders.move_to_end(place)
        if len(self._senders) > MAX_SENDERS:
            self._senders.popitem(last=False)
        return header, body

    def _read_header(self, packet: bytes) -> tuple[Header, bytes, int]:
        """The header of a packet, which secret it is sealed with, and where its body begins."""
        if packet and packet[0] != FORMAT:
            raise PacketError("format")
        if len(packet) < HEADER_BYTES:
            raise PacketError("garbage")
        _, id_bytes, cluster_tag, key_tag, random, generation, sequence = _HEADER.unpack_from(packet)
        end = HEADER_BYTES + id_bytes
        if not (0 < id_bytes <= MAX_ID_BYTES and end <= len(packet)):
            raise PacketError("garbage")
        if generation > MAX_GENERATION or not 0 < sequence < _TOP:
            raise PacketError("garbage")
        if cluster_tag != self._cluster_tag:
            raise PacketError("cluster")
        try:
            node_id = packet[HEADER_BYTES:end].decode()
        except UnicodeDecodeError:
            raise PacketError("garbage") from None
        if not node_id.isprintable():
            raise PacketError("garbage")
        if node_id == self._node_id and random == self._random:
            raise PacketError("own")
        return Header(node_id, generation, random, sequence), key_tag, end

    def _new_sender(self, key_tag: bytes, header: Header) -> _Sender:
        if not self._opens(key_tag):
            raise PacketError("secret")
        return _Sender(self._derive(key_tag, header) if self._secrets else None)

    def _opens(self, key_tag: bytes) -> bool:
        return key_tag in self._secrets if self._secrets else key_tag == _NOT_SEALED

    def _derive(self, key_tag: bytes, header: Header) -> AESGCM:
        node_id = header.node_id.encode()
        info = b"pico gossip key\0" + struct.pack(
            f">B{len(self._cluster)}sB{len(node_id)}sQ8s",
            len(self._cluster),
            self._cluster,
            len(node_id),
            node_id,
            header.generation,
            header.random,
        )
        return AESGCM(HKDF(SHA256(), 32, salt=None, info=info).derive(self._secrets[key_tag]))


def _key_tag(secret: str, cluster: bytes) -> bytes:
    """Which secret a packet is sealed with; tells nothing of the secret."""
    tag = HKDF(SHA256(), 4, salt=None, info=b"pico gossip key tag\0" + cluster).derive(secret.encode())
    return tag if tag != _NOT_SEALED else b"\0\0\0\1"
