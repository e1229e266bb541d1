"""How whole numbers and `auto` are written: the same for every key, whatever its limits."""

from __future__ import annotations

import pytest

from pico_twisted.config import AgentConfig, NodeConfig
from pico_twisted.config.faults import Unfit
from pico_twisted.config.fields import Key, all_keys
from pico_twisted.config.kinds import Kind
from pico_twisted.core.protocol_limits import MAX_CALLS_PER_SESSION

NUMBERS = [
    key
    for cls in (NodeConfig, AgentConfig)
    for key in all_keys(cls)
    if isinstance(key.kind, Kind) and key.kind.name.startswith("number") and not key.kind.empty_fits
]
AUTOMATIC = [key for key in NUMBERS if isinstance(key.kind, Kind) and "auto" in key.kind.expected]


def name(key: Key) -> str:
    """For the name of a test."""
    return key.dotted


@pytest.mark.parametrize("text", ["+8", " 8", "8 ", "1_0", "٨", "８", "0x8", "8.0", "8e0", ""])
@pytest.mark.parametrize("key", NUMBERS, ids=name)
def test_a_number_has_decimal_digits_alone(key: Key, text: str) -> None:
    """What Python's int() takes beyond decimal digits is no number in a file or a flag."""
    assert key.kind is not None
    with pytest.raises(Unfit):
        key.kind.parse(text)


@pytest.mark.parametrize("key", NUMBERS, ids=name)
def test_a_plain_number_is_read(key: Key) -> None:
    """Digits are a number for all of them, with leading zeros too."""
    assert key.kind is not None
    assert key.kind.parse("8") == key.kind.parse("08") == 8


@pytest.mark.parametrize("key", AUTOMATIC, ids=name)
def test_auto_is_read_in_any_case(key: Key) -> None:
    """`auto` means the same in capitals, for each key that knows it; none of them takes the 0 that it stands for."""
    assert isinstance(key.kind, Kind)
    assert key.kind.parse("auto") == key.kind.parse("AUTO") == key.kind.parse("Auto") == 0
    assert key.kind.to_text(0) == "auto"
    with pytest.raises(Unfit):
        key.kind.parse("0")


def test_who_knows_auto() -> None:
    """The workers of a host and the sessions of a listener."""
    assert {key.dotted for key in AUTOMATIC} == {"cluster.workers", "connect.connections"}


def test_a_node_may_open_as_many_calls_as_an_agent_takes() -> None:
    """The highest `limits.calls_per_session` is the number beyond which agents refuse, and no number of its own."""
    (key,) = [key for key in NUMBERS if key.dotted == "limits.calls_per_session"]
    assert isinstance(key.kind, Kind)
    assert key.kind.fits(MAX_CALLS_PER_SESSION) and not key.kind.fits(MAX_CALLS_PER_SESSION + 1)
