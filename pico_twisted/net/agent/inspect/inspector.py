"""The inspector of an agent: records the calls of all listeners, and sends requests again."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import Final

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import implementer

from pico_twisted.config import ListenerConfig
from pico_twisted.core.inspect.recording import Recording, Recordings
from pico_twisted.core.inspect.replay import Edits, ReplayRefused, replayed
from pico_twisted.core.rpc.call import Call
from pico_twisted.core.rpc.frames import HTTP, TCP, TIMEOUT
from pico_twisted.net.agent.inspect.recorder import Recorder
from pico_twisted.net.agent.serving.inspector import IInspector, IReplays
from pico_twisted.net.agent.serving.nobody import NobodyCalls
from pico_twisted.net.observe.requests import CLIENT_LEFT
from pico_twisted.net.tunnel.interfaces import ICaller

MOST_REPLAYS: Final = 8
"""Most replays that run at once: a person sends one after the other."""
REPLAY_S: Final = 120.0
"""Most seconds that a replay takes: a stream that never ends has nobody who closes it."""

_LEFT_WORDS: Final = "the client gave up, or its session ended"


@implementer(IInspector)
class Inspector:
    """Records the calls of an agent.

    Args:
        clock: measures.
        now: tells the time, in seconds since 1970.

    Attributes:
        recordings: what is kept.
    """

    def __init__(self, clock: IReactorTime, now: Callable[[], float] = time.time) -> None:
        self.recordings = Recordings()
        self._clock = clock
        self._now = now
        self._replays: dict[str, IReplays] = {}  # by endpoint ID
        self._running: dict[Call, Recording] = {}
        self._running_replays: dict[Call, IDelayedCall] = {}  # with what ends them

    def serves(self, config: ListenerConfig, replays: IReplays) -> None:
        """See `IInspector.serves`."""
        before = self._replays.pop(config.endpoint, None)
        if before is not None:
            before.close()
        if config.protocol != "tcp":
            self._replays[config.endpoint] = replays

    def serves_only(self, endpoints: Collection[str]) -> None:
        """No listener has another endpoint from now on: to those nothing is sent again."""
        for endpoint in self._replays.keys() - set(endpoints):
            self._replays.pop(endpoint).close()

    def opened(self, config: ListenerConfig, tunnel: ICaller, call: Call) -> ICaller:
        """See `IInspector.opened`."""
        recording = self.recordings.begin(
            config.endpoint, str(config.addr), self._now(), tcp=call.kind == TCP, began_s=self._clock.seconds()
        )
        self._running[call] = recording
        return Recorder(tunnel, recording, self.recordings, self._clock.seconds)

    def replay(self, id: int, edits: Edits) -> Recording:
        """Send a recorded request again, to the service that its listener has now.

        Args:
            id: of the recording.
            edits: what is different.

        Returns:
            The recording of the replay, which has begun.

        Raises:
            ReplayRefused: it cannot be sent again, or not so, or not now.
        """
        original = self.recordings.get(id)
        if original is None:
            raise ReplayRefused("this request is not kept any more")
        payload = replayed(original, edits)
        if len(self._running_replays) >= MOST_REPLAYS:
            raise ReplayRefused(f"{MOST_REPLAYS} replays are running: wait for one of them")
        replays = self._replays.get(original.endpoint)
        if replays is None:
            raise ReplayRefused(f"this agent has no listener of HTTP for {original.endpoint} any more")
        recording = self.recordings.begin(
            original.endpoint,
            original.service,
            self._now(),
            tcp=False,
            began_s=self._clock.seconds(),
            replay_of=original.id,
        )
        call = Call(0, HTTP, False, 0)
        self._running[call] = recording
        self._running_replays[call] = self._clock.callLater(REPLAY_S, self._give_replay_up, call)
        caller = Recorder(NobodyCalls(), recording, self.recordings, self._clock.seconds)
        replays.begin(caller, call, payload)
        return recording

    def _give_replay_up(self, call: Call) -> None:
        if call.receiver is not None:
            call.receiver.reset(TIMEOUT, f"a replay takes {REPLAY_S:g} s at most")

    def stop(self) -> None:
        """Cut the replays that run."""
        for replays in self._replays.values():
            replays.close()
        for call in list(self._running_replays):
            if call.receiver is not None:
                call.receiver.lost()

    def trouble(self, call: Call, words: str) -> None:
        """See `IInspector.trouble`."""
        recording = self._running.get(call)
        if recording is not None and not recording.trouble:
            recording.trouble = words

    def over(self, call: Call, status: int, error: str) -> None:
        """See `IInspector.over`."""
        recording = self._running.pop(call, None)
        if recording is None:
            return
        if call in self._running_replays:
            deadline = self._running_replays.pop(call)
            if deadline.active():
                deadline.cancel()
        recording.status = status
        recording.error = error
        if status == CLIENT_LEFT and recording.duration_s is None:
            recording.error = error or "client-gone"
            recording.trouble = recording.trouble or _LEFT_WORDS
        if recording.duration_s is None:
            recording.duration_s = self._clock.seconds() - recording.began_s
        self.recordings.ended(recording)
