"""How picoctl ends: what it prints, where, and with which exit status."""

from __future__ import annotations

import os
import sys
from typing import Final

import click

from pico_twisted.core.text import escaped

OK: Final = 0
"""The exit status when all is well."""
NO: Final = 1
"""The exit status when there is an answer, and it is no."""
NO_ANSWER: Final = 3
"""The exit status when there is no answer. (2 is click's, for a command line that does not make sense.)"""
INTERRUPTED: Final = 130
"""The exit status that a shell reports for a process that SIGINT ended."""
CUT_OFF: Final = 141
"""The exit status that a shell reports for a process that SIGPIPE ended: the reader of our output wants no more."""


class ExitWithMessage(click.ClickException):
    """picoctl ends with a message of one line or several on stderr. The exit status depends on the kind of the end."""

    def show(self, file: object = None) -> None:
        for line in self.message.splitlines():
            click.echo(f"picoctl: {escaped(line)}", err=True)


class SaidNo(ExitWithMessage):
    """There is an answer, and it is no."""

    exit_code = NO


class NoAnswer(ExitWithMessage):
    """There is no answer, or it makes no sense."""

    exit_code = NO_ANSWER


def emit(text: str) -> None:
    """Print the result, which ends without a line break.

    Args:
        text: what is to be seen; what came from a server has been through `escaped`.

    Raises:
        click.exceptions.Exit: stdout has no reader.
        NoAnswer: it cannot be written.
    """
    try:
        click.echo(text)
    except BrokenPipeError:
        _drop_output()
        raise click.exceptions.Exit(CUT_OFF) from None
    except OSError as error:
        _drop_output()
        raise NoAnswer(f"the output cannot be written: {error.strerror or error}") from None


def _drop_output() -> None:
    """Give what is still buffered somewhere to go, or Python complains at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
