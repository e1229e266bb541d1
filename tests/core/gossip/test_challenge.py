"""Who proves its address, and what a packet draws."""

from __future__ import annotations

from pico_twisted.core.gossip import Gossip
from pico_twisted.core.gossip.challenge import EPOCH_S, Challenger
from pico_twisted.core.gossip.packets import CHALLENGE, DELTA, REPLY, SYN, Body, read_body
from pico_twisted.core.gossip.sealing import Sealer
from tests.core.gossip.gossips import Core, Wire


def body_of(packet: bytes, secrets: tuple[str, ...] = ()) -> Body:
    """What a packet says."""
    return read_body(Sealer("pico", secrets, "reader", 0, b"readerxx").open(packet)[1])


def drawn(wire: Wire, gossip: Gossip, packet: bytes, source: str) -> list[tuple[Body, str]]:
    """What a packet draws: the answers and their addresses."""
    gossip.packets()
    gossip.receive(packet, source, wire.now)
    return [(body_of(answer), address) for answer, address in gossip.packets()]


def test_challenge_is_good_for_its_address_for_a_while() -> None:
    """What was given to an address counts from there alone, for one to two minutes."""
    challenger = Challenger(b"k" * 32)
    given = challenger.give("1.2.3.4:5", 1000.0)
    assert len(given) == 8
    assert challenger.check(given, "1.2.3.4:5", 1000.0 + EPOCH_S)
    assert not challenger.check(given, "1.2.3.4:6", 1000.0)
    assert not challenger.check(given, "1.2.3.4:5", 1000.0 + 2 * EPOCH_S)
    assert not challenger.check(b"", "1.2.3.4:5", 1000.0) and not challenger.check(given[:7], "1.2.3.4:5", 1000.0)


def test_challenge_of_another_start() -> None:
    """Another start does not know what the last one gave."""
    assert not Challenger(b"a" * 32).check(Challenger(b"b" * 32).give("x:1", 5.0), "x:1", 5.0)


def test_a_strangers_syn_draws_a_challenge_to_its_source_alone(wire: Wire) -> None:
    """A packet from a place that is not proven draws one small packet, to that place, and nothing is noted of it."""
    a, b = wire.add("a"), wire.add("b", seeds=("a:1",))
    b.gossip.tick(wire.now)
    ((syn, _),) = b.gossip.packets()
    ((answer, address),) = drawn(wire, a.gossip, syn, "victim:9")
    assert answer.kind == CHALLENGE and address == "victim:9" and not answer.digest and not answer.deltas
    assert not a.gossip.view.members and not a.gossip.view.unconfirmed


def test_a_challenge_is_smaller_than_what_draws_it() -> None:
    """No forged packet is amplified."""
    for secrets in ((), ("s",)):
        wire = Wire()
        a, b = wire.add("a", secrets=secrets), wire.add("b", secrets=secrets, seeds=("a:1",))
        b.gossip.tick(wire.now)
        ((syn, _),) = b.gossip.packets()
        a.gossip.packets()
        a.gossip.receive(syn, "victim:9", wire.now)
        ((challenge, _),) = a.gossip.packets()
        assert len(challenge) <= len(syn)


def test_only_a_syn_draws_anything_from_the_unproven(wire: Wire) -> None:
    """Replies, deltas and challenges from a place that is not proven draw nothing."""
    a, b = wire.some(2)
    wire.run(5.0)
    recorded: dict[int, bytes] = {}
    for _, packet, address in b.sent:
        if address == "a:1" or address == a.address:
            recorded[body_of(packet).kind] = packet
    fresh = wire.add("n0", address="other:1")  # the same ID at its next start: it never gave a challenge to anybody
    for kind in (REPLY, DELTA, CHALLENGE):
        if kind in recorded:
            assert drawn(wire, fresh.gossip, recorded[kind], "victim:9") == []
    assert SYN in recorded and REPLY in recorded


def test_the_known_address_of_a_node_is_answered_without_an_echo(wire: Wire) -> None:
    """A node whose challenge has become too old is answered at the address that it advertises, and nowhere else."""
    a, b = wire.some(2)
    wire.run(2.0)
    wire.cores.pop(a.address)
    wire.run(3 * EPOCH_S)  # meanwhile what a gave has become too old
    syn = next(packet for _, packet, address in reversed(b.sent) if address == a.address)
    b.gossip.packets()
    assert [answer.kind for answer, _ in drawn(wire, a.gossip, syn, b.address)] == [REPLY]
    again = next(packet for _, packet, address in reversed(b.sent[:-1]) if address == a.address and packet != syn)
    answers = drawn(wire, a.gossip, again, "victim:9")
    assert [answer.kind for answer, _ in answers] == [CHALLENGE]


def test_recorded_packets_make_nobody_young(wire: Wire) -> None:
    """Packets of before, sent again at a node that has just started, tell of nobody as alive: what they say of how
    young a heartbeat is was true once."""
    cores = wire.some(3)
    wire.run(5.0)
    recorded = [packet for _, packet, _ in cores[1].sent]
    wire.end(cores[2])
    wire.run(400.0)
    assert cores[0].status("n2") is None
    late = wire.add("late", seeds=("n0:1",))
    wire.until(lambda: late.status("n1") == "active")
    wire.end(cores[1])  # so that none of its own packets moves the window
    for packet in recorded:
        wire.inject(packet, "n1:1", late.address)
        wire.run(0.1)
    assert late.status("n2") is None and "active" not in late.statuses("n2")
    assert late.status("n1") == "unreachable"


def test_at_most_one_packet_each() -> None:
    """Whatever a node of the cluster sends, it draws at most one packet, and to where it came from."""

    class Counted(Wire):
        def deliver(self, core: Core, packet: bytes, source: str) -> None:
            self.take(core)
            before = len(core.sent)
            super().deliver(core, packet, source)
            drawn = core.sent[before:]
            assert len(drawn) <= 1 and all(address == source for _, _, address in drawn)

    wire = Counted()
    cores = wire.some(5)
    for number in range(200):
        cores[number % 5].gossip.set(f"endpoint:e{number}", 1, wire.now)
        wire.run(0.05)
    assert all(len(one.keys("n0")) == len(cores[0].gossip.view.own.map.values()) for one in cores[1:])
