"""What is logged during a test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.logger import LogEvent, globalLogPublisher


@pytest.fixture
def lines() -> Iterator[Callable[[str], list[LogEvent]]]:
    """The log lines of the test whose message begins so."""
    events: list[LogEvent] = []
    observer: Any = events.append
    globalLogPublisher.addObserver(observer)
    yield lambda start: [event for event in events if str(event.get("log_format")).startswith(start)]
    globalLogPublisher.removeObserver(observer)
