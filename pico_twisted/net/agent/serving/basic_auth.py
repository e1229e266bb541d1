"""Users and passwords of the agent's listeners (Basic authentication, RFC 7617).

To check a password takes a good part of a second by design, and each request of a browser brings it. So a password that
was right is remembered for a minute behind its last use, by a keyed hash of it and of the user's entry: whoever reads
our memory finds no password, and an entry that is changed is not known any more. What is not known is checked in a
thread, one at a time for each file, so that strangers who guess keep at most one core busy, and only so many wait; who
is in does not wait among them. Requests that bring the same at once, as a browser's do, wait for one check.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Callable, Mapping
from typing import Final

import bcrypt
from twisted.internet.defer import Deferred, DeferredLock
from twisted.logger import Logger
from twisted.python.failure import Failure

from pico_twisted.config.credentials import Users

log = Logger()

KNOWN_FOR_S: Final = 60.0
"""Seconds behind its last use for which a password that was right is not checked again."""

MOST_KNOWN: Final = 4096
"""Most passwords that are remembered; the one that was checked first is forgotten first."""

MOST_WAITING: Final = 32
"""Most passwords of one file that wait to be checked: a few seconds of work."""

_MOST_PASSWORD_BYTES: Final = 72
"""Bytes of a password that bcrypt looks at. What is behind them never counted, in no program."""

_NOBODY: Final = b"$2b$10$" + b"." * 53
"""A hash that fits no password."""

InThread = Callable[[Callable[[], bool]], "Deferred[bool]"]
"""Calls something in a thread, and tells what it returned."""


class BasicAuth:
    """Says whether a request brings a user and their password.

    Args:
        in_thread: where passwords are checked.

    Attributes:
        users: of each file, by its name; replaced whole when they were read again.
    """

    def __init__(self, in_thread: InThread) -> None:
        self.users: Mapping[str, Users] = {}
        self._in_thread = in_thread
        self._secret = os.urandom(32)
        self._known: dict[bytes, float] = {}  # until when, by the keyed hash
        self._checks: dict[bytes, list[Deferred[bool]]] = {}  # who waits for one
        self._turns: dict[str, DeferredLock] = {}

    def check(self, file_name: str, authorization: bytes, now: float) -> bool | Deferred[bool] | None:
        """Check what a request brings.

        Args:
            file_name: of the users.
            authorization: the value of the request's Authorization; empty when it has none.
            now: in seconds.

        Returns:
            Whether a user and their password are there, or what will tell; None when too many wait for that.
        """
        credentials = _credentials(authorization)
        if credentials is None:
            return False
        user, password = credentials
        users = self.users.get(file_name, {})
        entry = users.get(user) or _nobody(users)
        digest = self._digest(file_name.encode(), user, password, entry)
        if self._known.get(digest, 0.0) > now:
            self._known[digest] = now + KNOWN_FOR_S
            return True
        turn = self._turns.setdefault(file_name, DeferredLock())
        if digest not in self._checks:
            if len(turn.waiting) >= MOST_WAITING:
                return None
            self._checks[digest] = []
            checking = turn.run(self._in_thread, lambda: _fits(password, entry))
            checking.addBoth(self._checked, digest, now)
        waiter: Deferred[bool] = Deferred()
        waiting = self._checks.get(digest)
        if waiting is None:
            return self._known.get(digest, 0.0) > now  # it was checked at once
        waiting.append(waiter)
        return waiter

    def _digest(self, *parts: bytes) -> bytes:
        found = hashlib.blake2b(key=self._secret, digest_size=32)
        for part in parts:
            found.update(b"%d:%b" % (len(part), part))
        return found.digest()

    def _checked(self, result: bool | Failure, digest: bytes, now: float) -> None:
        if isinstance(result, Failure):
            log.failure("A password could not be checked", result)
        right = result is True
        if right:
            self._known[digest] = now + KNOWN_FOR_S
            if len(self._known) > MOST_KNOWN:
                del self._known[next(iter(self._known))]
        for waiter in self._checks.pop(digest):
            if not waiter.called:
                waiter.callback(right)


def _nobody(users: Users) -> bytes:
    """What is checked for a user who is not there: that takes as long as for one who is."""
    return next(iter(users.values()), _NOBODY)[:7] + _NOBODY[7:]


def _fits(password: bytes, entry: bytes) -> bool:
    """Whether a password is the one of a hash. Runs in a thread."""
    try:
        return bcrypt.checkpw(password[:_MOST_PASSWORD_BYTES], entry)
    except ValueError:  # a NUL in it
        return False


def _credentials(authorization: bytes) -> tuple[bytes, bytes] | None:
    """The user and the password; None where there are none."""
    scheme, _, encoded = authorization.partition(b" ")
    if scheme.lower() != b"basic":
        return None
    try:
        user, colon, password = base64.b64decode(encoded.strip(b" "), validate=True).partition(b":")
    except binascii.Error:
        return None
    return (user, password) if colon else None
