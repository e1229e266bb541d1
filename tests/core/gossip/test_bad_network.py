"""Two, three and more cores on a network that loses, repeats, delays and changes what they tell each other."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from pico_twisted.core.gossip import REASONS, StatusChanged
from tests.core.gossip.gossips import DELAY_S, Wire, views_are_equal
from tests.examples import examples


class Bad:
    """What a bad network does to packets, by chance."""

    def __init__(self, seed: int, severity: float) -> None:
        self._rng = random.Random(seed)
        self._severity = severity

    def __call__(self, packet: bytes, source: str, address: str) -> list[tuple[float, bytes]]:
        rng, arriving = self._rng, []
        for _ in range(rng.choice((1, 1, 1, 2))):
            if rng.random() < self._severity:
                continue
            delay_s = rng.random() * 0.02 if rng.random() < 0.9 else rng.random()
            if rng.random() < self._severity / 2:
                packet = packet[: rng.randrange(len(packet) + 1)]
            if rng.random() < self._severity / 2 and packet:
                changed = bytearray(packet)
                changed[rng.randrange(len(changed))] = rng.randrange(256)
                packet = bytes(changed)
            arriving.append((delay_s, packet))
        return arriving


@given(seed=st.integers(0, 1 << 32), count=st.sampled_from([2, 3]), sealed=st.booleans(), severity=st.floats(0, 0.6))
@settings(max_examples=examples(30))
def test_equal_again_after_anything(seed: int, count: int, sealed: bool, severity: float) -> None:
    """Cores whose packets are lost, repeated, late, cut and changed, while they write and delete, raise nothing; and
    when the network is well again each holds and has told of what the others say. Sealed packets that were changed
    change nothing."""
    wire = Wire(seed=seed)
    secrets = ("s",) if sealed else ()
    cores = [wire.add(f"n{number}", seeds=("n0:1", "n1:1"), secrets=secrets) for number in range(count)]
    rng = random.Random(seed)
    wire.fate = Bad(seed, severity if sealed else severity / 4)
    for _ in range(60):
        core, key = rng.choice(cores), f"endpoint:{rng.randrange(30)}"
        if rng.random() < 0.4:
            core.gossip.delete(key, wire.now)
        else:
            core.gossip.set(key, rng.randrange(5), wire.now)
        wire.run(rng.random() * 0.3)
        for one in cores:
            one.gossip.view._check_invariants()
    wire.fate = lambda packet, source, address: [(DELAY_S, packet)]
    if sealed:
        wire.until(lambda: views_are_equal(cores), 15.0)
        assert {name for core in cores for name in core.gossip.view.members} <= {core.node_id for core in cores}


@given(st.data())
@settings(max_examples=examples(200))
def test_any_packet(data: st.DataObject) -> None:
    """Whatever arrives, from wherever, is taken or dropped for a reason, and draws at most one packet."""
    wire = Wire()
    a, b = wire.add("a"), wire.add("b", seeds=("a:1",))
    wire.run(1.0)
    sent = [packet for _, packet, _ in b.sent + a.sent]
    for _ in range(5):
        packet = bytearray(data.draw(st.sampled_from(sent)))
        for _ in range(data.draw(st.integers(0, 3))):
            packet[data.draw(st.integers(0, len(packet) - 1))] = data.draw(st.integers(0, 255))
        whole = bytes(packet) + data.draw(st.binary(max_size=4))
        a.gossip.packets()
        reason = a.gossip.receive(whole, data.draw(st.sampled_from(["b:1", "evil:1"])), wire.now)
        assert reason is None or reason in REASONS
        assert len(a.gossip.packets()) <= 1
    a.gossip.view._check_invariants()


def test_a_fifth_lost_makes_nobody_unreachable() -> None:
    """With every fifth packet lost, for ten minutes, nobody is ever shown as unreachable."""
    wire, rng = Wire(), random.Random(11)
    cores = wire.some(5)
    wire.fate = lambda packet, source, address: [] if rng.random() < 0.2 else [(DELAY_S, packet)]
    wire.run(600.0)
    assert not [
        one for core in cores for one in core.events if isinstance(one, StatusChanged) and one.status != "active"
    ]


def test_one_way_round() -> None:
    """Two nodes that cannot talk with each other, but both with a third, show each other as active, with all news."""
    wire = Wire()
    cores = wire.some(3)
    wire.fate = lambda packet, source, address: [] if {source, address} == {"n0:1", "n1:1"} else [(DELAY_S, packet)]
    for number in range(60):
        cores[0].gossip.set(f"endpoint:{number}", 1, wire.now)
        wire.run(0.5)
    wire.until(lambda: views_are_equal(cores), 5.0)
    assert cores[1].statuses("n0") == cores[0].statuses("n1") == ["active"]
