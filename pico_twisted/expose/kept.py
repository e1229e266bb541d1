"""What the commands remember from one run to the next, in small files of the user: names, and the node.

Such a file is a convenience. One that cannot be read or written is told of, and nothing ends because of it; what is in
it may have been written by anybody's editor, so it is checked like any other input. A file that is not understood is
left alone: somebody may want what is in it.
"""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Final

MAX_BYTES: Final = 1024 * 1024
"""Most bytes of such a file that are read: some ten thousand names."""
_FOLDER_MODE: Final = 0o700


def config_folder(environ: Mapping[str, str] = os.environ) -> str:
    """The folder for such files: `pico` in that of the user's configuration (XDG Base Directory Specification).

    Args:
        environ: the environment.
    """
    given = environ.get("XDG_CONFIG_HOME", "")
    base = given if os.path.isabs(given) else os.path.join(os.path.expanduser("~"), ".config")
    return os.path.join(base, "pico")


class KeptFile:
    """A file that holds one JSON object.

    Args:
        folder: that it is in; made when something is kept.
        name: its name there.
        warn: told in words what is wrong with it.
    """

    def __init__(self, folder: str, name: str, warn: Callable[[str], None]) -> None:
        self._folder = folder
        self._path = os.path.join(folder, name)
        self._warn = warn

    def read(self) -> dict[str, Any]:
        """What it holds; nothing when there is no such file, or when it is not understood, which is told."""
        try:
            return self._read()
        except (OSError, ValueError, RecursionError) as error:
            self._warn(f"{self._path} is not used: {_why(error)}")
            return {}

    def _read(self) -> dict[str, Any]:
        try:
            with open(self._path, "rb") as file:
                content = file.read(MAX_BYTES + 1)
        except FileNotFoundError:
            return {}
        if len(content) > MAX_BYTES:
            raise ValueError(f"it is larger than {MAX_BYTES >> 20} MiB")
        found = json.loads(content)
        if not isinstance(found, dict):
            raise ValueError("it holds no JSON object")
        return found

    def update(self, change: Mapping[str, Any]) -> None:
        """Keep some members, and those that are there already. Whoever reads meanwhile sees the old file or the new
        one, whole. What cannot be kept is told.

        Args:
            change: what JSON can hold, by name.
        """
        try:
            os.makedirs(self._folder, _FOLDER_MODE, exist_ok=True)
            with _locked(self._folder):
                found = self._read()
                after = {**found, **change}
                if after != found:
                    self._write(json.dumps(after, indent=1, sort_keys=True) + "\n")
        except (OSError, ValueError, RecursionError) as error:
            self._warn(f"{self._path} is not written, so nothing is kept for the next time: {_why(error)}")

    def _write(self, text: str) -> None:
        descriptor, path = tempfile.mkstemp(prefix=".", dir=self._folder)  # for the user alone
        try:
            with open(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(path, self._path)
        except BaseException:
            with suppress(OSError):
                os.unlink(path)
            raise


@contextmanager
def _locked(folder: str) -> Iterator[None]:
    """Have the folder to ourselves, among processes like this one."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _why(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError | UnicodeDecodeError | RecursionError):
        return "it holds no JSON"
    return getattr(error, "strerror", None) or str(error)
