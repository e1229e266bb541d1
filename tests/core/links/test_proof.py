"""The proof of a secret between two nodes: good for one handshake, one end and one pair of nodes."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

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
from tests.peers.link import Claim, derived

SECRET = b"a secret of sixteen bytes or more"
KEY = link_key(SECRET, "pico")
GOOD = Handshake(
    cluster="pico",
    client_id="n2",
    server_id="n1",
    generation=1_750_000_000_000,
    client_nonce=bytes(range(16)),
    server_nonce=bytes(range(16, 32)),
)
OTHERS: list[dict[str, Any]] = [
    {"cluster": "pico2"},
    {"cluster": ""},
    {"client_id": "n3"},
    {"server_id": "n3"},
    {"client_id": "n1", "server_id": "n2"},
    {"generation": GOOD.generation + 1},
    {"generation": 0},
    {"client_nonce": bytes(16)},
    {"server_nonce": bytes(16)},
    {"client_nonce": GOOD.server_nonce, "server_nonce": GOOD.client_nonce},
]

names = st.text("abcN1._-", min_size=1, max_size=8)
handshakes = st.builds(
    Handshake,
    cluster=names,
    client_id=names,
    server_id=names,
    generation=st.integers(0, 2**63 - 1),
    client_nonce=st.binary(min_size=16, max_size=16),
    server_nonce=st.binary(min_size=16, max_size=16),
)


class TestKeys:
    """What becomes of a secret."""

    def test_the_same_everywhere(self) -> None:
        """Two nodes with one secret have one key, also if they run other versions of this code: the bytes are fixed."""
        assert link_key(SECRET, "pico") == KEY
        assert KEY.key == derived(SECRET, b"pico node link 1 key", "pico", 32)
        assert KEY.tag == "b719b3e8"

    @given(st.binary(min_size=1, max_size=64), st.binary(min_size=1, max_size=64), names, names)
    def test_another_secret_or_cluster_is_another_key(self, one: bytes, two: bytes, here: str, there: str) -> None:
        """Neither secret nor cluster can be exchanged for another."""
        keys = {link_key(secret, name).key for secret in {one, two} for name in {here, there}}
        assert len(keys) == len({one, two}) * len({here, there})

    @given(st.binary(min_size=1, max_size=40), names)
    def test_the_tag_says_nothing_of_the_key(self, secret: bytes, cluster: str) -> None:
        """It is no part of the key, has the length that it is said to have, and neither is shown in a log."""
        key = link_key(secret, cluster)
        assert len(bytes.fromhex(key.tag)) == TAG_BYTES
        assert not key.key.hex().startswith(key.tag)
        assert key.key.hex() not in repr(key) and repr(key.key) not in repr(key)

    def test_an_empty_secret(self) -> None:
        """It would be a key that everybody has."""
        with pytest.raises(ValueError, match="empty"):
            link_key(b"", "pico")


class TestProof:
    """Who is believed."""

    @given(handshakes, st.binary(min_size=1, max_size=40))
    def test_as_it_is_written_down(self, handshake: Handshake, secret: bytes) -> None:
        """A node that was written from the description alone comes to the same proofs."""
        claim = Claim(
            node_id=handshake.client_id,
            to=handshake.server_id,
            cluster=handshake.cluster,
            generation=str(handshake.generation),
            secret=secret,
            nonce=handshake.client_nonce,
        )
        key = link_key(secret, handshake.cluster)
        assert claim.tag == key.tag
        assert claim.proof("client", handshake.server_nonce) == prove(key, "client", handshake)
        assert claim.proof("server", handshake.server_nonce) == prove(key, "server", handshake)

    @given(handshakes, st.binary(min_size=1, max_size=40))
    def test_both_roles(self, handshake: Handshake, secret: bytes) -> None:
        """An end that knows the secret is believed, in its own role only."""
        key = link_key(secret, handshake.cluster)
        client, server = prove(key, "client", handshake), prove(key, "server", handshake)
        assert len(client) == len(server) == PROOF_BYTES and client != server
        assert is_proof(client, key, "client", handshake) and is_proof(server, key, "server", handshake)
        assert not is_proof(server, key, "client", handshake) and not is_proof(client, key, "server", handshake)

    @pytest.mark.parametrize("change", OTHERS, ids=str)
    @pytest.mark.parametrize("role", ["client", "server"])
    def test_anything_else_differs(self, role: Any, change: dict[str, Any]) -> None:
        """A proof for other names, another generation or other nonces is none: it cannot be used a second time."""
        assert not is_proof(prove(KEY, role, attrs.evolve(GOOD, **change)), KEY, role, GOOD)

    @given(handshakes, handshakes)
    def test_no_two_handshakes_share_a_proof(self, one: Handshake, two: Handshake) -> None:
        """Names and numbers that stand side by side do not run into each other."""
        assert (prove(KEY, "client", one) == prove(KEY, "client", two)) == (one == two)

    def test_letters_that_move_between_the_names(self) -> None:
        """`ab` and `c` is not `a` and `bc`."""
        one = attrs.evolve(GOOD, client_id="ab", server_id="c")
        two = attrs.evolve(GOOD, client_id="a", server_id="bc")
        assert prove(KEY, "client", one) != prove(KEY, "client", two)

    @given(st.binary(max_size=80))
    def test_any_bytes(self, given_bytes: bytes) -> None:
        """Whatever is given instead of a proof is refused, of whatever length."""
        assert not is_proof(given_bytes, KEY, "client", GOOD)

    @given(st.integers(0, PROOF_BYTES * 8 - 1))
    def test_one_wrong_bit(self, bit: int) -> None:
        """Nearly right is wrong."""
        proof = bytearray(prove(KEY, "client", GOOD))
        proof[bit // 8] ^= 1 << bit % 8
        assert not is_proof(bytes(proof), KEY, "client", GOOD)
        assert not is_proof(bytes(proof[:-1]), KEY, "client", GOOD)

    @given(st.binary(min_size=1, max_size=40).filter(lambda secret: secret != SECRET))
    def test_another_secret(self, secret: bytes) -> None:
        """Nobody proves a secret with another one, even if the tags were the same."""
        other = LinkKey(key=link_key(secret, "pico").key, tag=KEY.tag)
        assert not is_proof(prove(other, "client", GOOD), KEY, "client", GOOD)


@pytest.mark.parametrize(
    "change",
    [
        {"client_nonce": bytes(NONCE_BYTES - 1)},
        {"server_nonce": bytes(NONCE_BYTES + 1)},
        {"client_nonce": b""},
        {"generation": -1},
        {"generation": 2**63},
    ],
    ids=str,
)
def test_what_no_handshake_has(change: dict[str, Any]) -> None:
    """Nonces that are too short and numbers that would not fit are our own faults, and are seen at once."""
    with pytest.raises(ValueError, match=r"nonce|generation"):
        attrs.evolve(GOOD, **change)
