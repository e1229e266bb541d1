"""What commands share that run a reactor: it is imported when one of them runs, and not before."""

from __future__ import annotations

import resource
from contextlib import suppress
from typing import Any

import click
from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent, globalLogBeginner
from zope.interface import implementer

from pico_twisted.core.text import escaped
from pico_twisted.net.socket.names import NameLookups


@implementer(ILogObserver)
class _Faults:
    """Faults of ours go to stderr, and perhaps errors; what else is logged is for daemons.

    Args:
        errors: these too.
    """

    def __init__(self, errors: bool) -> None:
        self._errors = errors

    def __call__(self, event: LogEvent) -> None:
        if "log_failure" in event:
            click.echo(f"picoctl: {formatEvent(event)}\n{event['log_failure'].getTraceback()}", err=True)
        elif self._errors and event.get("log_level") is LogLevel.error:
            click.echo(f"picoctl: {escaped(formatEvent(event))}", err=True)


def get_reactor(*, errors: bool, observer: ILogObserver | None = None) -> Any:  # it has no type
    """The reactor of this process, which has none yet. Faults that are logged go to stderr.

    Args:
        errors: what is logged as an error does too.
        observer: of the log, instead of all that.
    """
    from twisted.internet import reactor as installed

    reactor: Any = installed
    reactor.installNameResolver(NameLookups(reactor))
    globalLogBeginner.beginLoggingTo([observer or _Faults(errors)], discardBuffer=True, redirectStandardIO=False)
    return reactor


def raise_file_limit(wanted: int) -> int:
    """Raise the number of files that may be open, as far as it goes; returns it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return soft
