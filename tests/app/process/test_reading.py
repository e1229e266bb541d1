"""Files that are read while the reactor waits: for a moment, and no longer."""

from __future__ import annotations

import threading

import pytest

from pico_twisted.app.process.reading import read_in_time
from pico_twisted.config import ConfigFaults, Fault


def test_what_is_read() -> None:
    """What reading gives or raises is what its caller gets."""
    assert read_in_time(lambda: 7) == 7
    fault = ConfigFaults([Fault(path="a", found="b", expected="c")])

    def broken() -> None:
        raise fault

    with pytest.raises(ConfigFaults) as raised:
        read_in_time(broken)
    assert raised.value is fault


def test_what_is_never_read() -> None:
    """A disk that does not answer is a fault like others, and whoever waits for it is left behind."""
    gate = threading.Event()
    with pytest.raises(ConfigFaults, match=r"not read within 0\.01 s"):
        read_in_time(gate.wait, 0.01)
    gate.set()
