"""Sessions for tests of their rules, and what they send in a shape that is easily compared."""

from __future__ import annotations

import struct
from typing import Any

from pico_twisted.core.rpc import frames
from pico_twisted.core.rpc.budget import Budget
from pico_twisted.core.rpc.call import WINDOW_BYTES, Call
from pico_twisted.core.rpc.frames import HTTP, TCP
from pico_twisted.core.rpc.session import SessionV2
from pico_twisted.core.rpc.session_base import OPENED
from tests.doubles.pump import Pump

WINDOW = WINDOW_BYTES


def make(*, serves: tuple[int, ...] = (HTTP, TCP), asks: bool = False, max_calls: int = 100, **rest: Any) -> SessionV2:
    """A session of version 2 that serves http calls, and asks for no heartbeat unless told to."""
    budget = rest.pop("budget", None) or Budget(1 << 30)
    return SessionV2(asks_always=asks, serves=serves, max_calls=max_calls, budget=budget, now=rest.pop("now", 0.0))


def joined(**kwargs: Any) -> Pump:
    """A node's and an agent's session, joined."""
    return Pump(make(asks=True), make(), **kwargs)


def parts(message: bytes) -> tuple[int, int, int, bytes]:
    """A frame's type, ID, flags and payload."""
    kind, call_id, flags = frames.HEADER.unpack_from(message)
    return kind, call_id, flags, bytes(message[12:])


def sent(session: Any) -> list[tuple[int, int, int, bytes]]:
    """All that the session wants to send now."""
    out = []
    while batch := session.frames_to_send():
        out += [parts(message) for message in batch]
    session._check_invariants()
    return out


def opened(session: SessionV2, message: bytes) -> Call:
    """The call that a message of the peer opens."""
    event = session.receive(message)
    assert event is not None and event[0] == OPENED
    return event[1]


def frame(kind: int, call_id: int, flags: int = 0, payload: bytes = b"") -> bytes:
    """A peer's frame."""
    return frames.encode(kind, call_id, flags, payload)


def credit(count: int) -> bytes:
    """The payload of a credit frame."""
    return struct.pack(">I", count)
