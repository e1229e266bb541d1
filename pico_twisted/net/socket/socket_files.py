"""Unix sockets that ports listen on: bind them, with the permissions that the operator wants, and remove their files.

What can go wrong. A process that was killed leaves its file, and nobody can bind there. Another process may be alive
and listen there; then the start is refused, as for a TCP port in use. And what stands there may be no socket at all.
So whoever comes asks: a socket at which nobody listens refuses the connection, and is replaced. Two that start at the
same moment would both find it so, or one would find the other's socket before that listens: so they take turns, by a
lock on the directory (flock(2)), which needs no file that would be left there.

A file is removed only by who has bound it, and only while it is still the same one: an operator, or another process,
may have put another in its place.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import fcntl
import os
import socket
import stat
import time
from collections.abc import Iterator
from typing import Final

TURN_S: Final = 2.0
"""Most seconds that another process may have its turn. To bind takes a millisecond; who keeps the lock for longer is
none of ours, and in a directory for all anybody may."""

_LOOK_S: Final = 0.01


class SocketFile:
    """The file of a socket that was bound here. It is removed at the exit of the process at the latest.

    Args:
        path: its absolute name.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._identity = _identity(path)
        atexit.register(self.remove)

    def remove(self) -> None:
        """Remove it, so that nobody connects any more. Idempotent."""
        identity, self._identity = self._identity, None
        with contextlib.suppress(OSError):  # it belongs to somebody else since the process changed its user
            if identity is not None and _identity(self._path) == identity:
                os.unlink(self._path)


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def bind_socket(path: str, mode: int, backlog: int) -> tuple[socket.socket, SocketFile]:
    """Bind a socket, in place of one of a process that is gone, and listen.

    Args:
        path: absolute.
        mode: the permissions of its file, from the first moment.
        backlog: how many connections may wait.

    Returns:
        The socket, which does not block, and its file.

    Raises:
        OSError: that cannot be.
    """
    sock = socket.socket(socket.AF_UNIX)
    try:
        with _turn(os.path.dirname(path)):
            _clear(path)
            before = os.umask(0o777 & ~mode)
            try:
                sock.bind(path)
            finally:
                os.umask(before)
            file = SocketFile(path)
            try:
                sock.listen(backlog)
            except OSError:
                file.remove()
                raise
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock, file


@contextlib.contextmanager
def _turn(directory: str) -> Iterator[None]:
    """Keep other processes of ours from binding there meanwhile, if they can be kept from it."""
    try:
        lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:  # we may write there, and not read; or binding tells what is wrong
        yield
        return
    try:
        until = time.monotonic() + TURN_S
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:  # a file system may know no locks
                if error.errno != errno.EWOULDBLOCK or time.monotonic() > until:
                    break
            time.sleep(_LOOK_S)
        yield
    finally:
        os.close(lock)


def _clear(path: str) -> None:
    """Remove the socket of a process that is gone, if there is one."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise OSError(errno.EEXIST, "there is a file that is no socket")
    with socket.socket(socket.AF_UNIX) as asking:
        asking.setblocking(False)
        code = asking.connect_ex(path)
    if code == errno.ECONNREFUSED:
        os.unlink(path)
    elif code in (0, errno.EAGAIN):
        raise OSError(errno.EADDRINUSE, "another process listens there")
    elif code != errno.ENOENT:
        raise OSError(code, f"there is a socket that cannot be asked whether it is in use: {os.strerror(code)}")
