"""Why a service cannot be made reachable, as the person at the terminal reads it."""

from __future__ import annotations

import attrs
import pytest

from pico_twisted.expose.plan import ExposePlan, read_targets
from pico_twisted.expose.refusals import NOT_SHARED, explained
from pico_twisted.expose.upstream import Source, Upstream
from pico_twisted.net.agent.dial_failures import FailedAttempt

URL = "http://n1:8002"
PLAN = ExposePlan(targets=read_targets(["3000"], "http"), upstream=Upstream(urls=(URL,), source=Source.TOLD))


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (
            "the node refused (409): shop is served by bob (10.1.2.3), and is not shared: choose another endpoint ID",
            NOT_SHARED,
            "shop is served by bob (10.1.2.3): --share to join, or another name, as in picoctl http NAME=3000",
        ),
        (
            "that is the proxy port of a node: connect.url takes its upstream port (8002 by default)",
            "",
            f"{URL}: that is the proxy port of a node: --to takes the upstream port (8002 by default)",
        ),
        (
            "the node refused (401): no token",
            "",
            f"{URL}: no token. A token: --token-file FILE or PICO_TOKEN_FILE",
        ),
        (
            "the node refused (403): not yours",
            "",
            f"{URL}: not yours. Another name: picoctl http NAME=3000",
        ),
        ("the node refused (503): busy", "", f"{URL}: busy"),
        ("nothing listens there", "", f"{URL}: nothing listens there"),
    ],
)
def test_what_is_wrong(words: str, code: str, told: str) -> None:
    """The node's own words, less what only agents know, and what helps."""
    assert explained(FailedAttempt(endpoint="shop", url=URL, words=words, code=code, refused=True), PLAN) == told


def test_who_shares_already() -> None:
    """To share does not help where the other one does not."""
    words = "the node refused (409): shop is served by bob (10.1.2.3), and is not shared: choose another endpoint ID"
    failed = FailedAttempt(endpoint="shop", url=URL, words=words, code=NOT_SHARED, refused=True)
    assert "--share" not in explained(failed, attrs.evolve(PLAN, share=True))


def test_a_node_of_the_last_time() -> None:
    """Whoever forgot that a node is remembered is told, and how to use another one."""
    failed = FailedAttempt(endpoint="shop", url=URL, words="nothing listens there", code="", refused=False)
    plan = attrs.evolve(PLAN, upstream=Upstream(urls=(URL,), source=Source.REMEMBERED))
    assert explained(failed, plan).endswith("It is that of the last --to: give another one, or --local")
