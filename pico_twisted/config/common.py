"""Sections that node and agent share."""

from __future__ import annotations

from typing import Any

import attrs

from pico_twisted.config import kinds
from pico_twisted.config.fields import setting

MOST_HEAD_BYTES = 60 * 1024
"""Most bytes to which the limit of heads can be raised: with what a hop adds, a head has to fit one frame of 64 KiB."""

LOG_LEVELS = ("debug", "info", "warn", "error", "critical")
LOG_FORMATS = ("auto", "json", "text")


def drain_streams_setting() -> Any:  # as of `setting`
    """The key `drain_streams`."""
    return setting(
        kinds.duration(least_s=0.0),
        "10s",
        "How long after SIGTERM streams go on that nobody ends: upgraded connections (WebSockets) and streams of "
        "events. New requests are served meanwhile.",
    )


def admin_hosts_setting() -> Any:  # as of `setting`
    """The key `admin.hosts`."""
    return setting(
        kinds.Many(item=kinds.HOST_NAME),
        "",
        "Names by which the admin port may be asked over http, beside IP addresses, `localhost`, the name of the "
        "machine, and those of the addresses above. Requests for other hosts are answered 421: a page of a stranger "
        "could have given its own name the address of this port.",
        live=True,
    )


@attrs.frozen(kw_only=True)
class LogConfig:
    """What is logged, and how."""

    level: str = setting(
        kinds.one_of(*LOG_LEVELS), "info", "Lowest level that is logged: " + ", ".join(LOG_LEVELS) + ".", live=True
    )
    format: str = setting(
        kinds.one_of(*LOG_FORMATS),
        "auto",
        "Format of a line: `json`, one object per line, or `text`, for people. `auto` is `text` on a terminal and in "
        "the journal of systemd, else `json`.",
    )
    access_format: str = setting(
        kinds.one_of("auto", "json", "text", "combined"),
        "auto",
        "Format of the line of a request: `json`, `text`, or `combined`, as nginx and Apache write it. `auto` is as "
        "`log.format` has it, and `json` in a file of its own.",
    )
    subsystems: tuple[str, ...] = setting(
        kinds.Many(item=kinds.SUBSYSTEM),
        "",
        "Subsystems to log at every level, whatever `log.level` says. Each line names its subsystem.",
        live=True,
    )
