"""The inspector of an agent: records the calls of all listeners."""

from __future__ import annotations

from typing import Final

from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from pico_twisted.config import ListenerConfig
from pico_twisted.core.inspect.recording import Recording, Recordings
from pico_twisted.core.rpc.call import Call
from pico_twisted.core.rpc.frames import TCP
from pico_twisted.net.agent.inspect.recorder import Recorder
from pico_twisted.net.agent.serving.inspector import IInspector, IReplays
from pico_twisted.net.agent.serving.served_call import CLIENT_LEFT
from pico_twisted.net.interfaces import ICaller

_LEFT_WORDS: Final = "the client gave up, or its session ended"


@implementer(IInspector)
class Inspector:
    """Records the calls of an agent.

    Args:
        clock: tells the time.

    Attributes:
        recordings: what is kept.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self.recordings = Recordings()
        self._clock = clock
        self._replays: dict[str, IReplays] = {}  # by endpoint ID
        self._running: dict[Call, Recording] = {}

    def serves(self, config: ListenerConfig, replays: IReplays) -> None:
        """See `IInspector.serves`."""
        self._replays[config.endpoint] = replays

    def opened(self, config: ListenerConfig, tunnel: ICaller, call: Call) -> ICaller:
        """See `IInspector.opened`."""
        recording = self.recordings.begin(
            config.endpoint, str(config.addr), self._clock.seconds(), tcp=call.kind == TCP
        )
        self._running[call] = recording
        return Recorder(tunnel, recording, self.recordings, self._clock.seconds)

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
        recording.status = status
        recording.error = error
        if status == CLIENT_LEFT and recording.duration_s is None:
            recording.error = error or "client-gone"
            recording.trouble = recording.trouble or _LEFT_WORDS
        if recording.duration_s is None:
            recording.duration_s = self._clock.seconds() - recording.at_s
        self.recordings.ended(recording)
