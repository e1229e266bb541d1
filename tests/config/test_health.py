"""The section of a listener about the health of its service."""

from __future__ import annotations

from pathlib import Path

import pytest

from pico_twisted.config import ConfigFaults, HealthConfig, load_agent
from pico_twisted.config.health import PATH_EVERY_S


def read(tmp_path: Path, keys: str) -> HealthConfig:
    """The section with these keys."""
    path = tmp_path / "pico-agent.yaml"
    path.write_text(f"listeners:\n- {{endpoint: a, addr: 3000, health: {{{keys}}}}}\n")
    return load_agent(str(path)).listeners[0].health


@pytest.mark.parametrize(
    ("keys", "every_s"),
    [("", None), ("path: /healthz", PATH_EVERY_S), ("interval: 3s", 3.0), ("path: '/h?a=b', interval: 1m", 60.0)],
)
def test_when_there_are_checks(tmp_path: Path, keys: str, every_s: float | None) -> None:
    """A path is enough, and so is an interval; with neither only calls show how the service is."""
    assert read(tmp_path, keys).every_s == every_s


@pytest.mark.parametrize(
    "keys",
    [
        "path: healthz",
        "path: '/a b'",
        "path: '/a#b'",
        'path: "/a\\r\\nX: y"',
        "path: '/ä'",
        "interval: 1ms",
        "interval: 0s",
        "timeout: 2m",
        "unhealthy_after: 0",
        "healthy_after: 101",
        "every: 5s",
    ],
)
def test_nonsense(tmp_path: Path, keys: str) -> None:
    """It is told, with the key."""
    with pytest.raises(ConfigFaults, match=keys.partition(":")[0]):
        read(tmp_path, keys)
