"""What is sealed, and what is opened."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pico_twisted.core.gossip.sealing import (
    HEADER_BYTES,
    MAX_ID_BYTES,
    MAX_SENDERS,
    WINDOW,
    PacketError,
    Sealer,
)
from pico_twisted.core.protocol_limits import MAX_GENERATION
from tests.examples import examples

SECRETS = ("correct horse",)


def sealer(node_id: str, secrets: tuple[str, ...] = SECRETS, cluster: str = "pico", generation: int = 7) -> Sealer:
    """A node's sealer; nodes of different IDs have different random bytes."""
    return Sealer(cluster, secrets, node_id, generation, node_id.encode().ljust(8, b"!")[:8])


def reason(receiver: Sealer, packet: bytes) -> str:
    """Why a packet is dropped; "" when it is not."""
    try:
        receiver.open(packet)
    except PacketError as error:
        return error.reason
    return ""


@given(secrets=st.sampled_from([(), SECRETS]), body=st.binary(max_size=1400))
@settings(max_examples=examples(50))
def test_there_and_back(secrets: tuple[str, ...], body: bytes) -> None:
    """A packet opens to its sender and its body, and takes as much more as was said."""
    a, b = sealer("a", secrets), sealer("b", secrets)
    packet = a.seal(body)
    header, opened = b.open(packet)
    assert opened == body and (header.node_id, header.generation, header.sequence) == ("a", 7, 1)
    assert len(packet) == len(body) + a.overhead


def test_nothing_of_a_sealed_body_is_in_the_clear() -> None:
    """The body cannot be read without the secret."""
    assert b"endpoint:secret-service" not in sealer("a").seal(b"endpoint:secret-service")


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (sealer("a", ("wrong",)), "secret"),
        (sealer("a", ()), "secret"),
        (sealer("a", cluster="other"), "cluster"),
        (sealer("a", (), cluster="other"), "cluster"),
    ],
)
def test_not_ours(other: Sealer, why: str) -> None:
    """Packets of another secret, of none, or of another cluster are dropped, and nothing is kept of them."""
    b = sealer("b")
    assert reason(b, other.seal(b"body")) == why and b.senders == 0


def test_sealed_is_not_read_without_secrets() -> None:
    """A node without secrets does not take what is sealed."""
    assert reason(sealer("b", ()), sealer("a").seal(b"body")) == "secret"


@given(st.integers(0, 10_000), st.integers(1, 255))
@settings(max_examples=examples(300))
def test_any_flipped_bit(position: int, flip: int) -> None:
    """A sealed packet with any of its bytes changed is dropped, and the true one is still taken after it."""
    a, b = sealer("a"), sealer("b")
    packet = bytearray(a.seal(b"some body"))
    true = bytes(packet)
    packet[position % len(packet)] ^= flip
    assert reason(b, bytes(packet)) in {"garbage", "format", "cluster", "secret", "seal"}
    assert b.senders == 0 and reason(b, true) == ""


@given(st.integers(0, 10_000))
@settings(max_examples=examples(100))
def test_cut_anywhere(length: int) -> None:
    """A sealed packet that was cut is dropped."""
    packet = sealer("a").seal(b"some body")
    assert reason(sealer("b"), packet[: length % len(packet)]) in {"garbage", "seal"}


@given(st.binary(max_size=200), st.booleans())
@settings(max_examples=examples(500))
def test_any_bytes(data: bytes, begins_well: bool) -> None:
    """Whatever comes, it opens or is dropped for one of the reasons; nothing else is raised."""
    for secrets in ((), SECRETS):
        b = sealer("b", secrets)
        begin = sealer("a", secrets).seal(b"")[: len(data) % (HEADER_BYTES + 1)] if begins_well else b""
        reason(b, begin + data)


def test_own_packets() -> None:
    """A packet that comes back to its sender is dropped; one of another process with our ID is not."""
    a, twin = sealer("a"), Sealer("pico", SECRETS, "a", 8, b"another!")
    assert reason(a, a.seal(b"")) == "own"
    assert reason(a, twin.seal(b"")) == ""


def test_window() -> None:
    """Each packet is taken once; late ones are, while they are fewer than 64 behind."""
    a, b = sealer("a"), sealer("b")
    packets = [a.seal(b"") for _ in range(2 * WINDOW)]
    assert reason(b, packets[WINDOW]) == ""
    assert reason(b, packets[WINDOW]) == "replay"
    assert reason(b, packets[1]) == ""  # 63 behind
    assert reason(b, packets[0]) == "replay"  # 64 behind
    assert reason(b, packets[1]) == "replay"
    assert reason(b, packets[-1]) == ""  # 63 ahead: the highest one before is still remembered
    assert reason(b, packets[WINDOW]) == "replay" and reason(b, packets[WINDOW + 1]) == ""
    for _ in range(500):
        far = a.seal(b"")
    assert reason(b, far) == "" and reason(b, packets[-2]) == "replay"


def test_numbers_far_apart() -> None:
    """Numbers as far apart as they can be cost nothing, whichever comes first."""
    a, b = sealer("a", ()), sealer("b", ())
    low = a.seal(b"")
    a._sequence = (1 << 63) - 2
    assert reason(b, a.seal(b"")) == "" and reason(b, low) == "replay"


@given(st.lists(st.integers(0, 149), max_size=300))
@settings(max_examples=examples(100))
def test_nothing_is_taken_twice(order: list[int]) -> None:
    """In whatever order packets come, and how often, none is taken twice, and each that is new and near is taken."""
    a, b = sealer("a", ()), sealer("b", ())
    packets = [a.seal(b"") for _ in range(150)]
    taken: set[int] = set()
    for number in order:
        new = reason(b, packets[number]) == ""
        assert new == (number not in taken and number > max(taken, default=-1) - WINDOW)
        if new:
            taken.add(number)


def test_forged_packets_do_not_move_the_window() -> None:
    """What did not open does not count as seen."""
    a, b = sealer("a"), sealer("b")
    first, second = a.seal(b"x"), a.seal(b"x")
    assert reason(b, second[:-1] + bytes([second[-1] ^ 1])) == "seal"
    assert reason(b, first) == "" and reason(b, second) == ""


def test_bounded_memory() -> None:
    """Windows are kept for a bounded number of senders; who was heard of last is kept."""
    b, a = sealer("b", ()), sealer("a", ())
    assert reason(b, a.seal(b"")) == ""
    for number in range(MAX_SENDERS + 10):
        other = Sealer("pico", (), f"n{number}", 1, b"12345678")
        assert reason(b, other.seal(b"")) == ""
        if number % 1000 == 0:
            packet = a.seal(b"")
            assert reason(b, packet) == ""
    assert b.senders == MAX_SENDERS and reason(b, packet) == "replay"


def test_rotation_without_a_stop() -> None:
    """A new secret is added behind, moved to the front, and the old one taken away; at each step each node opens what
    the others seal, whether they have made the step or not."""
    steps = [("old",), ("old", "new"), ("new", "old"), ("new",)]
    nodes = [sealer(name, steps[0]) for name in "abc"]
    for step in steps[1:]:
        for node in nodes:
            node.set_secrets(step)
            for sender in nodes:
                packet = sender.seal(b"body")
                for receiver in nodes:
                    if receiver is not sender:
                        assert reason(receiver, packet) == ""
                        assert reason(receiver, packet) == "replay"
    assert reason(nodes[0], sealer("z", ("old",)).seal(b"")) == "secret"


def test_from_unsealed_to_sealed_and_back() -> None:
    """A node that is given its first secret seals, and opens nothing else from then on; and the other way round."""
    a, b = sealer("a", ()), sealer("b", ())
    plain = a.seal(b"")
    assert reason(b, plain) == ""
    b.set_secrets(SECRETS)
    assert b.senders == 0
    assert reason(b, a.seal(b"")) == "secret" and reason(a, b.seal(b"")) == "secret"
    a.set_secrets(SECRETS)
    assert reason(b, a.seal(b"")) == "" and reason(a, b.seal(b"")) == ""
    for node in (a, b):
        node.set_secrets(())
    packet = a.seal(b"clear")
    assert packet.endswith(b"clear") and reason(b, packet) == ""


def test_another_generation() -> None:
    """A node that takes another generation is opened as that, and its old packets are still told from new ones."""
    a, b = sealer("a"), sealer("b")
    old = a.seal(b"")
    a.set_generation(99)
    header, _ = b.open(a.seal(b""))
    assert (header.generation, header.sequence) == (99, 2)
    assert reason(b, old) == "" and reason(b, old) == "replay"


def test_no_two_starts_share_a_key() -> None:
    """Two starts with the same ID and clock seal the same body with the same number differently."""
    one, two = (Sealer("pico", SECRETS, "a", 7, random) for random in (b"11111111", b"22222222"))
    assert one.seal(b"body")[HEADER_BYTES + 1 :] != two.seal(b"body")[HEADER_BYTES + 1 :]


@pytest.mark.parametrize("node_id", ["", "x" * (MAX_ID_BYTES + 1), "ü" * 33])
def test_ids_that_do_not_fit(node_id: str) -> None:
    """IDs are 1 to 64 bytes."""
    with pytest.raises(ValueError, match="64"):
        Sealer("pico", (), node_id, 1, b"12345678")


def test_generation_that_nobody_could_supersede() -> None:
    """A packet with a generation above all that a clock shows is no packet."""
    a = Sealer("pico", (), "a", MAX_GENERATION, b"12345678")
    assert reason(sealer("b", ()), a.seal(b"")) == ""
    a.set_generation(MAX_GENERATION + 1)
    assert reason(sealer("b", ()), a.seal(b"")) == "garbage"
