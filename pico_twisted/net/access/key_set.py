"""A JWK set at an https URL: asked at the start, now and then, and for a key that is not in it.

Whatever becomes of the server, the last good set counts: while it is away, slow, redirects, or answers something else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from twisted.internet.defer import Deferred, TimeoutError, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from pico_twisted.core.access.signing_keys import BadKeys, SigningKey, read_key_set
from pico_twisted.core.backoff import Backoff
from pico_twisted.net.access.signature_checks import RunInThread
from pico_twisted.net.observe.repeated_warning import RepeatedWarning
from pico_twisted.net.tls.fetch import CANNOT_REACH, AnswerTooLargeError, Fetched, Fetcher, HttpsPolicy, why_unreachable

log = Logger()

MAX_SET_BYTES: Final = 256 * 1024
"""Most bytes of a JWK set. Those of large providers have ten."""
FETCH_S: Final = 5.0
"""Seconds from the question to the last byte of the answer: less than those who wait for it have themselves."""
PATIENCE_S: Final = 1.0
"""Seconds from the question in which somebody begins to wait for the answer, where there was one before."""
AGAIN_S: Final = 30.0
"""Seconds between two questions at least, whatever tokens name: a server of keys is not flooded through us."""
FIRST_AGAIN_S: Final = 1.0
"""Seconds after which it is asked again when it had no good answer; twice as many after each other time, up to
`AGAIN_S`. It may start at the same moment as this node."""
REFRESH_S: Final = 300.0
"""Seconds after which it is asked anyway, so that a key that was taken out of the set ends."""
MOST_WAITING: Final = 256
"""Most tokens that wait for one answer."""


class KeySet:
    """The keys of one URL. See `start`.

    Args:
        url: https.
        ca: a PEM file with the authorities to trust; the system's when empty.
        reactor: connects, looks names up, and keeps the time.
        run_in_thread: reads what was fetched.

    Attributes:
        keys: of the last good answer.
        read_at: when it came, in the reactor's seconds; None when there was none yet.
        failures: how often there was no good answer.
        on_change: called when the keys are others, and told whether some of those before are gone.
    """

    # A whole reactor, as of `Fetcher`.
    def __init__(self, url: str, ca: str, reactor: Any, run_in_thread: RunInThread) -> None:
        self.keys: tuple[SigningKey, ...] = ()
        self.read_at: float | None = None
        self.failures = 0
        self.on_change: set[Callable[[bool], None]] = set()
        self._url = url
        self._reactor = reactor
        self._fetcher = Fetcher(reactor, HttpsPolicy(ca), MAX_SET_BYTES)
        self._run_in_thread = run_in_thread
        self._asking: Deferred[None] | None = None
        self._asked_at = 0.0
        self._waiting: list[Deferred[None]] = []
        self._timer: IDelayedCall | None = None
        self._waits = Backoff(FIRST_AGAIN_S, AGAIN_S)
        self._warning = RepeatedWarning()

    def start(self) -> None:
        """Ask now, whatever was asked before, and again from time to time until `stop`."""
        self._break_off()
        self._asked_at = self._reactor.seconds()
        self._asking = asking = Deferred.fromCoroutine(self._ask())
        asking.addBoth(self._asked, asking)

    def stop(self) -> None:
        """Ask no more. Whoever waits goes on with the keys that are there."""
        self._break_off()
        self._answer()

    def _break_off(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        asking, self._asking = self._asking, None
        if asking is not None:
            asking.cancel()

    def has(self, kid: str | None) -> bool:
        """Whether a key of that name is there."""
        return any(key.kid == kid for key in self.keys)

    def news(self) -> Deferred[None] | None:
        """Ask for a key that is not there, unless that was just done.

        Returns:
            What fires when the answer was read, if one is expected; None when too many wait for it.
        """
        if self._asking is None and self._reactor.seconds() - self._asked_at >= AGAIN_S:
            self.start()
        if self._asking is None or (self.keys and self._reactor.seconds() - self._asked_at >= PATIENCE_S):
            return succeed(None)
        if len(self._waiting) >= MOST_WAITING:
            return None
        answered: Deferred[None] = Deferred()
        self._waiting.append(answered)
        return answered

    async def _ask(self) -> None:
        try:
            fetched = await self._fetcher.fetch(self._url, "", FETCH_S)
            keys = await self._read(fetched)
        except (BadKeys, TimeoutError, AnswerTooLargeError, *CANNOT_REACH) as error:
            self._failed(_words(error))
            return
        self._warning.cleared()
        self._waits.reset()
        self.read_at = self._reactor.seconds()
        gone = any(key not in keys for key in self.keys)
        if gone or any(key not in self.keys for key in keys):
            self.keys = keys
            log.info("The JWK set at {url} has {count} keys", url=self._url, count=len(keys))
            for changed in self.on_change:
                changed(gone)

    async def _read(self, fetched: Fetched) -> tuple[SigningKey, ...]:
        if fetched.status != 200:
            raise BadKeys(f"answered with status {fetched.status}")
        keys = await self._run_in_thread(lambda: read_key_set(fetched.body))
        assert isinstance(keys, tuple)
        return keys

    def _failed(self, why: str) -> None:
        self.failures += 1
        suppressed = self._warning.due(why, self._reactor.seconds())
        if suppressed is not None:
            log.warn(
                "The JWK set at {url} cannot be used, the last one counts: {reason}",
                url=self._url,
                reason=why,
                suppressed=suppressed,
            )

    def _asked(self, result: object, asking: Deferred[None]) -> None:
        if self._asking is not asking:
            return  # broken off
        self._asking = None
        if isinstance(result, Failure):
            self.failures += 1
            log.failure("A JWK set could not be read", failure=result)
        fresh = self.read_at is not None and self.read_at >= self._asked_at
        self._timer = self._reactor.callLater(REFRESH_S if fresh else self._waits.next_s(), self.start)
        self._answer()

    def _answer(self) -> None:
        waiting, self._waiting = self._waiting, []
        for answered in waiting:
            answered.callback(None)


def _words(error: Exception) -> str:
    """Why there was no good answer."""
    if isinstance(error, BadKeys):
        return f"it {error}"
    if isinstance(error, TimeoutError):
        return f"no whole answer within {FETCH_S:g} s"
    if isinstance(error, AnswerTooLargeError):
        return f"the answer is longer than {MAX_SET_BYTES >> 10} KiB"
    return why_unreachable(Failure(error))
