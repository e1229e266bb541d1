"""How picoctl ends: what it prints, where, and with which exit status."""

from __future__ import annotations

import os
import sys
from typing import Final, NoReturn

import click

from pico_twisted.core.text import escaped

OK: Final = 0
NO: Final = 1
USAGE: Final = 2
NO_ANSWER: Final = 3
INTERRUPTED: Final = 130
"""As a shell reports a process that SIGINT ended."""
CUT_OFF: Final = 141
"""As a shell reports a process that SIGPIPE ended: whoever was to read our output wants no more of it."""


class Ended(click.ClickException):
    """picoctl ends with a message on stderr, of one line or several. See the two kinds below."""

    def show(self, file: object = None) -> None:
        for line in self.message.splitlines():
            click.echo(f"picoctl: {escaped(line)}", err=True)


class SaidNo(Ended):
    """There is an answer, and it is no."""

    exit_code = NO


class NoAnswer(Ended):
    """There is no answer, or it makes no sense."""

    exit_code = NO_ANSWER


def emit(text: str) -> None:
    """Print the result, which ends without a line break.

    Args:
        text: what is to be seen; whatever came from a server has been through `escaped`.

    Raises:
        click.exceptions.Exit: nobody reads it.
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


def end(exit_code: int) -> NoReturn:
    """End without a message: what there is to say was printed."""
    raise click.exceptions.Exit(exit_code)


def _drop_output() -> None:
    """Give what is still buffered somewhere to go, or Python complains at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
