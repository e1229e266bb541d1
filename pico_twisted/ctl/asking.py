"""Asks for status routes and presents what comes: as text, as JSON, once or again and again."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final, TypeVar

import attrs
import click

from pico_twisted.core.text import escaped
from pico_twisted.ctl.client import AdminPort
from pico_twisted.ctl.exits import NO, OK, ExitWithMessage, NoAnswer, emit
from pico_twisted.ctl.options import admin_port, wants_json, wants_watch
from pico_twisted.net.admin.shapes.paths import NO_SUCH_NODE

T = TypeVar("T")

WATCH_S: Final = 2.0
"""Seconds between two looks of `--watch`."""


@attrs.frozen
class Page:
    """What is presented.

    Attributes:
        text: for people.
        data: the same, as JSON can hold it.
        no: the answer is a no, for the exit status.
    """

    text: str
    data: object
    no: bool = False


def present(context: click.Context, make: Callable[[AdminPort], Page]) -> None:
    """Make a page and print it as it is wanted; with `--watch` again and again, until Ctrl-C.

    Args:
        context: of the command.
        make: asks an admin port, and makes the page of what it says.

    Raises:
        ExitWithMessage: there is no such answer.
    """
    port = admin_port(context)
    if wants_watch(context):
        _watch(context, port, make)
    page = make(port)
    _print(context, page)
    if page.no:
        raise click.exceptions.Exit(NO)


def _print(context: click.Context, page: Page) -> None:
    if wants_json(context):
        emit_json(page.data)
    else:
        emit(page.text)


def _watch(context: click.Context, port: AdminPort, make: Callable[[AdminPort], Page]) -> None:
    try:
        while True:
            try:
                page = make(port)
            except NoAnswer as error:  # the node may be starting again
                page = Page(f"picoctl: {escaped(error.message)}", {"error": error.message})
            if sys.stdout.isatty():
                click.clear()
            _print(context, page)
            time.sleep(WATCH_S)
    except KeyboardInterrupt:
        raise click.exceptions.Exit(OK) from None


def get(port: AdminPort, path: str, kind: type[T]) -> tuple[Any, T]:
    """The answer for a path: as JSON has it, and as a shape.

    Raises:
        ExitWithMessage: there is no such answer.
    """
    found = get_if_there(port, path, kind)
    if isinstance(found, ExitWithMessage):
        raise found
    return found


def get_if_there(port: AdminPort, path: str, kind: type[T]) -> tuple[Any, T] | ExitWithMessage:
    """The same; where a node of an earlier version does not have the path, how to end without it.

    Raises:
        ExitWithMessage: there is no answer for another reason.
    """
    answer = port.ask(path)
    if answer.status == HTTPStatus.NOT_FOUND and not answer.error.startswith(NO_SUCH_NODE):
        return port.refusal(answer)
    if answer.status != HTTPStatus.OK:
        raise port.refusal(answer)
    return answer.data, port.shaped(answer, kind)


def emit_json(data: object) -> None:
    """Print an answer as JSON."""
    # Of the control characters JSON escapes all but this one.
    emit(json.dumps(data, indent=2).replace("\x7f", "\\u007f"))
