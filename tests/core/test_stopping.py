"""What a process that stops waits for."""

from __future__ import annotations

import attrs
import pytest

from pico_twisted.core.stopping import awaited


@attrs.frozen(eq=False)
class Call:
    """A call in progress."""

    never_ends: bool = False


OLD, NEW, STREAM = Call(), Call(), Call(True)


@pytest.mark.parametrize(
    ("calls", "streams", "expected"),
    [
        ((), True, False),
        ((OLD,), False, True),
        ((NEW,), True, False),  # or it would serve for ever
        ((STREAM,), True, True),
        ((STREAM,), False, False),
        ((NEW, STREAM), False, False),
        ((STREAM, OLD), False, True),
    ],
)
def test_awaited(calls: tuple[Call, ...], streams: bool, expected: bool) -> None:
    """What was there at the signal is waited for, streams only for their time, what came later not at all."""
    assert awaited(calls, {OLD, STREAM}, streams) is expected
