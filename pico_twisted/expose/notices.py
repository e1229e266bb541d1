"""What the parts of an agent log, as far as a person at a terminal wants to read it; and why a service was not reached.

The agent's log says each reason when it is new. A request that failed has a code only, so the last reason that the log
gave for an endpoint is what its line says.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Final

from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent
from zope.interface import implementer

from pico_twisted.core.text import escaped

_OF_SERVICES: Final = "pico_twisted.net.agent.serving.local_service"
_OF_AGENTS: Final = (
    "pico_twisted.net.agent",
    "pico_twisted.app.agent",
    "pico_twisted.net.tls",
    "pico_twisted.net.socket",
)
_TOLD_OTHERWISE: Final = ("Could not register", "The grace period is over")


@implementer(ILogObserver)
class Notices:
    """Observes the log.

    Args:
        note: told what a person should read.
    """

    def __init__(self, note: Callable[[str], None]) -> None:
        self._note = note
        self._reasons: dict[str, str] = {}

    def reason(self, endpoint: str) -> str:
        """What was wrong with the service of an endpoint, the last time that something was; empty when nothing was."""
        return self._reasons.get(endpoint, "")

    def __call__(self, event: LogEvent) -> None:
        if "log_failure" in event:
            trace = event["log_failure"].getTraceback()
            sys.stderr.write(f"picoctl: {escaped(formatEvent(event))}\n{trace}")
            return
        level, name = event.get("log_level"), event.get("log_namespace", "")
        if name == _OF_SERVICES:
            self._reasons[str(event.get("endpoint", ""))] = str(event.get("reason", ""))
        elif level is LogLevel.critical or level is LogLevel.error:
            self._note(formatEvent(event))
        elif level is LogLevel.warn and name.startswith(_OF_AGENTS):
            text = formatEvent(event)
            if not text.startswith(_TOLD_OTHERWISE):
                self._note(text)
