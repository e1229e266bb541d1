"""What systemd is told while a daemon runs: ready, one line of status, signs of life, reloading, stopping.

The protocol is that of sd_notify(3): lines of `NAME=value` in one datagram to the socket that `NOTIFY_SOCKET` names.
All of it is best effort. Nothing here raises or waits, and without that variable nothing is sent.

Signs of life are sent by the reactor, so a reactor that is stuck sends none, and systemd restarts the process. They
come twice within the time that `WATCHDOG_USEC` allows.
"""

from __future__ import annotations

import contextlib
import enum
import socket
import time
from collections.abc import Callable, Iterator, MutableMapping
from typing import TypeVar

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from pico_twisted.core.text import printable

log = Logger()

T = TypeVar("T")

LOOK_S = 0.25
"""Seconds between two looks at whether the daemon is ready, until it is."""
STATUS_S = 1.0
"""Seconds between two status lines. One is sent only when it has changed."""
MAX_STATUS_CHARACTERS = 200


class Stage(enum.Enum):
    """What systemd knows of the daemon."""

    STARTING = enum.auto()
    READY = enum.auto()
    STOPPING = enum.auto()


class Notifier:
    """Tells systemd about one daemon.

    Args:
        clock: tells when to speak; the reactor.
        ready_state: whether the daemon serves.
        status_line: what it does, in one line for people.
        address: of systemd's socket, a path or `@` and an abstract name; empty when systemd does not listen.
        watchdog_s: how long it may be silent; None for as long as it likes.
    """

    def __init__(
        self,
        clock: IReactorTime,
        ready_state: Callable[[], bool],
        status_line: Callable[[], str],
        *,
        address: str = "",
        watchdog_s: float | None = None,
    ) -> None:
        self._clock = clock
        self._ready_state = ready_state
        self._status_line = status_line
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._watchdog_s = watchdog_s
        self._stage = Stage.STARTING
        self._status = ""
        self._unsent: list[str] = []
        self._socket: socket.socket | None = None
        self._timers: dict[Callable[[], None], IDelayedCall] = {}
        if address:
            self._open()

    def _open(self) -> None:
        """One socket for all of the process's life: signs of life must not need a free descriptor."""
        try:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.setblocking(False)
        except OSError as error:
            log.warn("systemd cannot be told anything", reason=str(error))

    # What the daemon calls

    def start(self) -> None:
        """The reactor runs: begin to tell."""
        if self._socket is None or self._timers:
            return
        self._look()
        if self._watchdog_s is not None:
            self._beat()

    def status(self, text: str) -> None:
        """Tell one line for people, if it is another one than before."""
        line = printable(text, " ")[:MAX_STATUS_CHARACTERS]
        if line != self._status and self._send(f"STATUS={line}"):
            self._status = line

    @contextlib.contextmanager
    def reloading(self) -> Iterator[None]:
        """Tell when a reload begins and when it is over, however it ends."""
        if self._stage is not Stage.READY:
            yield
            return
        self._send_surely(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            yield
        finally:
            self._send_surely("READY=1")

    def stopping(self) -> None:
        """Tell that the daemon stops. Signs of life go on."""
        if self._stage is not Stage.STOPPING:
            self._stage = Stage.STOPPING
            self._send_surely("STOPPING=1")
            self._tell_status()

    def stop(self) -> None:
        """Say nothing more. Idempotent."""
        timers, self._timers = self._timers, {}
        for timer in timers.values():
            timer.cancel()
        sock, self._socket = self._socket, None
        if sock is not None:
            sock.close()

    # What happens by itself

    def _look(self) -> None:
        self._send_surely()
        if self._stage is Stage.STARTING and self._asked(self._ready_state, False):
            self._stage = Stage.READY
            self._send_surely("READY=1")
        self._tell_status()
        self._again(LOOK_S if self._stage is Stage.STARTING or self._unsent else STATUS_S, self._look)

    def _beat(self) -> None:
        assert self._watchdog_s is not None
        self._send("WATCHDOG=1")
        self._again(self._watchdog_s / 2, self._beat)

    def _again(self, after_s: float, work: Callable[[], None]) -> None:
        self._timers[work] = self._clock.callLater(after_s, work)

    def _tell_status(self) -> None:
        self.status(self._asked(self._status_line, self._status))

    def _asked(self, question: Callable[[], T], otherwise: T) -> T:
        """The daemon's answer. A fault in it must not end the signs of life."""
        try:
            return question()
        except Exception:
            log.failure("What systemd is to be told cannot be found out")
            return otherwise

    def _send_surely(self, *texts: str) -> None:
        """Send what has to arrive, in order: what finds systemd's queue full is sent again a moment later."""
        self._unsent += texts
        while self._unsent and self._send(self._unsent[0]):
            del self._unsent[0]

    def _send(self, text: str) -> bool:
        """Send one datagram. Returns whether it is done with: only a full queue is worth another attempt."""
        if self._socket is None:
            return True
        try:
            self._socket.sendto(text.encode("utf-8", "replace"), self._address)
        except BlockingIOError:
            return False
        except (OSError, ValueError) as error:
            log.debug("systemd was not told", reason=str(error))
        return True


def notifier_from(
    environ: MutableMapping[str, str],
    pid: int,
    clock: IReactorTime,
    ready_state: Callable[[], bool],
    status_line: Callable[[], str],
) -> Notifier:
    """The notifier that the environment asks for. Its variables are taken out, so that they reach no other process.

    Args:
        environ: of this process.
        pid: of this process; a watchdog for another one is not ours to feed.
        clock: as of `Notifier`.
        ready_state: as of `Notifier`.
        status_line: as of `Notifier`.
    """
    address = environ.pop("NOTIFY_SOCKET", "")
    allowed_usec = environ.pop("WATCHDOG_USEC", "")
    watched_pid = environ.pop("WATCHDOG_PID", "")
    watchdog_s = None
    if allowed_usec.isascii() and allowed_usec.isdigit() and int(allowed_usec) and watched_pid in ("", str(pid)):
        watchdog_s = int(allowed_usec) / 1_000_000
    return Notifier(
        clock, ready_state, status_line, address=address if address[:1] in ("/", "@") else "", watchdog_s=watchdog_s
    )
