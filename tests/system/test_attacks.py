"""The corpus of attacks on parsers, against a node alone and across two: nobody gets what belongs to somebody else."""

from __future__ import annotations

import pytest

from tests.attacks import answers as of_services
from tests.attacks import judging
from tests.attacks.answers import answers, judge_answer
from tests.attacks.exceptions import REQUESTS
from tests.attacks.record import ANSWERS as ANSWERS_TABLE
from tests.attacks.record import REQUESTS as REQUESTS_TABLE
from tests.attacks.record import read_table
from tests.attacks.requests import ENDPOINT, attacks
from tests.system.shapes import NODES
from tests.system.stack import Stack

SAMPLED = 7
"""Over two nodes every so many-th attack is tried: the parser that refuses is the first node's."""


def test_the_tables_are_of_these_attacks() -> None:
    """They were recorded of what is generated now (`make attacks`), and have hundreds of rows."""
    assert list(read_table(REQUESTS_TABLE)) == [(attack.kind, attack.name) for attack in attacks()]
    assert list(read_table(ANSWERS_TABLE)) == [(reply.kind, reply.name) for reply in answers()]
    assert len(read_table(REQUESTS_TABLE)) > 900 and len(read_table(ANSWERS_TABLE)) > 300


@NODES
@pytest.mark.parametrize("kind", sorted({attack.kind for attack in attacks()}))
def test_requests(stack: Stack, kind: str) -> None:
    """The service saw exactly what the client got answers for, and what nginx or HAProxy refuse is refused."""
    field = b"x-pico-endpoint: %b\r\n" % stack.endpoint.encode()
    stack.service.handler = judging.saw
    table = read_table(REQUESTS_TABLE)
    wrong: dict[str, str] = {}
    tried = [attack for attack in attacks() if attack.kind == kind]
    for attack in tried[:: SAMPLED if stack.two_nodes else 1]:
        data = judging.bytes_of(attack).replace(ENDPOINT, field)
        verdict = judging.judge(stack.connect(), data, stack.service)
        others = table[kind, attack.name]
        fine = _is_fine(verdict, others, (judging.ONE, judging.TWO))
        assert not (fine and (kind, attack.name) in REQUESTS), f"{attack.name} is no exception any more"
        if not fine and (kind, attack.name) not in REQUESTS:
            wrong[attack.name] = f"{verdict}; nginx: {others[0]}, HAProxy: {others[1]}"
        assert verdict not in (judging.DESYNC, judging.MALFORMED), (attack.name, verdict)
    assert wrong == {}
    stack.still_serves()


@NODES
@pytest.mark.parametrize("kind", sorted({reply.kind for reply in answers()}))
def test_answers(stack: Stack, kind: str) -> None:
    """The client gets one answer or an error, the next ones get their own, and what others refuse is refused."""
    field = b"x-pico-endpoint: %b\r\n" % stack.endpoint.encode()
    table = read_table(ANSWERS_TABLE)
    wrong: dict[str, str] = {}
    tried = [reply for reply in answers() if reply.kind == kind]
    for reply in tried[:: SAMPLED if stack.two_nodes else 1]:
        verdict = judge_answer(stack.connect, field, reply, stack.service)
        others = table[kind, reply.name]
        if not _is_fine(verdict, others, (of_services.PASSED,)):
            wrong[reply.name] = f"{verdict}; nginx: {others[0]}, HAProxy: {others[1]}"
        assert verdict not in (of_services.POISONED, judging.MALFORMED), (reply.name, verdict)
        stack.service.reset()
    assert wrong == {}
    stack.still_serves()


def _is_fine(verdict: str, others: tuple[str, str], accepted: tuple[str, ...]) -> bool:
    """Whether a node refused, or took what none of the others refused."""
    return verdict not in accepted or judging.REFUSED not in others
