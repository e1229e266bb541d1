"""Interim heads: as many go on as the caller can take, and what is beyond is dropped."""

from __future__ import annotations

import pytest

from pico_twisted.core.rpc.capabilities import INTERIM_HEADS
from pico_twisted.core.rpc.interim import BYTES_PER_S, INTERIM_BYTES, OLD_MOST_HEADS, InterimHeads

PROCESSING = b"HTTP/1.1 102 Processing\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def passed(heads: InterimHeads, head: bytes, count: int, queued: int = 0, now: float = 0.0) -> int:
    return sum(heads.passes(head, queued, now) for _ in range(count))


def test_a_thousand_at_once() -> None:
    """They are bounded by their bytes, and not by their number."""
    assert passed(InterimHeads({INTERIM_HEADS}), PROCESSING, 1000) == INTERIM_BYTES // len(PROCESSING) > 500


def test_a_report_now_and_then_goes_on_for_ever() -> None:
    """Each second makes room for more, so that the caller hears of a service that has been at work for hours."""
    heads = InterimHeads({INTERIM_HEADS})
    large = PROCESSING.replace(b"\r\n\r\n", b"\r\nX: " + b"x" * BYTES_PER_S + b"\r\n\r\n")
    for second in range(0, 10_000, 2):
        assert heads.passes(large, 0, float(second))
    assert passed(heads, large, 100, now=10_000.0) < 20


def test_a_caller_that_takes_nothing() -> None:
    """What waits for it leaves room for the final head."""
    heads = InterimHeads({INTERIM_HEADS})
    assert not heads.passes(PROCESSING, INTERIM_BYTES, 0.0)
    assert heads.passes(PROCESSING, INTERIM_BYTES - len(PROCESSING), 0.0)
    assert not heads.passes(PROCESSING + b"x" * INTERIM_BYTES, 0, 0.0)


@pytest.mark.parametrize("capabilities", [set(), {INTERIM_HEADS}])
def test_the_first_100_always_passes(capabilities: set[bytes]) -> None:
    """A client may wait for it with its body, whatever came before; the second one is like any other."""
    heads = InterimHeads(capabilities)
    passed(heads, PROCESSING, 10_000)
    assert passed(heads, CONTINUE, 10, queued=INTERIM_BYTES) == 1


def test_an_old_caller() -> None:
    """It would break the call at the seventeenth, a 100 included."""
    heads = InterimHeads(())
    assert passed(heads, PROCESSING, 1000) + passed(heads, CONTINUE, 3, now=99.0) == OLD_MOST_HEADS
    assert passed(heads, PROCESSING, 1000, now=999.0) == 0
