"""Changes a file of tokens, so that nobody ever reads half of it, loses a line of another, or gets to see more of it.

A changed file is written beside the old one and takes its place, with its owner and mode. Two that change it at the
same time do so one after the other: each locks the directory, since a lock on the file would be one on a file that is
gone a moment later.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import time
from collections.abc import Callable, Iterator
from typing import Final

from pico_twisted.config.replacing import replace_file
from pico_twisted.core.access.credentials_file import MAX_FILE_BYTES
from pico_twisted.ctl.exits import SaidNo

LOCK_S: Final = 10.0
"""Most seconds to wait for others who change files of the same directory."""

_LOOK_S: Final = 0.05


def read_file(path: str) -> str:
    """The text of a file of tokens. Raises SaidNo."""
    try:
        # not blocking: a pipe that nobody writes to would be waited for
        with open(path, "rb", opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK)) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise SaidNo(f"{path} is no file")
            content = file.read(MAX_FILE_BYTES + 1)
        if len(content) > MAX_FILE_BYTES:
            raise SaidNo(f"{path} is longer than {MAX_FILE_BYTES >> 20} MiB")
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise SaidNo(f"{path} is not UTF-8") from None
    except OSError as error:
        raise SaidNo(f"{path}: {error.strerror}") from None


def change_file(path: str, change: Callable[[str], str], *, make: bool) -> bool:
    """Change a file of tokens as a whole.

    Args:
        path: of the file; a link to it stays one.
        change: gives the new text for the old one. What it raises is raised, and nothing has changed.
        make: the file may not be there yet, and is made.

    Returns:
        Whether it was made.

    Raises:
        SaidNo: it cannot be read or written; nothing has changed.
    """
    target = os.path.realpath(path)
    directory = os.path.dirname(target)
    try:
        with _locked(directory, path):
            made = make and not os.path.lexists(target)
            text = change("" if made else read_file(target))
            replace_file(target, text.encode())
    except OSError as error:
        raise SaidNo(f"{path} cannot be changed: {error.strerror}") from None
    return made


@contextlib.contextmanager
def _locked(directory: str, path: str) -> Iterator[None]:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        end = time.monotonic() + LOCK_S
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise SaidNo(f"somebody else changes {path}: try again") from None
                time.sleep(_LOOK_S)
        yield
    finally:
        os.close(descriptor)
