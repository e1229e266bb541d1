"""Sections that node and agent share."""

from __future__ import annotations

import attrs

from pico_twisted.config import kinds
from pico_twisted.config.fields import setting

LOG_LEVELS = ("debug", "info", "warn", "error", "critical")
LOG_FORMATS = ("json", "text")


@attrs.frozen(kw_only=True)
class ServerTlsConfig:
    """The certificate of a port; without one the port speaks plain text."""

    cert: str = setting(
        kinds.FILE,
        "",
        "Certificate chain of this port, a PEM file with the port's own certificate first. Set together with `key`; "
        "without both the port speaks plain text.",
    )
    key: str = setting(kinds.FILE, "", "Private key of the certificate, a PEM file.")

    @property
    def enabled(self) -> bool:
        """Whether the port speaks TLS."""
        return bool(self.cert and self.key)


@attrs.frozen(kw_only=True)
class LogConfig:
    """What is logged, and how."""

    level: str = setting(
        kinds.one_of(*LOG_LEVELS),
        "info",
        "The least severe level that is logged: " + ", ".join(LOG_LEVELS) + ".",
    )
    format: str = setting(
        kinds.one_of(*LOG_FORMATS), "json", "How a line looks: `json`, one object each, or `text`, for people."
    )
    subsystems: tuple[str, ...] = setting(
        kinds.Many(item=kinds.SUBSYSTEM),
        "",
        "Subsystems whose lines are logged at every level, whatever `log.level` says. A line names its subsystem.",
    )
