"""What one node shows to the admin port of another: it counts for what it says, and for nothing else."""

from __future__ import annotations

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pico_twisted.core.access.rules import Action
from pico_twisted.core.links.node_pass import LASTS_S, NodePass, PassError, read_pass

SECRETS = (b"a secret of the cluster", b"the one before it")
TARGET = b"GET /status/upstream/agents?forward=n2&forwarded=1"
PASS = NodePass(
    asking="n1", asked="n2", action=Action.ADMIN_READ, target=TARGET, issued_at=1_790_000_000, nonce=bytes(16)
)


def read(text: str, *, cluster: str = "pico", target: bytes = TARGET, late_s: float = 0.0) -> NodePass:
    scheme, _, rest = text.partition(" ")
    assert scheme == "Pico-Node"
    return read_pass(rest, SECRETS, cluster, target, PASS.issued_at + late_s)


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("action", [Action.ADMIN_READ, Action.ADMIN_OPERATE])
@pytest.mark.parametrize("id", ["n2", "n.2_-", "nœud 2 %20"])
def test_a_pass_is_read_as_it_was_written(secret: bytes, action: Action, id: str) -> None:
    """With any secret that the cluster has now, whatever the IDs are, by clocks that differ a little."""
    written = attrs.evolve(PASS, asked=id, action=action)
    for late_s in (-LASTS_S, 0.0, LASTS_S):
        assert read(written.written(secret, "pico"), late_s=late_s) == written


@pytest.mark.parametrize("late_s", [-LASTS_S - 1, LASTS_S + 1])
def test_a_pass_ends(late_s: float) -> None:
    """And one of a clock that is wrong does not count; the words name clocks."""
    with pytest.raises(PassError, match="clocks"):
        read(PASS.written(SECRETS[0], "pico"), late_s=late_s)


@pytest.mark.parametrize(
    "change",
    [
        {"asking": "n3"},
        {"asked": "n3"},
        {"action": Action.ADMIN_OPERATE},
        {"issued_at": PASS.issued_at + 1},
        {"nonce": b"\1" * 16},
    ],
    ids=lambda change: next(iter(change)),
)
def test_nothing_in_a_pass_can_be_changed(change: dict[str, object]) -> None:
    """A reader's pass above all does not become an operator's."""
    changed = attrs.evolve(PASS, **change).written(SECRETS[0], "pico").split(" ")  # type: ignore[arg-type]
    proof = PASS.written(SECRETS[0], "pico").split(" ")[-1]
    with pytest.raises(PassError, match="no secret"):
        read(" ".join([*changed[:-1], proof]))


def test_a_pass_is_for_one_question_of_one_cluster() -> None:
    """Neither another method, path or query, nor another cluster with the same secret."""
    written = PASS.written(SECRETS[0], "pico")
    for target in (TARGET.replace(b"GET", b"POST"), TARGET + b"&x", TARGET.replace(b"agents", b"endpoints")):
        with pytest.raises(PassError, match="no secret"):
            read(written, target=target)
    with pytest.raises(PassError, match="different clusters"):
        read(written, cluster="other")


def test_another_secret_or_none() -> None:
    """Each has words of its own."""
    with pytest.raises(PassError, match="no secret"):
        read(PASS.written(b"somebody else's secret", "pico"))
    with pytest.raises(PassError, match=r"cluster\.secrets"):
        read_pass(PASS.written(SECRETS[0], "pico").partition(" ")[2], (), "pico", TARGET, PASS.issued_at)


@given(st.one_of(st.text(), st.lists(st.text(alphabet="0123456789abcdef%-: "), min_size=5, max_size=7).map(" ".join)))
def test_anything_may_come(text: str) -> None:
    """What is no pass is refused in words, whatever it is."""
    with pytest.raises(PassError):
        read_pass(text, SECRETS, "pico", TARGET, PASS.issued_at)


def test_a_pass_says_nothing_of_the_secret() -> None:
    """Only what is derived from it leaves."""
    assert SECRETS[0].decode() not in PASS.written(SECRETS[0], "pico")
