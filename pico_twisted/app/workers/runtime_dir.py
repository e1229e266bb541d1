"""A private directory that does not outlive those who use it.

A process that is killed leaves its directory behind. So each process that uses one holds a lock on it, which the kernel
drops with the last process that has it, and the next that makes a directory of this kind removes those that no process
holds.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile

PREFIX = "pico-workers-"


class RuntimeDir:
    """A new directory for sockets, open to no other user.

    Attributes:
        path: where it is.
        descriptor: holds the lock, in every process that inherits it.
    """

    def __init__(self) -> None:
        remove_abandoned()
        while True:
            self.path = tempfile.mkdtemp(prefix=PREFIX)  # 0700
            self.descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(self.descriptor, fcntl.LOCK_EX)
            if os.path.isdir(self.path):  # another may have taken it for abandoned before it was locked
                return
            os.close(self.descriptor)

    def remove(self) -> None:
        """Remove the directory: it is needed no longer."""
        shutil.rmtree(self.path, ignore_errors=True)


def remove_abandoned() -> None:
    """Remove the directories of processes that were killed. What cannot be removed stays."""
    with contextlib.suppress(OSError), os.scandir(tempfile.gettempdir()) as entries:
        for entry in entries:
            if not entry.name.startswith(PREFIX):
                continue
            with contextlib.suppress(OSError):
                if entry.is_dir(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_uid == os.geteuid():
                    _remove_if_abandoned(entry.path)


def _remove_if_abandoned(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(path, ignore_errors=True)
    finally:
        os.close(descriptor)
