"""Files that are replaced as a whole: who reads one has the old text or the new one, whenever the machine stops."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile

NEW_MODE = 0o600
"""Mode of a file that was not there: its owner alone may read it."""


def replace_file(path: str, data: bytes) -> None:
    """Replace a file, which keeps its owner and mode, or make it; what root makes is of whom the directory belongs to,
    since a daemon lays its privileges down behind its start.

    Args:
        path: of the file; not a link to it.
        data: what is in it.

    Raises:
        OSError: that is not possible; nothing has changed.
    """
    directory = os.path.dirname(path) or "."
    before = os.stat(path, follow_symlinks=False) if os.path.lexists(path) else None
    descriptor, fresh = tempfile.mkstemp(dir=directory, prefix=f".{os.path.basename(path)}.")
    try:
        with open(descriptor, "wb") as file:
            owner = os.stat(directory) if before is None and os.geteuid() == 0 else before
            if owner is not None and (owner.st_uid, owner.st_gid) != (os.geteuid(), os.getegid()):
                os.fchown(descriptor, owner.st_uid, owner.st_gid)
            os.fchmod(descriptor, NEW_MODE if before is None else stat.S_IMODE(before.st_mode))
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        os.replace(fresh, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(fresh)
        raise
    folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
