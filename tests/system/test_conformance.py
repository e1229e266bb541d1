"""The proxy port does what RFC 9113 asks of a server: a cross-section of the cases of `make conformance`."""

from __future__ import annotations

from tests.conformance.asking import Port
from tests.conformance.cases import ALL
from tests.system.shapes import ENDS
from tests.system.stack import Stack

SAMPLED = 3
"""Every so many-th case is tried: all of them are tried on the engine in memory."""


@ENDS
def test_cases(stack: Stack) -> None:
    """Each case gets what the standard asks for, and then requests are served as before."""
    port = Port(stack.node.proxy, stack.endpoint, str(stack.tls.authority.ca) if stack.tls else None)
    wrong = {case.number: fault for case in list(ALL.values())[::SAMPLED] if (fault := port.fault(case)) is not None}
    assert wrong == {}
    stack.still_serves()
