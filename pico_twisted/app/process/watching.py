"""Files that are read again when they change: a certificate is renewed by a program that does not know of us."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from twisted.internet.interfaces import IReactorFromThreads
from twisted.logger import Logger

log = Logger()

LOOK_S: Final = 2.0
"""Seconds between two looks. What is found is taken when it is the same at the next one: by then a program that writes
one file after the other has written them all."""

Stamp = tuple[int, int, int, int] | None
Read = Callable[[], tuple[Callable[[], Iterable[str]], Iterable[str]]]


class FileWatch:
    """Looks at files every few seconds, in a thread of its own: their disk may answer late, or never.

    Args:
        reactor: takes what was read.
        names: the files.
        read: reads them again, in the thread, when one of them has changed. It gives what takes all that can be used,
            which is called by the reactor and says in words what it changed; and what is wrong with the rest, which is
            logged once. As long as something is wrong the files are read again at each look.
    """

    def __init__(self, reactor: IReactorFromThreads, names: Callable[[], Iterable[str]], read: Read) -> None:
        self._reactor = reactor
        self._names = names
        self._read = read
        self._taken: Mapping[str, Stamp] = {}
        self._seen: Mapping[str, Stamp] = {}
        self._told: frozenset[str] = frozenset()
        self._ended = threading.Event()

    def start(self) -> None:
        """Begin. The files were read a moment ago."""
        self._taken = self._seen = self._stamps()
        threading.Thread(target=self._run, name="watching", daemon=True).start()

    def stop(self) -> None:
        """Look no longer. Nothing is taken afterwards."""
        self._ended.set()

    def _run(self) -> None:
        while not self._ended.wait(LOOK_S):
            self.look()

    def look(self) -> None:
        """Look once."""
        stamps = self._stamps()
        still, self._seen = stamps == self._seen, stamps
        if not still or (stamps == self._taken and not self._told):
            return
        try:
            take, faults = self._read()
        except Exception:
            log.failure("Files could not be read again")
            return
        self._taken = stamps
        self._reactor.callFromThread(self._take, take, frozenset(faults))

    def _take(self, take: Callable[[], Iterable[str]], faults: frozenset[str]) -> None:
        if self._ended.is_set():
            return
        for words in take():
            log.info("Files have changed and are used: {change}", change=words)
        for fault in faults - self._told:
            log.error("Files have changed and are not used, those before stay: {fault}", fault=fault)
        self._told = faults

    def _stamps(self) -> dict[str, Stamp]:
        return {name: stamp(name) for name in self._names()}


def stamp(name: str) -> Stamp:
    """What tells whether the content of a file has changed; None when it cannot be found out."""
    try:
        found = os.stat(name)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size
