"""When certificates are ordered: at the start, behind two thirds of their time, and again after a failure.

One thread orders for all ports of a process, one certificate after the other. Processes that share a directory take
turns by a lock in it; who has it looks at the certificate again, as the one before may have ordered it. When a server
has refused, until when to leave it alone is kept in the directory: it counts what comes from restarts, too.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from twisted.internet.interfaces import IReactorFromThreads
from twisted.logger import Logger
from twisted.python.failure import Failure

from pico_twisted.config.pem import UnusableCertificateError, day
from pico_twisted.config.tls import AcmeConfig
from pico_twisted.core.backoff import Backoff
from pico_twisted.net.tls.acme.order import AcmeServer, ElsewhereError, OrderError, Publish
from pico_twisted.net.tls.acme.storage import Storage

log = Logger()

LOOK_S: Final = 6 * 3600.0
"""Most seconds between two looks at a certificate; also how often the server is asked when it suggests to renew."""
FIRST_S: Final = 60.0
"""Seconds, at most, to the first attempt after a failure to reach the server."""
REFUSED_S: Final = 600.0
"""Seconds, at least, to the next attempt after the server has refused: it counts them, and five in an hour are often as
many as it takes (https://letsencrypt.org/docs/rate-limits/)."""
MOST_S: Final = 6 * 3600.0
"""Most seconds to the next attempt, unless the server has named more."""
OTHERS_S: Final = 30.0
"""Seconds to the next look while another process orders."""
ELSEWHERE_S: Final = (5.0, 15.0)
"""Seconds, between these, to the next attempt while another node orders for the same names."""
LIFE_SHARE: Final = (0.62, 2 / 3)
"""Part of its life behind which a certificate is renewed. Each has its own, between these: not all come at once."""


class Renewal:
    """Orders certificates, in a thread of its own.

    Args:
        configs: one for each certificate.
        user_agent: how we call ourselves.
        publish: see `Publish`; called in the thread.
        reactor: logs.
    """

    def __init__(
        self, configs: Sequence[AcmeConfig], user_agent: str, publish: Publish, reactor: IReactorFromThreads
    ) -> None:
        self._certificates = [_Certificate(one, user_agent, publish, self._tell) for one in configs]
        self._reactor = reactor
        self._ended = threading.Event()

    def start(self) -> None:
        """Begin."""
        threading.Thread(target=self._run, name="acme", daemon=True).start()

    def stop(self) -> None:
        """Begin no more orders. One that is under way is left behind."""
        self._ended.set()

    def _run(self) -> None:
        while not self._ended.is_set():
            self._ended.wait(min(one.look() for one in self._certificates))

    def _tell(self, line: Callable[[], None]) -> None:
        if not self._ended.is_set():
            self._reactor.callFromThread(line)


class _Certificate:
    """One certificate: when it is due, and how often ordering it has failed."""

    def __init__(
        self, config: AcmeConfig, user_agent: str, publish: Publish, tell: Callable[[Callable[[], None]], None]
    ) -> None:
        self._storage = Storage(config)
        self._server = AcmeServer(config, self._storage, user_agent)
        self._names = ", ".join(config.names)
        self._publish = publish
        self._tell = tell
        self._backoff = Backoff(FIRST_S, MOST_S, random.SystemRandom(), jitter=0.5)
        self._next_at = 0.0
        self._held = False
        self._suggested: tuple[int, datetime | None, float] | None = None  # of which serial number, and asked when

    def look(self) -> float:
        """Order it, if it is due. Returns the seconds to the next look."""
        now = time.monotonic()
        if now < self._next_at:
            return self._next_at - now
        try:
            wait_s = self._order()
            self._backoff.reset()
        except ElsewhereError:
            wait_s = random.uniform(*ELSEWHERE_S)
        except (OrderError, OSError, UnusableCertificateError) as error:
            wait_s = self._failed(error)
        except Exception:
            failure = Failure()
            self._tell(lambda: log.failure("A certificate could not be ordered", failure))
            wait_s = MOST_S
        self._next_at = time.monotonic() + wait_s
        return wait_s

    def _failed(self, error: Exception) -> float:
        wait_s = self._backoff.next_s()
        if isinstance(error, OrderError):
            wait_s = max(wait_s, error.retry_after_s, REFUSED_S if error.refused else 0.0)
            if error.refused:
                self._held = True  # which is told below
                self._storage.hold(time.time() + wait_s)
        words = str(error)
        self._tell(
            lambda: log.error(
                "No certificate for {names}: {reason}. Next attempt in {retry_s} s",
                names=self._names,
                reason=words,
                retry_s=round(wait_s),
            )
        )
        return wait_s

    def _order(self) -> float:
        left_s = self._left_s()
        if left_s > 0:
            return min(left_s, LOOK_S)
        held_s = self._storage.hold_until() - time.time()
        if held_s > 0:
            self._say_held(held_s)
            return held_s
        with self._storage.ordering() as alone:
            if not alone:
                return OTHERS_S
            left_s = self._left_s()
            if left_s > 0:  # who ordered before has left one
                return min(left_s, LOOK_S)
            self._tell(lambda: log.info("A certificate for {names} is ordered", names=self._names))
            self._storage.keep_certificate(self._server.order(self._publish))
        until = "" if (own := self._storage.certificate()) is None else day(own.not_valid_after_utc)
        self._tell(lambda: log.info("A certificate for {names} until {day} has come", names=self._names, day=until))
        return FIRST_S

    def _say_held(self, held_s: float) -> None:
        """At a start, say why nothing is ordered."""
        if not self._held:
            self._held = True
            self._tell(
                lambda: log.warn(
                    "No certificate for {names} is ordered before {retry_s} s are over, since the server has refused. "
                    "To try it now, remove {file} and start again",
                    names=self._names,
                    retry_s=round(held_s),
                    file=self._storage.hold_file,
                )
            )

    def _left_s(self) -> float:
        """Seconds until the certificate is due."""
        own = self._storage.certificate()
        if own is None:
            return 0.0
        now = datetime.now(UTC)
        when = renewal_time(own)
        if when > now and (suggested := self._suggestion(own)) is not None:
            when = min(suggested, _last_moment(own))
        return (when - now).total_seconds()

    def _suggestion(self, own: x509.Certificate) -> datetime | None:
        """When the server suggests to renew it: an authority may have to revoke many at once, and says so before."""
        now = time.monotonic()
        known = self._suggested
        if known is not None and known[0] == own.serial_number and now - known[2] < LOOK_S:
            return known[1]
        try:
            when = self._server.renewal_time(own)
        except OrderError as error:
            words = str(error)
            self._tell(lambda: log.debug("The ACME server suggests no time: {reason}", reason=words))
            when = None
        self._suggested = own.serial_number, when, now
        return when


def renewal_time(own: x509.Certificate) -> datetime:
    """When a certificate is renewed, if its server suggests no other time."""
    share = random.Random(own.serial_number).uniform(*LIFE_SHARE)
    return _at(own, share)


def _last_moment(own: x509.Certificate) -> datetime:
    """The time behind which nobody's suggestion puts a renewal off."""
    return _at(own, 0.9)


def _at(own: x509.Certificate, share: float) -> datetime:
    return own.not_valid_before_utc + (own.not_valid_after_utc - own.not_valid_before_utc) * share
