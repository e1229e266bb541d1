"""How lines reach their file, pipe or terminal, without ever holding up the reactor.

What is needed: a reader of stderr that stands still, a disk that hangs and a terminal after Ctrl-S all make `write`
wait, for minutes or for ever, and nothing tells beforehand that it will. A proxy must go on meanwhile, and end in time.

What was chosen: a thread for each log, which alone opens, writes and closes, and for which nobody waits but at the end
of the process, and then a moment only. It is handed pieces of several lines, as they come from the log and some times a
second from the access log, so it costs a busy node nothing that can be measured.

What was rejected: making the descriptor non-blocking, since it is shared with the shell and with whatever else was
started there, and since for files it means nothing; polling before each piece, which says nothing about a disk.
"""

from __future__ import annotations

import os
import select
import stat
import threading
from typing import Final, Protocol

MAX_WAITING_BYTES: Final = 1024 * 1024
"""Most bytes of lines that wait for a reader that does not keep up; more is lost, and counted."""

LOG_FILE_MODE: Final = 0o644
"""Mode of a log file that is made here, less the umask of the process."""


class Stream(Protocol):
    """A text file. Only its descriptor is used, past Python's buffer, if it has one."""

    def write(self, text: str, /) -> object: ...

    def flush(self) -> object: ...


class OwnLine(Protocol):
    """Makes a line of the log about the log: a warning with one message, and a number or a text."""

    def __call__(self, message: str, /, **fields: str | int) -> str: ...


class LogFile:
    """A file that lines are appended to: where it was truncated by another program they begin at its new end.

    Args:
        path: its name; it is made when it is not there.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, path: str) -> None:
        self.path = os.path.abspath(path)
        self._descriptor = self._open()

    def fileno(self) -> int:
        """The descriptor."""
        return self._descriptor

    def reopen(self) -> None:
        """Go on in the file that has the name now. The old one is kept when that cannot be opened: `OSError`."""
        descriptor = self._open()
        os.close(self._descriptor)
        self._descriptor = descriptor

    def _open(self) -> int:
        return os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOCTTY | os.O_CLOEXEC, LOG_FILE_MODE)


class LineWriter:
    """Writes whole lines from a thread of its own. Nothing here waits or raises but for `close`, which waits a moment.

    A reader that went away (EPIPE) or a full disk must not stop a proxy. What cannot be written is lost; once lines can
    be written again, one says how many were. A line that was written in part is ended, so that the next stays whole.
    Into a pipe lines go in pieces that the kernel takes whole, so that those of several processes do not end up in each
    other.

    Lines wait until `start`: a daemon that leaves the terminal would leave a thread behind. A stream without a
    descriptor, as tests have one, is written to at once.

    Args:
        target: where lines go.
        own_line: makes the line that says how many were lost.
    """

    def __init__(self, target: Stream | LogFile, own_line: OwnLine) -> None:
        self._target = target
        self._own_line = own_line
        self._changed = threading.Condition()
        self._waiting: list[bytes] = []
        self._held_bytes = 0  # of what waits and of what is being written
        self._untold = 0
        self._thread: threading.Thread | None = None
        self._reopens = False
        self._failed = False
        self.lost = 0
        """Lines lost since the start."""

    def start(self) -> None:
        """Begin to write. Idempotent."""
        if self._thread is None and descriptor_of(self._target) is not None:
            # A daemon thread: Python does not wait for it at the end, and it may hang for ever.
            self._thread = threading.Thread(target=self._run, name="log", daemon=True)
            self._thread.start()

    def write(self, text: str) -> None:
        """Write one or more whole lines, each ended by a newline."""
        data = text.encode("utf-8", "backslashreplace")
        with self._changed:
            if self._held_bytes + len(data) > MAX_WAITING_BYTES:
                self._count_lost(data)
                return
            self._waiting.append(data)
            self._held_bytes += len(data)
            if descriptor_of(self._target) is None:
                self._turn()
            else:
                self._changed.notify_all()

    def reopen(self) -> None:
        """Go on in the file that has the name now: the old one was renamed. Does nothing for a stream."""
        with self._changed:
            self._reopens = isinstance(self._target, LogFile)
            self._changed.notify_all()

    def close(self, timeout_s: float) -> None:
        """Wait until all is written, but not longer than a reader gets at the end of a process. Idempotent."""
        self.start()
        if self._thread is not None:
            with self._changed:
                self._changed.wait_for(lambda: not self._held_bytes, timeout_s)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._reopens)
            self._turn()

    def _turn(self) -> None:
        """Write what waits, and once that works again how many lines were lost. No lock is held while writing."""
        with self._changed:
            waiting, self._waiting = self._waiting, []
            reopens, self._reopens = self._reopens, False
        data = b"".join(waiting)
        if reopens:
            self._reopen()
        written = self._put(data)
        with self._changed:
            self._count_lost(data[written:])
            untold = 0 if self._waiting else self._untold  # what waits is older
        if untold and not self._failed and self._said("log lines could not be written and are lost", lost=untold):
            with self._changed:
                self._untold -= untold
        with self._changed:
            self._held_bytes -= len(data)
            self._changed.notify_all()

    def _count_lost(self, data: bytes) -> None:
        lines = data.count(b"\n")
        self.lost += lines
        self._untold += lines

    def _said(self, message: str, **fields: str | int) -> bool:
        line = self._own_line(message, **fields).encode("utf-8", "backslashreplace")
        return self._put(line) == len(line)

    def _reopen(self) -> None:
        assert isinstance(self._target, LogFile)
        try:
            self._target.reopen()
        except OSError as error:
            self._said("the log file cannot be opened again", path=self._target.path, reason=str(error))

    def _put(self, data: bytes) -> int:
        """Write the data. Returns how much of it was written: the rest is lost."""
        at = 0
        if not data:
            return at
        try:
            descriptor = descriptor_of(self._target)
            if descriptor is None:
                return self._put_at_once(data)
            # Several processes may write to one pipe, as the workers of a host do. A file takes any write whole.
            shared = not stat.S_ISREG(os.fstat(descriptor).st_mode)
            if self._failed:
                _write(descriptor, b"\n")  # a part of the first line that was lost may have been written
            while at < len(data):
                at += _write(descriptor, data[at : _end_of_piece(data, at, shared)])
            self._failed = False
        except (OSError, ValueError):
            self._failed = True
        return at

    def _put_at_once(self, data: bytes) -> int:
        assert not isinstance(self._target, LogFile)
        self._target.write(data.decode())
        self._target.flush()
        self._failed = False
        return len(data)


def descriptor_of(target: Stream | LogFile) -> int | None:
    """Return the descriptor of a stream, or None when it has none."""
    try:
        return target.fileno()  # type: ignore[union-attr]
    except (AttributeError, OSError, ValueError):
        return None


def _write(descriptor: int, data: bytes) -> int:
    """Write, and wait for room also where somebody made the descriptor non-blocking."""
    while True:
        try:
            return os.write(descriptor, data)
        except BlockingIOError:
            select.select((), (descriptor,), ())


def _end_of_piece(data: bytes, at: int, shared: bool) -> int:
    """Where the next write ends: as many whole lines as a pipe takes in one piece, or one line that is longer."""
    if not shared or len(data) - at <= select.PIPE_BUF:
        return len(data)
    return data.rfind(b"\n", at, at + select.PIPE_BUF) + 1 or data.find(b"\n", at) + 1 or len(data)
