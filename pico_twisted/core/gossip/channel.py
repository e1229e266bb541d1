"""A node's packets: challenged, sealed and counted on their way out; opened, read and counted on their way in."""

from __future__ import annotations

from collections.abc import Sequence

from pico_twisted.core.gossip import packets
from pico_twisted.core.gossip.challenge import Challenger
from pico_twisted.core.gossip.members import Member
from pico_twisted.core.gossip.packets import CHALLENGE, FIXED_BYTES, Body
from pico_twisted.core.gossip.sealing import Header, PacketError, Sealer


class PacketChannel:
    """Packets out and in.

    Args:
        sealer: seals and opens packets.
        challenger: makes and checks challenges.
        max_packet_bytes: most bytes of a UDP payload, the seal included.

    Attributes:
        counts: packets, bytes and the like since the start, by name.
    """

    def __init__(self, sealer: Sealer, challenger: Challenger, max_packet_bytes: int) -> None:
        self._sealer = sealer
        self._challenger = challenger
        self._max_packet_bytes = max_packet_bytes
        self._out: list[tuple[bytes, str]] = []
        self.counts: dict[str, int] = {}

    @property
    def room(self) -> int:
        """Bytes of a packet that are left for digest, deltas and wants."""
        return self._max_packet_bytes - self._sealer.overhead - FIXED_BYTES

    def count(self, name: str, by: int = 1) -> None:
        """Count something."""
        self.counts[name] = self.counts.get(name, 0) + by

    def take(self) -> list[tuple[bytes, str]]:
        """Take the packets to be sent, with their addresses."""
        out, self._out = self._out, []
        return out

    def send(
        self,
        kind: int,
        address: str,
        member: Member | None,
        now: float,
        *,
        hops: int = 1,
        digest: Sequence[bytes] = (),
        deltas: Sequence[bytes] = (),
        wants: Sequence[bytes] = (),
    ) -> None:
        """Put a packet among those to be sent.

        Args:
            kind: one of `packets.KINDS`.
            address: where it goes.
            member: what is known of its receiver; None when that is only an address.
            now: monotonic seconds.
            hops: 0 when the receiver is to pass the news on.
            digest: packed items of the digest.
            deltas: packed deltas.
            wants: packed wants.
        """
        body = packets.pack_body(
            kind,
            self._challenger.give(address, now),
            member.challenge if member is not None else b"",
            (member.generation, member.map.version) if member is not None else (0, 0),
            hops,
            digest,
            deltas,
            wants,
        )
        packet = self._sealer.seal(body)
        self.count(f"sent {packets.KINDS[kind]}")
        self.count("sent bytes", len(packet))
        self._out.append((packet, address))

    def receive(self, packet: bytes) -> tuple[Header, Body]:
        """Open and read a packet.

        Raises:
            PacketError: it is not for us, or not well made. That was counted.
        """
        self.count("received bytes", len(packet))
        try:
            header, data = self._sealer.open(packet)
            body = packets.read_body(data)
            own = body.digest[0][:2] if body.digest else None
            if body.kind != CHALLENGE and own != (header.node_id, header.generation):
                raise PacketError("garbage")
        except PacketError as error:
            self.count(f"dropped {error.reason}")
            raise
        self.count(f"received {packets.KINDS[body.kind]}")
        return header, body

    def proves(self, echo: bytes, source: str, now: float) -> bool:
        """Whether an echo proves that its sender is at an address, and that its packet is not an old one.

        Args:
            echo: the challenge that came back.
            source: the address that the packet came from.
            now: monotonic seconds.
        """
        return self._challenger.check(echo, source, now)
