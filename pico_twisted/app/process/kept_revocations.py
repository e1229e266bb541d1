"""What is revoked, kept in a file: a node that starts alone, or first, still knows it.

A thread writes the file, and the node waits for it neither while it serves nor when it stops: a disk may hang. Of what
comes while it writes only the last is written. Where it cannot be written the log says so, and the other nodes still
know.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from typing import Final

from twisted.logger import Logger

from pico_twisted.app.process.ports import CannotStart
from pico_twisted.app.process.reactor import IDaemonReactor
from pico_twisted.config.replacing import replace_file
from pico_twisted.core.access.revocations import MAX_LIST_BYTES, BadRevocations
from pico_twisted.net.access.shared import SharedRevocations

log = Logger()

FILE: Final = "revocations"
"""Name of the file in the daemon's state directory."""
HEAD: Final = b"# What is revoked. Written by the node, which reads it when it starts; see docs/authentication.md.\n"
"""What stands in front, for people."""


def keep_revocations(
    revocations: SharedRevocations, path: str, environ: Mapping[str, str], reactor: IDaemonReactor
) -> None:
    """Read what was kept, and keep what changes.

    Args:
        revocations: of the node.
        path: of the file; empty for one in the directory that systemd makes for the daemon's state, if there is one.
        environ: of the process.
        reactor: hears of the thread that writes.

    Raises:
        CannotStart: the file is there and cannot be read, or is no such file.
    """
    directory = environ.get("STATE_DIRECTORY", "").partition(":")[0]
    path = os.path.realpath(path) if path else os.path.join(directory, FILE) if directory else ""
    if not path:
        return
    if not os.path.isdir(os.path.dirname(path)):
        raise CannotStart(f"there is no directory for {path}, the file of what is revoked")
    try:
        with open(path, "rb") as file:
            revocations.load(file.read(len(HEAD) + MAX_LIST_BYTES + 1))
    except FileNotFoundError:
        pass
    except (OSError, BadRevocations) as error:
        raise CannotStart(f"cannot read {path}, the file of what is revoked: {error}") from error
    revocations.keep(_Writer(path, reactor).write)


class _Writer:
    def __init__(self, path: str, reactor: IDaemonReactor) -> None:
        self._path = path
        self._reactor = reactor
        self._next: bytes | None = None
        self._writes = False

    def write(self, data: bytes) -> None:
        """Have it written."""
        self._next = data
        if not self._writes:
            self._begin()

    def _begin(self) -> None:
        data, self._next = self._next, None
        self._writes = False
        if data is None:
            return
        try:
            threading.Thread(target=self._run, args=(data,), name="revocations", daemon=True).start()
            self._writes = True
        except RuntimeError as error:  # there are too many threads on the machine
            self._written(str(error))

    def _run(self, data: bytes) -> None:
        why = ""
        try:
            replace_file(self._path, HEAD + data)
        except OSError as error:
            why = error.strerror or str(error)
        self._reactor.callFromThread(self._written, why)

    def _written(self, why: str) -> None:
        if why:
            log.error("What is revoked cannot be kept in {path}: {reason}", path=self._path, reason=why)
        self._begin()
