"""The corpus of attacks over HTTP/2: each is one message for the service, or none."""

from __future__ import annotations

import pytest

from tests.attacks import judging
from tests.attacks.http2 import all_attacks, judge
from tests.system.shapes import NODES
from tests.system.stack import Stack

SAMPLED = 9
"""Over two nodes every so many-th attack is tried: the parser that refuses is the first node's."""

KINDS = sorted({attack.kind for attack in all_attacks(b"")})


@NODES
@pytest.mark.parametrize("kind", KINDS)
def test_requests(stack: Stack, kind: str) -> None:
    """What a client sends in one stream is one request at the service, with its DATA as the body, or is refused."""
    stack.service.handler = judging.saw
    tried = [attack for attack in all_attacks(stack.endpoint.encode()) if attack.kind == kind]
    wrong = {
        attack.name: verdict
        for attack in tried[:: SAMPLED if stack.two_nodes else 1]
        if (verdict := judge(stack.connect(), attack, stack.service)) not in (judging.ONE, judging.REFUSED)
    }
    assert wrong == {}
    stack.still_serves()


def test_there_are_attacks() -> None:
    """All of those of HTTP/1.1 are there, and more than a hundred of HTTP/2 alone."""
    assert len(list(all_attacks(b""))) > 1042 + 100
